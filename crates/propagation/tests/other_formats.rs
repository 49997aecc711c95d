//! The policies of `trace_context` in the formats besides W3C and B3, one row a sentence.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Row, check};
use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn jaeger() {
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

#[test]
fn xray() {
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
#[test]
fn gcp() {
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
#[test]
fn datadog() {
    check(&[
        Row {
            promise: "a right context stays to the letter, with its origin, its tags and the user's priority",
            config: r#"{"extract": ["datadog"], "inject": ["datadog", "tracecontext"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: synthetics
                   x-datadog-tags: _dd.p.dm=-4,_dd.p.tid=4bf92f3577b34da6,_dd.p.usr.id=x",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: synthetics
                   x-datadog-tags: _dd.p.dm=-4,_dd.p.tid=4bf92f3577b34da6,_dd.p.usr.id=x
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "without a left half there is no tag",
            config: r#"{"inject": ["datadog"]}"#,
            sent: "b3: a3ce929d0e0e4736-$S-d",
            left: "b3: a3ce929d0e0e4736-$S-d
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "a left half that another format knows joins the tags",
            config: r#"{"extract": ["datadog", "tracecontext"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.dm=-1",
            left: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6,_dd.p.dm=-1",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "tags that have no room beside it are left out whole",
            config: r#"{"extract": ["datadog", "tracecontext"], "inject": []}"#,
            sent: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.usr.id=0123456789012345678901234567890123456789012345678901234567890,_dd.p.dm=-1",
            left: "traceparent: 00-$T-$S-01
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6,_dd.p.dm=-1",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "a malformed left half goes, and the trace stays",
            config: r#"{"extract": ["datadog"], "inject": ["tracecontext"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: -1
                   x-datadog-tags: _dd.p.dm=-1,_dd.p.tid=4BF92F3577B34DA6",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: -1
                   x-datadog-tags: _dd.p.dm=-1
                   traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-00",
            counted: &[Counter::ExtractedDatadog],
        },
        Row {
            promise: "without a priority the decision is open; an unknown one is none",
            config: r#"{"extract": ["datadog"], "inject": ["b3"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: yes",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   b3: 0000000000000000a3ce929d0e0e4736-$S",
            counted: &[Counter::ExtractedDatadog, Counter::Deferred],
        },
        Row {
            promise: "an open decision stays open",
            config: r#"{"inject": ["datadog"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another trace: it follows the chosen one, and its origin and tags go",
            config: r#"{"extract": ["b3", "datadog"], "inject": []}"#,
            sent: "b3: $T-$S-1
                   x-datadog-trace-id: 1
                   x-datadog-parent-id: 2
                   x-datadog-sampling-priority: 2
                   x-datadog-origin: rum
                   x-datadog-tags: _dd.p.dm=-4",
            left: "b3: $T-$S-1
                   x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-sampling-priority: 1
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "a trace id that ends in zeros cannot be told",
            config: r#"{"extract": ["b3", "datadog"], "inject": ["datadog"]}"#,
            sent: "b3: 4bf92f3577b34da60000000000000000-$S-1
                   x-datadog-trace-id: 1
                   x-datadog-parent-id: 2",
            left: "b3: 4bf92f3577b34da60000000000000000-$S-1",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "a trace that begins at the caller is no context, and passes",
            config: r#"{"extract": ["datadog"]}"#,
            sent: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 0
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: synthetics",
            left: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 0
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: synthetics",
            counted: &[Counter::Missing, Counter::Incomplete],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["datadog"]}"#,
            sent: "x-datadog-parent-id: 2
                   x-datadog-sampling-priority: 1
                   x-datadog-origin: rum",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedDatadog],
        },
    ]);
}

#[test]
fn ottrace() {
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

#[test]
fn grpc_trace_bin() {
    check(&[
        Row {
            promise: "a right context stays to the letter, padded or not",
            config: r#"{"extract": ["grpc-trace-bin"], "inject": ["grpc-trace-bin", "tracecontext"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE",
            left: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedGrpcTraceBin],
        },
        Row {
            promise: "it is written padded; debug is sampled",
            config: r#"{"inject": ["grpc-trace-bin"]}"#,
            sent: "b3: $T-$S-d",
            left: "b3: $T-$S-d
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "it cannot leave the decision open",
            config: r#"{"inject": ["grpc-trace-bin"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgA=",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "another span: it follows the chosen one",
            config: r#"{"extract": ["b3", "grpc-trace-bin"], "inject": []}"#,
            sent: "b3: $T-$S2-1
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            left: "b3: $T-$S2-1
                   grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AeRXtaLk2GvRAgE=",
            counted: &[Counter::ExtractedB3, Counter::ConflictSpanId],
        },
        Row {
            promise: "malformed, it is not forwarded",
            config: r#"{"extract": ["grpc-trace-bin"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedGrpcTraceBin],
        },
        Row {
            promise: "however long",
            config: r#"{"extract": ["grpc-trace-bin"]}"#,
            sent: "grpc-trace-bin: AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgEAAABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedGrpcTraceBin],
        },
    ]);
}

// Opaque, or of ids that are no numbers: there is nothing to convert.
#[test]
fn what_cannot_be_converted_passes_or_is_cleared() {
    check(&[
        Row {
            promise: "they pass",
            config: "{}",
            sent: "sw8: 1-MS0xLTE=-My00LTU=-3-c3Zj-aW5zdA==-L2Vw-MS4yLjMuNDo4MA==
                   x-ot-span-context: opaque",
            left: "sw8: 1-MS0xLTE=-My00LTU=-3-c3Zj-aW5zdA==-L2Vw-MS4yLjMuNDo4MA==
                   x-ot-span-context: opaque",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "SkyWalking's goes by its name",
            config: r#"{"clear": ["sw8"]}"#,
            sent: "sw8: 1-MS0xLTE=-My00LTU=-3-c3Zj-aW5zdA==-L2Vw-MS4yLjMuNDo4MA==
                   x-ot-span-context: opaque",
            left: "x-ot-span-context: opaque",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "LightStep's goes by its name",
            config: r#"{"clear": ["x-ot-span-context"]}"#,
            sent: "x-ot-span-context: opaque",
            left: "",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "both go with an ignored caller, as every known header does",
            config: r#"{"incoming": "ignore"}"#,
            sent: "sw8: 1-abc
                   x-ot-span-context: opaque
                   uber-trace-id: $T:$S:0:1
                   x-datadog-origin: rum",
            left: "",
            counted: &[Counter::Ignored],
        },
    ]);
}
