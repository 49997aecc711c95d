//! Google Cloud Trace.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "a right header stays to the letter, unknown options included",
            config: r#"{"extract": ["gcp"], "inject": ["gcp", "tracecontext"]}"#,
            sent: "x-cloud-trace-context: $T/67667974448284343;o=3",
            left: "x-cloud-trace-context: $T/67667974448284343;o=3
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedGcp],
        },
        Row {
            promise: "without options the decision is open",
            config: r#"{"extract": ["gcp"], "inject": ["b3"]}"#,
            sent: "x-cloud-trace-context: $T/67667974448284343",
            left: "x-cloud-trace-context: $T/67667974448284343
                   b3: $T-$S",
            counted: &[Counter::ExtractedGcp, Counter::Deferred],
        },
        Row {
            promise: "an open decision stays open",
            config: r#"{"inject": ["gcp"]}"#,
            sent: "b3: $T-$S2",
            left: "b3: $T-$S2
                   x-cloud-trace-context: $T/16453819474850114513",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another trace: it follows the chosen one",
            config: r#"{"extract": ["b3", "gcp"], "inject": []}"#,
            sent: "b3: $T-$S-0
                   x-cloud-trace-context: $T2/1;o=1",
            left: "b3: $T-$S-0
                   x-cloud-trace-context: $T/67667974448284343;o=0",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "a decision of the first-listed format overrules",
            config: r#"{"extract": ["b3", "gcp"], "inject": []}"#,
            sent: "b3: $T-$S-0
                   x-cloud-trace-context: $T/67667974448284343;o=1",
            left: "b3: $T-$S-0
                   x-cloud-trace-context: $T/67667974448284343;o=0",
            counted: &[Counter::ExtractedB3, Counter::ConflictSampled],
        },
        Row {
            promise: "a trace without a span is no context, and passes",
            config: r#"{"extract": ["gcp"]}"#,
            sent: "x-cloud-trace-context: $T/0;o=1",
            left: "x-cloud-trace-context: $T/0;o=1",
            counted: &[Counter::Missing, Counter::Incomplete],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["gcp"]}"#,
            sent: "x-cloud-trace-context: $T/+5;o=1",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedGcp],
        },
    ]);
}

// 11803532876627986230 is the right half of $T in decimal.
