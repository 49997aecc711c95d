//! The reference names everything that there is.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig, Counter, Shape};

const REFERENCE: &str = include_str!("../../../docs/access_log_trace.md");

/// The keys that a configuration may have, as its own refusal of another one lists them.
fn keys(json: &str) -> Vec<String> {
    let refusal = meshtrace_config::read::<AccessLogTraceConfig>(json.as_bytes())
        .unwrap_err()
        .to_string();
    let (_, allowed) = refusal.split_once("expected").expect("what is allowed");
    let keys: Vec<_> = allowed
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(!keys.is_empty());
    keys
}

#[test]
fn the_reference_documents_every_key() {
    for key in keys(r#"{"?": 0}"#) {
        assert!(REFERENCE.contains(&format!("\n| `{key}` | ")), "{key}");
    }
    for json in [
        r#"{"ids": {"?": 0}}"#,
        r#"{"response_header": {"?": 0}}"#,
        r#"{"shapes": [{"gcp": {"?": 0}}]}"#,
    ] {
        for key in keys(json) {
            assert!(REFERENCE.contains(&format!("`{key}`")), "{key}");
        }
    }
}

#[test]
fn the_reference_documents_every_filter_state_key() {
    let gcp = Shape::Gcp {
        project: b"p"[..].into(),
    };
    let shapes = [Shape::Datadog, gcp, Shape::B3Bits64];
    let of_shapes = shapes.iter().flat_map(Shape::keys);
    for key in AccessLogIds::KEYS.iter().chain(of_shapes) {
        assert!(REFERENCE.contains(&format!("\n| `wasm.{key}` | ")), "{key}");
    }
}

#[test]
fn the_reference_documents_every_counter() {
    for counter in <Counter as meshtrace_counters::Counter>::ALL {
        let name = counter.metric();
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}
