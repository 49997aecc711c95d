//! What is written to a request, and what is removed from it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Row, check, parse, run};
use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn only_what_is_named_is_touched() {
    check(&[
        Row {
            promise: "a format that is neither read nor written passes, malformed or not",
            config: r#"{"extract": ["tracecontext"], "inject": ["tracecontext"]}"#,
            sent: "traceparent: 00-$T-$S-01
                   b3: junk
                   x-b3-traceid: junk
                   uber-trace-id: junk",
            left: "traceparent: 00-$T-$S-01
                   b3: junk
                   x-b3-traceid: junk
                   uber-trace-id: junk",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "a format that is written and not read is overwritten",
            config: r#"{"extract": ["tracecontext"], "inject": ["b3"]}"#,
            sent: "traceparent: 00-$T-$S-01
                   b3: $T2-$S2-1",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "and left alone when there is nothing to write",
            config: r#"{"extract": ["tracecontext"], "inject": ["b3"]}"#,
            sent: "b3: $T2-$S2-1",
            left: "b3: $T2-$S2-1",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "inject: [] writes nothing new, and lets nothing stale leave",
            config: r#"{"inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   b3: $T2-$S2-1",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictTraceId],
        },
    ]);
}

#[test]
fn clear_removes_formats_and_headers() {
    check(&[
        Row {
            promise: "a format, after it was read",
            config: r#"{"clear": ["b3multi"], "inject": ["tracecontext"]}"#,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "a format of the default inject",
            config: r#"{"clear": ["b3multi"]}"#,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "headers by name, known or not, in any case",
            config: r#"{"clear": ["X-Secret", "uber-trace-id", "x-b3-parentspanid"]}"#,
            sent: "x-secret: 1
                   x-secret: 2
                   x-other: 3
                   uber-trace-id: 1:2:0:1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 1",
            left: "x-other: 3
                   traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
    ]);
}

// Kong calls it preserve; envoy#47515 is what happens without it.
#[test]
fn preserve_gives_the_next_hop_the_shape_that_came_in() {
    check(&[
        Row {
            promise: "b3 single stays single",
            config: r#"{"inject": "preserve"}"#,
            sent: "b3: $T-$S-1",
            left: "b3: $T-$S-1",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "a stale sibling follows",
            config: r#"{"inject": "preserve", "extract": ["b3", "b3multi"]}"#,
            sent: "b3: $T-$S-1
                   x-b3-traceid: $T2
                   x-b3-spanid: $S2
                   x-b3-sampled: 0",
            left: "b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
    ]);
    let generated = run(
        r#"{"inject": "preserve", "default_format": "b3", "on_missing": "generate"}"#,
        &parse(""),
    );
    assert_eq!(generated.lines.len(), 1);
    assert!(generated.header("b3").unwrap().ends_with("-0"));
}

#[test]
fn the_width_of_b3_trace_ids_is_a_setting() {
    check(&[
        Row {
            promise: "128: a padded id keeps 32 digits",
            config: r#"{"inject": ["b3"]}"#,
            sent: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01",
            left: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01
                   b3: 0000000000000000a3ce929d0e0e4736-$S-1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "64: the right-most 16",
            config: r#"{"b3_trace_id_bits": 64}"#,
            sent: "traceparent: 00-$T-$S-01",
            left: "traceparent: 00-$T-$S-01
                   x-b3-traceid: a3ce929d0e0e4736
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "64: never an id of zeros",
            config: r#"{"b3_trace_id_bits": 64, "inject": ["b3"]}"#,
            sent: "traceparent: 00-a3ce929d0e0e47360000000000000000-$S-01",
            left: "traceparent: 00-a3ce929d0e0e47360000000000000000-$S-01
                   b3: a3ce929d0e0e47360000000000000000-$S-1",
            counted: &[Counter::ExtractedTracecontext],
        },
    ]);
}

#[test]
fn the_random_flag_of_a_trace_is_kept_whoever_carries_the_context() {
    check(&[Row {
        promise: "the flag says how the trace id was made, so it outlives the change of span",
        config: r#"{"extract": ["b3", "tracecontext"], "inject": ["tracecontext"]}"#,
        sent: "b3: $T-$S2-1
               traceparent: 00-$T-$S-02",
        left: "b3: $T-$S2-1
               traceparent: 00-$T-$S2-03",
        counted: &[Counter::ExtractedB3, Counter::ConflictSpanId],
    }]);
}
