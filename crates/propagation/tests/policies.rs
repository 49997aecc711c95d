//! The policies of `trace_context`, one row a sentence: what comes in, what leaves.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Row, S, S2, T, check, parse, run};
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

#[test]
fn beside_a_tracer_its_format_alone_is_input() {
    let config = r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
    check(&[
        Row {
            promise: "stale client headers and those of an earlier attempt are rewritten",
            config,
            sent: "traceparent: 00-$T-$S-01
                   tracestate:
                   b3: $T2-$S2-0
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-parentspanid: $P
                   x-b3-sampled: 0",
            left: "traceparent: 00-$T-$S-01
                   tracestate:
                   b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "a tracer that wrote nothing leaves what the client sent",
            config,
            sent: "b3: $T2-$S2-0",
            left: "b3: $T2-$S2-0",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "but for what is malformed",
            config,
            sent: "traceparent: junk
                   tracestate: a=1
                   b3: $T2-$S2-0
                   x-b3-traceid: junk",
            left: "b3: $T2-$S2-0",
            counted: &[
                Counter::Missing,
                Counter::MalformedTraceparent,
                Counter::MalformedTracestate,
            ],
        },
    ]);
}

// Until 1.39 Envoy's Zipkin tracer writes x-b3-*; from 1.40 on it writes the shape that came in.
#[test]
fn beside_the_zipkin_tracer_the_shape_that_it_wrote_is_input() {
    for tracer in ["b3", "b3multi"] {
        let config = format!(
            r#"{{"placement": "upstream", "tracer": "{tracer}",
                "inject": ["tracecontext", "b3", "b3multi"]}}"#
        );
        let traceparent = format!("traceparent: 00-{T}-{S2}-01");
        for (promise, sent) in [
            (
                "x-b3-* alone",
                "x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-sampled: 1",
            ),
            ("b3 alone", "b3: $T-$S2-1-$P"),
            (
                "x-b3-* that continue a client's b3",
                "b3: $T-$S-1
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-parentspanid: $S
                 x-b3-sampled: 1",
            ),
            (
                "the same, two spans further",
                "b3: $T-$S-1
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-parentspanid: $P
                 x-b3-sampled: 1",
            ),
            (
                "a new trace beside a client's bare decision",
                "b3: 0
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-sampled: 1",
            ),
            (
                "b3 that continues a client's, who sent x-b3-* as well",
                "b3: $T-$S2-1-$S
                 x-b3-traceid: $T
                 x-b3-spanid: $S
                 x-b3-sampled: 1",
            ),
            (
                "b3 beside x-b3-* of another trace",
                "b3: $T-$S2-1
                 x-b3-traceid: $T2
                 x-b3-spanid: $S
                 x-b3-parentspanid: $P
                 x-b3-sampled: 0",
            ),
            (
                "b3 beside our own x-b3-* of an earlier attempt",
                "b3: $T-$S2-1-$P
                 x-b3-traceid: $T
                 x-b3-spanid: $S
                 x-b3-parentspanid: $P
                 x-b3-sampled: 1",
            ),
        ] {
            let left = run(&config, &parse(sent)).text();
            assert!(left.contains(&traceparent), "{tracer}: {promise}: {left:?}");
            let multi = format!("x-b3-spanid: {S2}");
            assert!(left.contains(&multi), "{tracer}: {promise}: {left:?}");
            let single = format!("b3: {T}-{S2}-1");
            assert!(
                left.iter().any(|line| line.starts_with(&single)),
                "{tracer}: {promise}: {left:?}"
            );
        }
    }
}

#[test]
fn beside_the_zipkin_tracer_what_the_headers_cannot_tell_the_named_shape_does() {
    let sent = "b3: $T-$S-1-$P
                x-b3-traceid: $T
                x-b3-spanid: $S2
                x-b3-parentspanid: e2e2e2e2e2e2e2e2
                x-b3-sampled: 1";
    for (tracer, span) in [("b3", S), ("b3multi", S2)] {
        let config = format!(
            r#"{{"placement": "upstream", "tracer": "{tracer}", "inject": ["tracecontext"]}}"#
        );
        let left = run(&config, &parse(sent));
        let expected = format!("00-{T}-{span}-01");
        assert_eq!(left.header("traceparent"), Some(expected));
    }
}

#[test]
fn upstream_the_rest_of_what_a_client_sent_goes() {
    let config = r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#;
    check(&[
        Row {
            promise: "a debug flag beside the tracer's decision against it",
            config,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0
                   x-b3-flags: 1",
            left: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "another trace's tracestate",
            config,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1
                   traceparent: 00-$T2-$S2-01
                   tracestate: a=1",
            left: "traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "b3 beside the tracer's x-b3-* leaves with its ids and without a parent",
            config,
            sent: "b3: $T-$S2-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $S2
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $S2
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "malformed B3, at which the tracer writes nothing; the rest is not stale",
            config,
            sent: "b3: junk
                   traceparent: 00-$T-$S-01",
            left: "traceparent: 00-$T-$S-01",
            counted: &[Counter::Missing, Counter::MalformedB3],
        },
        Row {
            promise: "no tracer: a decision without ids passes",
            config,
            sent: "b3: 0
                   traceparent: 00-$T-$S-01",
            left: "b3: 0
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::Missing],
        },
    ]);
}
