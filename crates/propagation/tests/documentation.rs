//! The reference names everything that there is.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_propagation::{Counter, TraceContextConfig};

const REFERENCE: &str = include_str!("../../../docs/trace_context.md");

/// The keys that a configuration may have, as its own refusal of another one lists them.
fn keys(json: &str) -> Vec<String> {
    let refusal = serde_json::from_str::<TraceContextConfig>(json)
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
    for key in keys(r#"{"incoming": {"mode": "ignore", "when": {"?": 0}}}"#) {
        assert!(REFERENCE.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn the_reference_documents_every_counter() {
    for counter in <Counter as meshtrace_counters::Counter>::ALL {
        let name = counter.metric();
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}
