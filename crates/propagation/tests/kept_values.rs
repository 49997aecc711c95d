//! What stays of a request's trace headers is what a header may be, over any version of HTTP.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Lines, S, T, run};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn lines(pairs: &[(&str, &str)]) -> Lines {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

#[test]
fn a_kept_tracestate_has_no_space_around_it() {
    let traceparent = format!("00-{T}-{S}-01");
    for (states, expected) in [
        (&[" a=1", "b=2 "][..], "a=1,b=2"),
        (&["a=1", "", "\tb=2"], "a=1,b=2"),
        (&[" a=1 , b=2 "], "a=1 , b=2"),
    ] {
        let mut sent = vec![("traceparent", traceparent.as_str())];
        sent.extend(states.iter().map(|state| ("tracestate", *state)));
        let left = run(r#"{"inject": ["tracecontext"]}"#, &lines(&sent));
        assert_eq!(left.header("tracestate").as_deref(), Some(expected));
        assert_eq!(left.edits, 1, "{left:?}");
    }
    let blank = [("traceparent", traceparent.as_str()), ("tracestate", "  ")];
    let left = run(r#"{"inject": ["tracecontext"]}"#, &lines(&blank));
    assert_eq!(left.header("tracestate"), None);
    // What is right already is not touched, in however many lines.
    let right = [
        ("traceparent", traceparent.as_str()),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    let left = run(r#"{"inject": ["tracecontext"]}"#, &lines(&right));
    assert_eq!(left.edits, 0, "{left:?}");
}

#[test]
fn a_kept_origin_has_no_space_around_it() {
    let sent = lines(&[
        ("x-datadog-trace-id", "1"),
        ("x-datadog-parent-id", "2"),
        ("x-datadog-sampling-priority", "1"),
        ("x-datadog-origin", " rum "),
    ]);
    for config in [
        r#"{"extract": ["datadog"], "inject": ["datadog"]}"#,
        r#"{"extract": ["datadog"], "inject": "preserve"}"#,
        r#"{"placement": "upstream", "tracer": "datadog", "inject": ["datadog"]}"#,
    ] {
        let left = run(config, &sent);
        assert_eq!(left.header("x-datadog-origin").as_deref(), Some("rum"));
        assert_eq!(left.edits, 1, "{config}: {left:?}");
    }
    // A format that is neither read nor written is not this filter's.
    let left = run("{}", &sent);
    assert_eq!(left.header("x-datadog-origin").as_deref(), Some(" rum "));
}

#[test]
fn a_context_that_is_left_as_it_came_has_no_space_around_it() {
    let sent = lines(&[("x-b3-traceid", &format!(" {T}")), ("x-b3-sampled", "1 ")]);
    let left = run(r#"{"extract": ["b3multi"], "inject": []}"#, &sent);
    for (name, value) in &left.lines {
        assert_eq!(value.trim_ascii(), value, "{name}");
    }
}
