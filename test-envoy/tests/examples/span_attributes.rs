//! `examples/span-attributes`: the configuration and the commands of its page.

use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_render::{EnvoyVersion, envoy_tags};
use meshtrace_test_support::common;
use meshtrace_test_support::example::MANAGER;
use serde_json::{Value, json};

use crate::page::Example;

/// The example's configuration for the version.
fn span_attributes_for(envoy: &EnvoyBinary) -> (EnvoyVersion, Value) {
    let version = envoy.reported_version().parse().expect("a version");
    let file = match version {
        EnvoyVersion::V1_36 => "examples/span-attributes/envoy-1.36.yaml",
        _ => "examples/span-attributes/envoy.yaml",
    };
    (version, common::yaml(file))
}

#[test]
fn span_attributes_has_what_is_rendered() {
    each_supported(|envoy| {
        let (version, mut bootstrap) = span_attributes_for(envoy);
        let manager = bootstrap.pointer_mut(MANAGER).expect("the manager");
        let text = "/http_filters/0/typed_config/config/configuration/value";
        let text = manager.pointer_mut(text).expect("the configuration");
        let json = text.as_str().expect("its text").to_owned();
        let rendered = envoy_tags(json.as_bytes(), version, "dist/span_attributes.wasm");
        let mut rendered = rendered.expect("tags");
        // The same JSON, laid out for people.
        let configuration =
            &mut rendered.http_filters[0]["typed_config"]["config"]["configuration"];
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let compact = configuration["value"].as_str().expect("its text");
        assert_eq!(parsed(compact), parsed(&json));
        configuration["value"] = json!(json);

        assert_eq!(
            manager["tracing"]["custom_tags"],
            json!(rendered.custom_tags)
        );
        let filters = manager["http_filters"].as_array_mut().expect("filters");
        filters.pop();
        assert_eq!(*filters, rendered.http_filters);
    });
}

#[test]
fn span_attributes_prints_the_spans_that_its_page_shows() {
    let page = common::text("examples/span-attributes/README.md");
    let spans = page.lines().filter(|line| {
        let kind = line.split(' ').next();
        matches!(kind, Some("SERVER" | "CLIENT")) && line.contains('=')
    });
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans.len(), 4);
    each_supported(|envoy| {
        let (_, bootstrap) = span_attributes_for(envoy);
        let example = Example::start("span-attributes", envoy, &bootstrap);
        example.follow_page();
        for span in &spans {
            let printed = example.envoy.wait_for_log(span);
            printed.unwrap_or_else(|error| panic!("{span} on {}: {error}", example.version));
        }
    });
}
