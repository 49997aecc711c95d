//! What leaves is in the grammar of its format, though what came in was not.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{Row, check};
use meshtrace_propagation::Counter::{Deferred, ExtractedB3, ExtractedB3Multi};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

// B3, "Single Header": `b3={TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}`, "where the last two fields are
// optional": a parent alone would stand where readers look for the state.
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
