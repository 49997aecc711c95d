//! Which callers still send one format alone: what the migration is measured by.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{parse, run};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Direction, only_metric};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_format_is_alone_where_no_other_has_a_context() {
    let multi = "x-b3-traceid: $T\nx-b3-spanid: $S";
    for (sent, only) in [
        ("".to_owned(), None),
        ("b3: $T-$S-1".to_owned(), Some(Format::B3)),
        (multi.to_owned(), Some(Format::B3Multi)),
        // Who sends W3C has moved.
        ("traceparent: 00-$T-$S-01".to_owned(), None),
        ("uber-trace-id: $T:$S:0:1".to_owned(), Some(Format::Jaeger)),
        // B3 in both shapes is B3 alone.
        (format!("b3: $T-$S-1\n{multi}"), Some(Format::B3)),
        (format!("traceparent: 00-$T-$S-01\n{multi}"), None),
        (
            format!("traceparent: 00-$T-$S-01\nb3: $T-$S-1\n{multi}"),
            None,
        ),
        (format!("uber-trace-id: $T:$S:0:1\n{multi}"), None),
        // Another trace is another format all the same.
        ("traceparent: 00-$T2-$S-01\nb3: $T-$S-1".to_owned(), None),
        // What is malformed did not arrive; nor is a decision a context.
        (
            "traceparent: junk\nb3: $T-$S-1".to_owned(),
            Some(Format::B3),
        ),
        (format!("b3: 1\n{multi}"), Some(Format::B3Multi)),
        ("b3: 0".to_owned(), None),
        // Not read.
        ("x-cloud-trace-context: $T/1".to_owned(), None),
    ] {
        let config = r#"{"extract": ["b3multi", "tracecontext", "b3", "jaeger"]}"#;
        assert_eq!(run(config, &parse(&sent)).tally.only(), only, "{sent}");
    }
}

#[test]
fn what_a_tracer_wrote_is_no_callers() {
    let config = r#"{"placement": "upstream", "tracer": "b3"}"#;
    assert_eq!(run(config, &parse("b3: $T-$S-1")).tally.only(), None);
}

#[test]
fn the_counters_are_told_apart_by_format_and_direction() {
    let mut names = Vec::new();
    for format in Format::ALL {
        for direction in [
            Direction::Unspecified,
            Direction::Inbound,
            Direction::Outbound,
        ] {
            let name = only_metric(*format, direction);
            assert!(!names.contains(&name), "{name}");
            names.push(name);
        }
    }
    assert!(names.contains(&"meshtrace.trace_context.only.b3multi.outbound".to_owned()));
}
