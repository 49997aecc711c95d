//! Jaeger.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "by default it is neither read nor touched, malformed or not",
            config: "{}",
            sent: "uber-trace-id: junk",
            left: "uber-trace-id: junk",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "nor upstream",
            config: r#"{"placement": "upstream", "tracer": "tracecontext"}"#,
            sent: "traceparent: 00-$T-$S-01
                   uber-trace-id: junk",
            left: "traceparent: 00-$T-$S-01
                   uber-trace-id: junk
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "nor upstream beside a tracer that wrote nothing",
            config: r#"{"placement": "upstream", "tracer": "tracecontext"}"#,
            sent: "uber-trace-id: junk",
            left: "uber-trace-id: junk",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "short ids, URL-encoded, stay as they came and are padded elsewhere",
            config: r#"{"extract": ["jaeger"], "inject": ["tracecontext"]}"#,
            sent: "uber-trace-id: 1234%3A5678%3A0%3A1",
            left: "uber-trace-id: 1234%3A5678%3A0%3A1
                   traceparent: 00-00000000000000000000000000001234-0000000000005678-01",
            counted: &[Counter::ExtractedJaeger],
        },
        Row {
            promise: "debug reaches B3, the parent does not",
            config: r#"{"extract": ["jaeger"], "inject": ["tracecontext", "b3"]}"#,
            sent: "uber-trace-id: $T:$S:$P:3",
            left: "uber-trace-id: $T:$S:$P:3
                   traceparent: 00-$T-$S-01
                   b3: $T-$S-d",
            counted: &[Counter::ExtractedJaeger],
        },
        Row {
            promise: "and comes from B3",
            config: r#"{"inject": ["jaeger"]}"#,
            sent: "b3: $T-$S-d-$P",
            left: "b3: $T-$S-d-$P
                   uber-trace-id: $T:$S:0:3",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "it cannot leave the decision open",
            config: r#"{"inject": ["jaeger"], "on_defer": "sampled"}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   uber-trace-id: $T:$S:0:1",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "read and not injected, it leaves in its own shape with the chosen ids",
            config: r#"{"extract": ["tracecontext", "jaeger"], "inject": ["tracecontext"]}"#,
            sent: "traceparent: 00-$T-$S-01
                   uber-trace-id: $T2:$S2:$P:0",
            left: "traceparent: 00-$T-$S-01
                   uber-trace-id: $T:$S:0:1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictTraceId],
        },
        Row {
            promise: "a half of a 128-bit id is told the whole",
            config: r#"{"extract": ["jaeger", "tracecontext"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   uber-trace-id: a3ce929d0e0e4736:$S:0:1",
            left: "traceparent: 00-$T-$S-01
                   uber-trace-id: $T:$S:0:1",
            counted: &[Counter::ExtractedJaeger],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["jaeger"], "inject": ["tracecontext"]}"#,
            sent: "uber-trace-id: $T:$S:0",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedJaeger],
        },
        Row {
            promise: "a decision without ids has no form in it",
            config: r#"{"inject": ["jaeger"]}"#,
            sent: "b3: 1",
            left: "b3: 1",
            counted: &[Counter::SamplingOnly],
        },
        Row {
            promise: "upstream it is the tracer's own, or written beside it",
            config: r#"{"placement": "upstream", "tracer": "jaeger", "inject": ["tracecontext"]}"#,
            sent: "uber-trace-id: $T:$S:0:1
                   traceparent: 00-$T2-$S2-00",
            left: "uber-trace-id: $T:$S:0:1
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedJaeger],
        },
    ]);
}
