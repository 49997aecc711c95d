//! The reference names everything that there is.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_sampling::{Counter, RuleSampler, SamplingConfig};

const REFERENCE: &str = include_str!("../../../docs/route_sampling.md");

/// The keys or values that are allowed in place of `?`, as the refusal lists them.
fn allowed(json: &str) -> Vec<String> {
    let refusal = meshtrace_config::read::<SamplingConfig>(json.as_bytes())
        .unwrap_err()
        .to_string();
    let (_, allowed) = refusal.split_once("expected").expect("what is allowed");
    let names = allowed.split('`').skip(1).step_by(2);
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(!names.is_empty(), "{refusal}");
    names
}

fn rule(rest: &str) -> String {
    format!(r#"{{"rules": [{{"sample": "never", {rest}}}]}}"#)
}

#[test]
fn the_reference_documents_every_key() {
    for json in [
        r#"{"?": 0}"#.to_owned(),
        rule(r#""?": 0"#),
        rule(r#""match": {"?": 0}"#),
    ] {
        for key in allowed(&json) {
            assert!(REFERENCE.contains(&format!("\n| `{key}` | ")), "{key}");
        }
    }
    for json in [
        rule(r#""match": {"path": {"?": 0}}"#),
        rule(r#""match": {"headers": [{"?": 0}]}"#),
        r#"{"force": {"?": 0}}"#.to_owned(),
        r#"{"ids": {"?": 0}}"#.to_owned(),
        r#"{"default": {"?": 0}}"#.to_owned(),
    ] {
        for key in allowed(&json) {
            assert!(REFERENCE.contains(&format!("\"{key}\"")), "{key}");
        }
    }
    for policy in allowed(r#"{"parent": "?"}"#) {
        assert!(REFERENCE.contains(&format!("`{policy}`")), "{policy}");
    }
}

#[test]
fn the_reference_documents_every_counter() {
    let config = r#"{"rules": [{"name": "<name>", "sample": "never"}]}"#.replace("<name>", "NAME");
    let config: SamplingConfig = meshtrace_config::read(config.as_bytes()).unwrap();
    let of_rules = RuleSampler::new(&config, &|_| None).unwrap().counters();
    let of_rules = of_rules.iter().map(|name| name.replace("NAME", "<name>"));
    let counters = <Counter as meshtrace_counters::Counter>::ALL.iter();
    for name in counters.map(|c| c.metric().to_owned()).chain(of_rules) {
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}

#[test]
fn the_reference_s_examples_are_read() {
    for line in REFERENCE.lines() {
        if line.starts_with("{\"placement\"") {
            meshtrace_config::read::<SamplingConfig>(line.as_bytes()).expect(line);
        }
    }
}
