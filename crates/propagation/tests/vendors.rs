//! Headers of tracers whose context is not converted.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{parse, run};
use meshtrace_propagation::{Propagation, TraceContextConfig, Vendor, families};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// One line of each header, and two of each name that only begins so.
fn every_header() -> String {
    let mut lines = String::new();
    for family in families() {
        for name in family.names {
            lines.push_str(&format!("{name}: 1\n"));
        }
        if !family.prefix.is_empty() {
            lines.push_str(&format!("{0}t: 1\n{0}s: 2\n{0}s: 3\n", family.prefix));
        }
    }
    lines
}

#[test]
fn a_caller_who_is_ignored_is_stripped_of_all_of_them() {
    let sent = format!("{}x-request-id: 1\nbaggage: a=1", every_header());
    let left = run(r#"{"incoming": "ignore"}"#, &parse(&sent));
    assert_eq!(left.text(), ["baggage: a=1", "x-request-id: 1"]);
    for mode in ["continue", "restart"] {
        let sent = parse(&sent);
        let left = run(&format!(r#"{{"incoming": "{mode}"}}"#), &sent);
        assert_eq!(left.edits, 0, "{mode}: what is not read is not touched");
    }
}

#[test]
fn clear_knows_a_vendor_by_its_name() {
    let sent = parse(&every_header());
    for vendor in Vendor::ALL {
        // As every name in `clear`, in any case.
        let name = vendor.name().to_uppercase();
        let left = run(&format!(r#"{{"clear": ["{name}"]}}"#), &sent);
        let family = vendor.family();
        for (header, _) in &sent {
            let is_prefixed = !family.prefix.is_empty() && header.starts_with(family.prefix);
            let is_cleared = family.names.contains(&header.as_str()) || is_prefixed;
            let stays = left.lines.iter().any(|(name, _)| name == header);
            assert_eq!(stays, !is_cleared, "{name}: {header}");
        }
    }
    let left = run(r#"{"clear": ["jaeger", "ottrace"]}"#, &sent);
    for header in ["jaeger-debug-id", "uberctx-t", "ot-baggage-s"] {
        assert_eq!(left.header(header), None, "{header}");
    }
    assert!(left.header("jaeger-baggage").is_some());
}

#[test]
fn a_destination_may_be_told_less() {
    let config = r#"{"overrides": [{"host": "example.com", "clear": ["sentry", "instana"]}]}"#;
    let sent = parse(&every_header());
    let mut to_them = sent.clone();
    to_them.push((":authority".to_owned(), b"example.com".to_vec()));
    let left = run(config, &to_them);
    assert_eq!(left.header("sentry-trace"), None);
    assert_eq!(left.header("x-instana-t"), None);
    assert!(left.header("sw8").is_some());
    assert_eq!(run(config, &sent).edits, 0);
}

#[test]
fn a_refusal_names_the_vendors() {
    let config: TraceContextConfig =
        meshtrace_config::read(r#"{"clear": ["a b"]}"#.as_bytes()).expect("a configuration");
    let refusal = Propagation::new(&config)
        .expect_err("no header")
        .to_string();
    for vendor in Vendor::ALL {
        assert!(
            refusal.contains(&format!("`{}`", vendor.name())),
            "{refusal}"
        );
    }
}
