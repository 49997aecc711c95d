//! The reference names everything that there is.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_attributes::{Attributes, Counter, MAX_ATTRIBUTES, MAX_VALUE, SpanAttributesConfig};

const REFERENCE: &str = include_str!("../../../docs/span_attributes.md");

/// What a configuration may have there, as its own refusal of something else lists it.
fn allowed(json: &str) -> Vec<String> {
    let refusal = meshtrace_config::read::<SpanAttributesConfig>(json.as_bytes())
        .unwrap_err()
        .to_string();
    let (_, allowed) = refusal.split_once("expected").expect("what is allowed");
    let names: Vec<_> = allowed
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty());
    names
}

fn attribute(rest: &str) -> String {
    format!(r#"{{"attributes": [{{"key": "a", {rest}}}]}}"#)
}

#[test]
fn the_reference_documents_every_key() {
    let of_emit = allowed(r#"{"emit": {"?": 0}}"#);
    let of_attribute = allowed(&attribute(r#""?": 0"#));
    for key in [allowed(r#"{"?": 0}"#), of_emit, of_attribute].concat() {
        assert!(REFERENCE.contains(&format!("\n| `{key}` | ")), "{key}");
    }
    let in_claim = allowed(&attribute(r#""from": {"jwt_claim": {"?": 0}}"#));
    let replace = allowed(&attribute(
        r#""from": {"env": "A"}, "transform": [{"replace": {"?": 0}}]"#,
    ));
    let hmac = allowed(&attribute(
        r#""from": {"env": "A"}, "transform": [{"hmac_sha256": {"?": 0}}]"#,
    ));
    for key in [in_claim, replace, hmac].concat() {
        assert!(REFERENCE.contains(&format!("\"{key}\": ")), "{key}");
    }
}

#[test]
fn the_reference_documents_every_source_and_transformation() {
    for source in allowed(&attribute(r#""from": {"?": 0}"#)) {
        let shown = [
            format!("\n| `{{\"{source}\": "),
            format!(", \"{source}\": "),
        ];
        assert!(
            shown.iter().any(|shown| REFERENCE.contains(shown)),
            "{source}"
        );
    }
    let transforms = allowed(&attribute(r#""from": {"env": "A"}, "transform": ["?"]"#));
    for transform in transforms {
        let shown = [
            format!("\n| `\"{transform}\"`"),
            format!("\n| `{{\"{transform}\": "),
        ];
        assert!(
            shown.iter().any(|shown| REFERENCE.contains(shown)),
            "{transform}"
        );
    }
}

#[test]
fn the_reference_documents_every_counter() {
    for counter in <Counter as meshtrace_counters::Counter>::ALL {
        let name = counter.metric();
        assert!(REFERENCE.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}

#[test]
fn the_reference_has_the_limits_and_the_defaults() {
    assert!(REFERENCE.contains(&format!("at most {MAX_ATTRIBUTES}")));
    assert!(REFERENCE.contains(&format!("`{MAX_VALUE}`; 1 to {MAX_VALUE}")));
    let config = SpanAttributesConfig::default();
    Attributes::new(&config, &|_| None).expect("defaults that compile");
    for attribute in &config.attributes {
        assert!(
            REFERENCE.contains(&format!("`{}`", attribute.key)),
            "{}",
            attribute.key
        );
    }
    let emit = format!(
        r#"{{"filter_state": {}, "request_header_prefix": null, "baggage": {}}}"#,
        config.emit.filter_state, config.emit.baggage
    );
    assert!(REFERENCE.contains(&emit), "{emit}");
    assert_eq!(config.emit.request_header_prefix, None);
}
