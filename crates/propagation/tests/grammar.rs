//! What leaves is in the grammar of its format, though what came in was not.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{Row, check};
use meshtrace_propagation::Counter::{Deferred, ExtractedB3, ExtractedB3Multi, ExtractedDatadog};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

// B3, "Single Header": `b3={TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}`, "where the last two
// fields are optional": a parent alone would stand where readers look for the state.
#[test]
fn a_single_b3_has_no_parent_without_a_state() {
    check(&[
        Row {
            promise: "one that came so is mended",
            config: r#"{"inject": ["b3"]}"#,
            sent: "b3: $T-$S-$P",
            left: "b3: $T-$S",
            counted: &[ExtractedB3, Deferred],
        },
        Row {
            promise: "one of several headers stays there, where it has a name",
            config: r#"{"inject": ["b3"]}"#,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P",
            left: "b3: $T-$S
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $P",
            counted: &[ExtractedB3Multi, Deferred],
        },
    ]);
}

// White space around a header's value is not part of it (RFC 9110, section 5.5), and a tag that is
// left out makes another one the first or the last.
#[test]
fn white_space_around_a_datadog_tag_does_not_count() {
    check(&[
        Row {
            promise: "a value of white space is none",
            config: r#"{"extract": ["datadog"], "inject": ["datadog"]}"#,
            sent: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 2
                   x-datadog-tags: a=1,o= ,b=2",
            left: "x-datadog-trace-id: 1
                   x-datadog-parent-id: 2
                   x-datadog-tags: a=1,b=2",
            counted: &[ExtractedDatadog, Deferred],
        },
        Row {
            promise: "half a trace id is read wherever it stands",
            config: r#"{"extract": ["datadog"], "inject": ["tracecontext"]}"#,
            sent: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-tags: junk, _dd.p.tid=4bf92f3577b34da6",
            left: "x-datadog-trace-id: 11803532876627986230
                   x-datadog-parent-id: 67667974448284343
                   x-datadog-tags: _dd.p.tid=4bf92f3577b34da6
                   traceparent: 00-$T-$S-00",
            counted: &[ExtractedDatadog, Deferred],
        },
    ]);
}

#[test]
fn of_two_halves_of_a_datadog_trace_id_the_first_counts() {
    check(&[Row {
        promise: "and it alone is left",
        config: r#"{"extract": ["datadog"], "inject": ["tracecontext"]}"#,
        sent: "x-datadog-trace-id: 11803532876627986230
               x-datadog-parent-id: 67667974448284343
               x-datadog-tags: _dd.p.tid=4bf92f3577b34da6,_dd.p.tid=80f198ee56343ba8",
        left: "x-datadog-trace-id: 11803532876627986230
               x-datadog-parent-id: 67667974448284343
               x-datadog-tags: _dd.p.tid=4bf92f3577b34da6
               traceparent: 00-$T-$S-00",
        counted: &[ExtractedDatadog, Deferred],
    }]);
}
