//! AWS X-Ray.

use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::common::{Row, check};

#[test]
fn it_is_read_and_written_beside_other_formats() {
    check(&[
        Row {
            promise: "a right header stays to the letter, fields that nobody else can tell included",
            config: r#"{"extract": ["xray"], "inject": ["xray", "tracecontext"]}"#,
            sent: "x-amzn-trace-id: Self=1-6789-1; Root=1-4bf92f35-77b34da6a3ce929d0e0e4736 ;Parent=$S;Sampled=1;Lineage=a:1",
            left: "x-amzn-trace-id: Self=1-6789-1; Root=1-4bf92f35-77b34da6a3ce929d0e0e4736 ;Parent=$S;Sampled=1;Lineage=a:1
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedXray],
        },
        Row {
            promise: "with another span they stay with their root",
            config: r#"{"extract": ["tracecontext", "xray"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S2-00
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1;Lineage=a:1",
            left: "traceparent: 00-$T-$S2-00
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S2;Sampled=0;Lineage=a:1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictSpanId],
        },
        Row {
            promise: "another trace: it follows the chosen one",
            config: r#"{"extract": ["tracecontext", "xray"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   x-amzn-trace-id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=$S2;Sampled=1",
            left: "traceparent: 00-$T-$S-01
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictTraceId],
        },
        Row {
            promise: "an asked-for decision is an open one",
            config: r#"{"extract": ["xray"], "inject": ["tracecontext", "b3"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=?",
            left: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=?
                   traceparent: 00-$T-$S-00
                   b3: $T-$S",
            counted: &[Counter::ExtractedXray, Counter::Deferred],
        },
        Row {
            promise: "an open decision stays open",
            config: r#"{"inject": ["xray"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "debug is sampled",
            config: r#"{"inject": ["xray"]}"#,
            sent: "b3: $T-$S-d",
            left: "b3: $T-$S-d
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "a root without a parent is no context, and passes",
            config: r#"{"extract": ["xray"], "inject": ["tracecontext", "xray"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            left: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            counted: &[Counter::Missing, Counter::Incomplete],
        },
        Row {
            promise: "beside a context it follows it",
            config: r#"{"extract": ["xray", "tracecontext"], "inject": ["tracecontext"]}"#,
            sent: "traceparent: 00-$T2-$S2-01
                   x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            left: "traceparent: 00-$T2-$S2-01
                   x-amzn-trace-id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=$S2;Sampled=1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "from a caller who is not believed it does not pass",
            config: r#"{"extract": ["xray"], "incoming": "restart"}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            left: "",
            counted: &[Counter::Missing, Counter::Incomplete],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["xray"]}"#,
            sent: "x-amzn-trace-id: Root=2-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedXray],
        },
        Row {
            promise: "two roots are malformed",
            config: r#"{"extract": ["xray"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=$S",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedXray],
        },
    ]);
}

// 67667974448284343 is $S in decimal, 16453819474850114513 is $S2.
