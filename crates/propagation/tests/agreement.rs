//! Rules that would seem to hold without one of their conditions.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{Row, check, parse, run};
use meshtrace_propagation::Counter::{
    ConflictTraceId, ExtractedB3, ExtractedB3Multi, ExtractedTracecontext, MalformedTraceparent,
    MalformedTracestate, Missing,
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

// `on_defer` says what a format is told that cannot leave the decision open. One that can has
// decided.
#[test]
fn a_refusal_in_a_format_that_can_defer_is_a_decision() {
    check(&[Row {
        promise: "it wins over a deferred b3 of the same span, though W3C would be told the same",
        config: r#"{"extract": ["b3", "ottrace"], "inject": ["b3"], "on_defer": "unsampled"}"#,
        sent: "b3: $T-$S
               ot-tracer-traceid: $T
               ot-tracer-spanid: $S
               ot-tracer-sampled: false",
        left: "b3: $T-$S-0
               ot-tracer-traceid: $T
               ot-tracer-spanid: $S
               ot-tracer-sampled: false",
        counted: &[ExtractedB3],
    }]);
}

// W3C Trace Context, section 3.2.2.3: a trace id has 16 bytes, and zeros are among them.
#[test]
fn an_id_that_begins_with_zeros_in_w3c_is_no_half_of_another() {
    check(&[Row {
        promise: "it is another trace than the b3 whose id ends with it",
        config: r#"{"inject": ["tracecontext"]}"#,
        sent: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01
               b3: $T-$S-1",
        left: "traceparent: 00-0000000000000000a3ce929d0e0e4736-$S-01
               b3: 0000000000000000a3ce929d0e0e4736-$S-1",
        counted: &[ExtractedTracecontext, ConflictTraceId],
    }]);
}

// A b3 without a parent tells the next attempt that it is ours; the tracer's own is nothing to tell
// apart.
#[test]
fn the_tracers_own_b3_keeps_its_parent() {
    check(&[Row {
        promise: "upstream it is left to the letter",
        config: r#"{"placement": "upstream", "tracer": "b3", "inject": ["b3"]}"#,
        sent: "b3: $T-$S-1-$P",
        left: "b3: $T-$S-1-$P",
        counted: &[ExtractedB3],
    }]);
}

// Of two shapes of one trace the tracer wrote the one whose parent is the other's span, whichever
// was named.
#[test]
fn the_shape_that_continues_the_other_is_the_tracers() {
    check(&[
        Row {
            promise: "x-b3-* continues a b3 with a parent of its own",
            config: r#"{"placement": "upstream", "tracer": "b3", "inject": ["tracecontext"]}"#,
            sent: "b3: $T-$S-1-$P
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-parentspanid: $S
                   x-b3-sampled: 1",
            left: "b3: $T-$S2-1
                   traceparent: 00-$T-$S2-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-parentspanid: $S
                   x-b3-sampled: 1",
            counted: &[ExtractedB3Multi],
        },
        Row {
            promise: "b3 continues x-b3-* with a parent of their own",
            config: r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#,
            sent: "b3: $T-$S2-1-$S
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 1",
            left: "b3: $T-$S2-1-$S
                   traceparent: 00-$T-$S2-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-parentspanid: $S
                   x-b3-sampled: 1",
            counted: &[ExtractedB3],
        },
        Row {
            promise: "b3 with a parent is never ours of an earlier attempt",
            config: r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#,
            sent: "b3: $T-$S-1-$P
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-sampled: 1",
            left: "b3: $T-$S-1-$P
                   traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P
                   x-b3-sampled: 1",
            counted: &[ExtractedB3],
        },
    ]);
}

#[test]
fn a_header_whose_first_line_is_right_already_is_left_once() {
    check(&[Row {
        promise: "of repeated lines the first counts, and one is left",
        config: r#"{"inject": ["b3"]}"#,
        sent: "b3: $T-$S-1
               b3: $T-$S-1",
        left: "b3: $T-$S-1",
        counted: &[ExtractedB3],
    }]);
}

#[test]
fn a_header_that_is_cleared_is_not_written_and_costs_nothing_where_it_is_absent() {
    let config = r#"{"inject": ["b3multi"], "clear": ["x-b3-sampled", "x-b3-flags"]}"#;
    check(&[Row {
        promise: "the others of its format are written",
        config,
        sent: "traceparent: 00-$T-$S-01",
        left: "traceparent: 00-$T-$S-01
               x-b3-traceid: $T
               x-b3-spanid: $S",
        counted: &[ExtractedTracecontext],
    }]);
    assert_eq!(run(config, &parse("accept: */*")).edits, 0);
}

// W3C Trace Context, section 3.3: with a `traceparent` that is not valid, `tracestate` is not
// parsed.
#[test]
fn a_tracestate_beside_two_traceparents_goes_though_b3_names_their_trace() {
    check(&[Row {
        promise: "traceparent is written from b3, alone",
        config: r#"{"inject": ["tracecontext"], "on_repeated": "reject"}"#,
        sent: "traceparent: 00-$T-$S-01
               traceparent: 00-$T-$S-01
               tracestate: a=1
               b3: $T-$S-1",
        left: "traceparent: 00-$T-$S-01
               b3: $T-$S-1",
        counted: &[ExtractedB3, MalformedTraceparent, MalformedTracestate],
    }]);
}

#[test]
fn half_an_id_does_not_stay_where_another_format_told_the_whole() {
    check(&[Row {
        promise: "b3 is written with all of it",
        config: r#"{"inject": ["tracecontext"]}"#,
        sent: "traceparent: 00-$T-$S-01
               b3: a3ce929d0e0e4736-$S-1",
        left: "traceparent: 00-$T-$S-01
               b3: $T-$S-1",
        counted: &[ExtractedTracecontext],
    }]);
}

#[test]
fn upstream_a_malformed_header_of_a_format_that_is_written_goes_though_the_tracer_wrote_nothing() {
    check(&[Row {
        promise: "jaeger is written, so what is there under its name is ours to answer for",
        config: r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["jaeger"]}"#,
        sent: "uber-trace-id: junk",
        left: "",
        counted: &[Missing],
    }]);
}
