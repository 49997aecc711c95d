//! The policies of `trace_context` in the formats besides W3C and B3, one row a sentence.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

#[path = "../common/mod.rs"]
mod common;
mod datadog;
mod gcp;
mod grpc_trace_bin;
mod jaeger;
mod ottrace;
mod xray;

use common::{Row, check};
use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
