//! The reference names everything that there is.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_counters::Counter as _;
use meshtrace_pipeline::{Composition as _, MeshTracing, Proxy};

const REFERENCE: &str = include_str!("../../../docs/mesh_tracing.md");

/// The keys that a configuration may have, as its own refusal of another one lists them.
fn keys(json: &str) -> Vec<String> {
    let refusal = MeshTracing::from_json(json.as_bytes(), &Proxy::UNKNOWN)
        .unwrap_err()
        .to_string();
    let (_, allowed) = refusal.split_once("expected").expect("what is allowed");
    let keys: Vec<_> = allowed.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() > 1, "{refusal}");
    keys.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_reference_documents_every_key() {
    for json in [
        r#"{"?": 0}"#,
        r#"{"report": {"?": 0}}"#,
        r#"{"report": {"cluster": "c", "batch": {"?": 0}}}"#,
        r#"{"report": {"cluster": "c", "keep": {"?": 0}}}"#,
    ] {
        for key in keys(json) {
            assert!(REFERENCE.contains(&format!("\n| `{key}` | ")), "{key}");
        }
    }
    for role in keys(r#"{"report": {"cluster": "c", "role": "?"}}"#) {
        assert!(REFERENCE.contains(&format!("`{role}`")), "{role}");
    }
}

#[test]
fn the_reference_documents_every_attribute_of_a_span() {
    let (_, table) = REFERENCE
        .split_once("## What a span says")
        .expect("the table");
    let (table, _) = table.split_once("\n## ").expect("its end");
    for key in meshtrace_otlp::conventions::KEYS {
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let mut first = rows.filter_map(|line| line.split(" | ").next());
        assert!(
            first.any(|keys| keys.contains(&format!("`{key}`"))),
            "{key}"
        );
    }
}

#[test]
fn the_reference_documents_every_counter() {
    for counter in meshtrace_otlp::Counter::METRICS {
        assert!(
            REFERENCE.contains(&format!("\n| `{counter}` | ")),
            "{counter}"
        );
    }
}
