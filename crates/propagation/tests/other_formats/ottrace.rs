//! OpenTracing basic tracers.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "a right context stays to the letter",
            config: r#"{"extract": ["ottrace"], "inject": ["ottrace", "tracecontext"]}"#,
            sent: "ot-tracer-traceid: a3ce929d0e0e4736
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: 0",
            left: "ot-tracer-traceid: a3ce929d0e0e4736
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: 0
                   traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-00",
            counted: &[Counter::ExtractedOttrace],
        },
        Row {
            promise: "an id of 64 bits is written in 16 digits, debug as sampled",
            config: r#"{"inject": ["ottrace"]}"#,
            sent: "b3: 0000000000000000a3ce929d0e0e4736-$S-d",
            left: "b3: 0000000000000000a3ce929d0e0e4736-$S-d
                   ot-tracer-traceid: a3ce929d0e0e4736
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: true",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "an open decision stays open",
            config: r#"{"inject": ["ottrace"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   ot-tracer-traceid: $T
                   ot-tracer-spanid: $S",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another trace: it follows the chosen one",
            config: r#"{"extract": ["tracecontext", "ottrace"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-00
                   ot-tracer-traceid: $T2
                   ot-tracer-spanid: $S2
                   ot-tracer-sampled: true",
            left: "traceparent: 00-$T-$S-00
                   ot-tracer-traceid: $T
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: false",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictTraceId],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["ottrace"]}"#,
            sent: "ot-tracer-traceid: $T
                   ot-tracer-sampled: true",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedOttrace],
        },
    ]);
}
