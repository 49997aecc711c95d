//! Nothing that is shipped fails a request when its module is missing.

use meshtrace_render::{EnvoyVersion, envoy_tags};
use meshtrace_test_support::common::{self, text};
use meshtrace_test_support::promises;
use serde_json::{Value, json};

use super::{WASM, resources};
use crate::head::files;

/// The failure policies of the Wasm filters in a configuration of Envoy.
fn policies(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            if value["@type"] == WASM {
                found.push(value["config"]["failure_policy"].clone());
            }
            fields.values().for_each(|inner| policies(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| policies(inner, found)),
        _ => {}
    }
}

fn policies_of(value: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    policies(value, &mut found);
    found
}

/// The YAML blocks of a page.
fn blocks(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1);
    let inside = blocks.filter_map(|block| block.split("```").next());
    inside
        .filter_map(|text| serde_saphyr::from_str(text).ok())
        .collect()
}

#[test]
fn nothing_that_is_shipped_fails_a_request_when_its_module_is_missing() {
    let mut seen = 0;
    for (path, _, resource) in resources() {
        let spec = &resource["spec"];
        for plugin in [spec, &spec["wasm"]] {
            if plugin["url"].is_string() {
                assert_eq!(plugin["failStrategy"], "FAIL_OPEN", "{path}");
                seen += 1;
            }
        }
        for filter in spec["wasm"].as_array().into_iter().flatten() {
            assert_eq!(filter["failOpen"], true, "{path}");
            seen += 1;
        }
        for policy in policies_of(&resource) {
            assert_eq!(policy, "FAIL_OPEN", "{path}");
            seen += 1;
        }
    }
    assert!(seen >= 26, "only {seen}");

    let mut standalone = 0;
    let mut is_reloaded = |at: &str, value: &Value| {
        for policy in policies_of(value) {
            assert_eq!(policy, "FAIL_RELOAD", "{at}");
            standalone += 1;
        }
    };
    for path in files("examples") {
        for document in common::documents(&path) {
            is_reloaded(&path, &document);
            if document["spec"]["url"].is_string() {
                assert_eq!(document["spec"]["failStrategy"], "FAIL_OPEN", "{path}");
            }
        }
    }
    for page in [
        "docs/getting-started.md",
        "docs/mesh_tracing.md",
        "docs/trace_context.md",
        "docs/route_sampling.md",
    ] {
        for block in blocks(&text(page)) {
            is_reloaded(page, &block);
        }
    }
    for version in EnvoyVersion::ALL {
        let config = br#"{"emit": {"request_header_prefix": "x-a-"}}"#;
        let rendered = envoy_tags(config, *version, "a.wasm").expect("what is rendered");
        is_reloaded("meshtrace render", &json!(rendered.http_filters));
    }
    assert!(standalone >= 14, "only {standalone}");
    promises::held(
        "Manifests and examples",
        "A module that is missing fails no request",
        "the failure policy of every Wasm filter in istio-manifests, the examples, the pages and what `meshtrace render` writes",
        "FAIL_OPEN in Istio, failOpen in Envoy Gateway, FAIL_RELOAD in a standalone Envoy; no other",
    );
}
