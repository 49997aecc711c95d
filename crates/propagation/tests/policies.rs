//! Which context is chosen, and what is written by default.
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
fn defaults_write_w3c_and_b3_multi_from_the_first_valid_format() {
    check(&[
        Row {
            promise: "nothing came: nothing is invented",
            config: "{}",
            sent: "accept: */*",
            left: "accept: */*",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "W3C in, B3 beside it; traceparent and tracestate stay to the letter",
            config: "{}",
            sent: "traceparent: 00-$T-$S-01
                   tracestate: congo=t61rcWkgMzE",
            left: "traceparent: 00-$T-$S-01
                   tracestate: congo=t61rcWkgMzE
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "B3 multi in, W3C beside it; the parent is B3's own business",
            config: "{}",
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 0",
            left: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 0",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "B3 single in: read, kept in its shape, and written as the others",
            config: "{}",
            sent: "b3: $T-$S-1",
            left: "b3: $T-$S-1
                   traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "formats that agree are not touched, a parent and 64 bits included",
            config: "{}",
            sent: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01
                   x-b3-traceid: a3ce929d0e0e4736
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 1",
            left: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01
                   x-b3-traceid: a3ce929d0e0e4736
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
    ]);
}

// C.1: what is read leniently is written as specified.
#[test]
fn what_old_clients_write_leaves_as_the_specification_has_it() {
    check(&[
        Row {
            promise: "upper-case ids are lowered, `true` becomes 1, a meaningless flag goes",
            config: r#"{"inject": ["b3multi"]}"#,
            sent: "x-b3-traceid: 4BF92F3577B34DA6A3CE929D0E0E4736
                   x-b3-spanid: 00F067AA0BA902B7
                   x-b3-sampled: true
                   x-b3-flags: 0",
            left: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "debug implies accept: no x-b3-sampled beside it",
            config: r#"{"inject": ["b3multi"]}"#,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0
                   x-b3-flags: 1",
            left: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-flags: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "strict: upper case is malformed",
            config: r#"{"b3_strict": true}"#,
            sent: "x-b3-traceid: 4BF92F3577B34DA6A3CE929D0E0E4736
                   x-b3-spanid: 00F067AA0BA902B7",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedB3Multi],
        },
        Row {
            promise: "lenient: a malformed b3 falls back to x-b3-*, and does not leave",
            config: "{}",
            sent: "b3: junk
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi, Counter::MalformedB3],
        },
        Row {
            promise: "strict: a malformed b3 is the last word",
            config: r#"{"b3_strict": true}"#,
            sent: "b3: junk
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedB3],
        },
        Row {
            promise: "a valid b3 is not completed from x-b3-*: `0` stays without ids",
            config: "{}",
            sent: "b3: 0
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "b3: 0
                   x-b3-sampled: 0",
            counted: &[Counter::SamplingOnly],
        },
    ]);
}

#[test]
fn a_decision_without_ids_invents_no_trace() {
    check(&[
        Row {
            promise: "b3: 0 passes and is told in B3 multi; W3C has no form for it",
            config: "{}",
            sent: "b3: 0",
            left: "b3: 0
                   x-b3-sampled: 0",
            counted: &[Counter::SamplingOnly],
        },
        Row {
            promise: "debug alone",
            config: r#"{"inject": ["b3", "tracecontext"]}"#,
            sent: "x-b3-flags: 1",
            left: "b3: d
                   x-b3-flags: 1",
            counted: &[Counter::SamplingOnly],
        },
        Row {
            promise: "a context beats a decision without ids, whatever the order",
            config: r#"{"extract": ["b3", "tracecontext"], "inject": ["tracecontext"]}"#,
            sent: "b3: 0
                   traceparent: 00-$T-$S-01",
            left: "b3: $T-$S-1
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedTracecontext],
        },
    ]);
}

#[test]
fn a_deferred_decision_is_told_to_w3c_as_configured_and_to_b3_as_it_is() {
    check(&[
        Row {
            promise: "unsampled by default: the next parent-based sampler may drop",
            config: "{}",
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "sampled on request",
            config: r#"{"on_defer": "sampled", "inject": ["tracecontext"]}"#,
            sent: "b3: $T-$S",
            left: "b3: $T-$S
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "an explicit decision of the same span wins over defer",
            config: r#"{"extract": ["b3", "tracecontext"], "inject": []}"#,
            sent: "b3: $T-$S
                   traceparent: 00-$T-$S-01",
            left: "b3: $T-$S-1
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "what an earlier hop told W3C in its place is none",
            config: r#"{"extract": ["b3", "tracecontext"], "inject": [], "on_defer": "sampled"}"#,
            sent: "b3: $T-$S
                   traceparent: 00-$T-$S-01
                   tracestate: ot=rv:0123456789abcd,a=th:8",
            left: "b3: $T-$S
                   traceparent: 00-$T-$S-01
                   tracestate: ot=rv:0123456789abcd,a=th:8",
            counted: &[Counter::ExtractedB3, Counter::Deferred],
        },
        Row {
            promise: "but where the threshold says that a sampler has decided",
            config: r#"{"extract": ["b3", "tracecontext"], "inject": [], "on_defer": "sampled"}"#,
            sent: "b3: $T-$S
                   traceparent: 00-$T-$S-01
                   tracestate: a=1,ot=rv:ffffffffffffff;th:8",
            left: "b3: $T-$S-1
                   traceparent: 00-$T-$S-01
                   tracestate: a=1,ot=rv:ffffffffffffff;th:8",
            counted: &[Counter::ExtractedB3],
        },
        Row {
            promise: "a threshold beside a flag that is not set proves nothing",
            config: "{}",
            sent: "traceparent: 00-$T-$S-00
                   tracestate: ot=th:8
                   x-b3-traceid: $T
                   x-b3-spanid: $S",
            left: "traceparent: 00-$T-$S-00
                   tracestate: ot=th:8
                   x-b3-traceid: $T
                   x-b3-spanid: $S",
            counted: &[Counter::ExtractedTracecontext, Counter::Deferred],
        },
        Row {
            promise: "what an earlier hop told W3C in its place is no decision: B3 stays open",
            config: "{}",
            sent: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S",
            left: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S",
            counted: &[Counter::ExtractedTracecontext, Counter::Deferred],
        },
    ]);
}

// C.5, in its order.
#[test]
fn conflicts_are_settled_and_counted() {
    check(&[
        Row {
            promise: "1. one trace, two spans: the one listed first, tracestate stays",
            config: "{}",
            sent: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictSpanId],
        },
        Row {
            promise: "1. and B3 listed first: its span, and still that trace's tracestate",
            config: r#"{"extract": ["b3multi", "tracecontext"]}"#,
            sent: "traceparent: 00-$T-$S-03
                   tracestate: a=1
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-sampled: 0",
            left: "traceparent: 00-$T-$S2-02
                   tracestate: a=1
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-sampled: 0",
            counted: &[Counter::ExtractedB3Multi, Counter::ConflictSpanId],
        },
        Row {
            promise: "2. one span, two decisions: the one listed first",
            config: "{}",
            sent: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictSampled],
        },
        Row {
            promise: "2. debug wins over all",
            config: "{}",
            sent: "traceparent: 00-$T-$S-00
                   b3: $T-$S-d",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-d
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-flags: 1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictSampled],
        },
        Row {
            promise: "3. two traces: the one listed first, and the other leaves nowhere",
            config: "{}",
            sent: "traceparent: 00-$T-$S-01
                   b3: $T2-$S2-1-$P",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext, Counter::ConflictTraceId],
        },
        Row {
            promise: "3. B3 first: the foreign tracestate goes with its traceparent",
            config: r#"{"extract": ["b3", "tracecontext"]}"#,
            sent: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   b3: $T2-$S2-1",
            left: "traceparent: 00-$T2-$S2-01
                   b3: $T2-$S2-1
                   x-b3-traceid: $T2
                   x-b3-spanid: $S2
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3, Counter::ConflictTraceId],
        },
        Row {
            promise: "3. an id of 64 bits is the right half of the same trace, no other one",
            config: r#"{"extract": ["b3multi", "tracecontext"], "b3_trace_id_bits": 64}"#,
            sent: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   x-b3-traceid: a3ce929d0e0e4736
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   x-b3-traceid: a3ce929d0e0e4736
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "4. valid and malformed: the valid one, and the malformed does not leave",
            config: r#"{"inject": ["b3multi"]}"#,
            sent: "traceparent: 00-$T-$S-0
                   tracestate: a=1
                   x-b3-traceid: $T2
                   x-b3-spanid: $S2",
            left: "x-b3-traceid: $T2
                   x-b3-spanid: $S2",
            counted: &[
                Counter::ExtractedB3Multi,
                Counter::Deferred,
                Counter::MalformedTraceparent,
                Counter::MalformedTracestate,
            ],
        },
    ]);
}

#[test]
fn tracestate_never_leaves_without_its_traceparent() {
    check(&[
        Row {
            promise: "alone",
            config: "{}",
            sent: "tracestate: a=1",
            left: "",
            counted: &[Counter::Missing, Counter::MalformedTracestate],
        },
        Row {
            promise: "beside B3 only",
            config: "{}",
            sent: "tracestate: a=1
                   b3: $T-$S-1",
            left: "b3: $T-$S-1
                   traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3, Counter::MalformedTracestate],
        },
        Row {
            promise: "an invalid one goes, its traceparent stays",
            config: r#"{"inject": ["tracecontext"]}"#,
            sent: "traceparent: 00-$T-$S-01
                   tracestate: a=1,B=2",
            left: "traceparent: 00-$T-$S-01",
            counted: &[Counter::ExtractedTracecontext, Counter::MalformedTracestate],
        },
        Row {
            promise: "a future version is written as 00, and its tracestate stays",
            config: r#"{"inject": ["tracecontext"]}"#,
            sent: "traceparent: cc-$T-$S-01-x
                   tracestate: a=1",
            left: "traceparent: 00-$T-$S-01
                   tracestate: a=1",
            counted: &[Counter::ExtractedTracecontext],
        },
    ]);
}
