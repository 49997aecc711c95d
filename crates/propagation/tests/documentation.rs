//! The reference names everything that there is.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    Counter, Direction, Family, Propagation, TraceContextConfig, Vendor, families, only_metric,
};

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
fn the_reference_documents_every_key_of_an_override() {
    for key in keys(r#"{"overrides": [{"?": 0}]}"#) {
        assert!(REFERENCE.contains(&format!("\"{key}\"")), "{key}");
    }
    for source in keys(r#"{"baggage_from": ["?"]}"#) {
        let (_, row) = REFERENCE.split_once("\n| `baggage_from` | ").unwrap();
        let (row, _) = row.split_once('\n').unwrap();
        assert!(row.contains(&format!("`{source}`")), "{source}");
    }
}

#[test]
fn the_configurations_that_the_reference_shows_compile() {
    let blocks = REFERENCE.split("```json\n").skip(1);
    let examples: Vec<_> = blocks.map(|b| b.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let config: TraceContextConfig = serde_json::from_str(example).expect(example);
        assert!(Propagation::new(&config).is_ok(), "{example}");
    }
}

/// The row of a vendor has its headers, and no others.
#[test]
fn the_reference_documents_every_vendor() {
    for vendor in Vendor::ALL {
        let Family { names, prefix } = vendor.family();
        let prefix = (!prefix.is_empty()).then(|| format!("`{prefix}*`"));
        let names = names.iter().map(|name| format!("`{name}`"));
        let headers = names.chain(prefix).collect::<Vec<_>>().join(", ");
        let row = format!("\n| `{}` | {headers} |\n", vendor.name());
        assert!(REFERENCE.contains(&row), "{row}");
    }
    for family in families() {
        for header in family.names.iter().copied().chain([family.prefix]) {
            assert!(REFERENCE.contains(&format!("`{header}")), "{header}");
        }
    }
}

#[test]
fn the_reference_documents_every_counter() {
    let others = Format::ALL.iter();
    for format in others.filter(|format| **format != Format::Tracecontext) {
        let name = only_metric(*format, Direction::Inbound).replace("inbound", "<direction>");
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
    for counter in <Counter as meshtrace_counters::Counter>::ALL {
        let name = counter.metric();
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}
