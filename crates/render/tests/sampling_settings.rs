//! What stands around `route_sampling`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use meshtrace_render::{SamplingSettings, Tracer, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use serde_json::{Value, json};

fn settings(json: &str, tracer: Tracer) -> Result<SamplingSettings, String> {
    let config: SamplingConfig = meshtrace_config::read(json.as_bytes()).expect("a configuration");
    sampling_settings(&config, tracer).map_err(|error| error.to_string())
}

fn rendered(json: &str, tracer: Tracer) -> SamplingSettings {
    settings(json, tracer).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The headers that the early mutation touches.
fn mutated(settings: &SamplingSettings) -> Vec<String> {
    let extension = &settings.manager["early_header_mutation_extensions"][0];
    let mutations = extension["typed_config"]["mutations"].as_array();
    let header = |mutation: &Value| {
        let name = mutation["remove"].as_str();
        let name = name.or(mutation["append"]["header"]["key"].as_str());
        name.expect("a header").to_owned()
    };
    mutations.expect("mutations").iter().map(header).collect()
}

/// The first line of `traceparent`.
const HELPER: &str = "x-meshtrace-sampling-parent";

#[test]
fn nothing_is_sampled_but_what_the_filter_or_a_parent_says() {
    for tracer in [
        Tracer::OpenTelemetry,
        Tracer::ZipkinB3,
        Tracer::ZipkinB3WithW3c,
    ] {
        let settings = rendered("{}", tracer);
        let tracing = &settings.manager["tracing"];
        assert_eq!(tracing["random_sampling"]["value"], 0.0);
        assert_eq!(tracing["overall_sampling"]["value"], 100.0);
        let of_the_parent: &[&str] = match tracer {
            Tracer::OpenTelemetry => &[HELPER, HELPER, "x-client-trace-id", HELPER],
            _ => &[],
        };
        let expected = [&["x-client-trace-id"], of_the_parent].concat();
        assert_eq!(mutated(&settings), expected, "{tracer:?}");
        let removed = json!(["x-client-trace-id", "x-envoy-force-trace"]);
        assert_eq!(settings.virtual_host["request_headers_to_remove"], removed);
    }
    let own = rendered(r#"{"request_header": "x-sampled"}"#, Tracer::ZipkinB3);
    assert_eq!(
        own.virtual_host["request_headers_to_remove"][1],
        "x-sampled"
    );
}

#[test]
fn the_first_rules_that_name_a_route_alone_are_blocks_of_the_route() {
    let settings = rendered(
        r#"{"rules": [
            {"match": {"route": "pay"}, "sample": "always"},
            {"match": {"route": "probe", "host": "*"}, "sample": "never"},
            {"match": {"route": "search"}, "sample": {"ratio": 0.005}},
            {"match": {"route": "pay"}, "sample": "never"},
            {"match": {"route": "burst"}, "sample": {"per_second": 5}},
            {"match": {"path": {"exact": "/"}}, "sample": "never"},
            {"match": {"route": "late"}, "sample": "always"}
        ]}"#,
        Tracer::OpenTelemetry,
    );
    let blocks: Vec<_> = settings
        .routes
        .iter()
        .map(|block| (block.route.as_str(), block.tracing.clone()))
        .collect();
    assert_eq!(
        blocks,
        [
            ("pay", json!({"random_sampling": {"numerator": 100}})),
            ("probe", json!({"random_sampling": {"numerator": 0}})),
        ]
    );
}

#[test]
fn an_envoy_filter_has_all_but_the_numbers_that_no_merge_can_set() {
    let settings = rendered(
        r#"{"rules": [{"match": {"route": "pay"}, "sample": "always"}]}"#,
        Tracer::OpenTelemetry,
    );
    let filter = settings.to_envoy_filter("sampling", ("app", "gateway"));
    let patches = filter["spec"]["configPatches"].as_array().expect("patches");
    let kinds: Vec<_> = patches
        .iter()
        .map(|patch| patch["applyTo"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            Some("NETWORK_FILTER"),
            Some("VIRTUAL_HOST"),
            Some("HTTP_ROUTE")
        ]
    );
    let manager = &patches[0]["patch"]["value"]["typed_config"];
    assert_eq!(manager["tracing"], Value::Null);
    assert_eq!(
        manager["early_header_mutation_extensions"],
        settings.manager["early_header_mutation_extensions"]
    );
    assert_eq!(
        patches[2]["patch"]["value"]["tracing"],
        settings.routes[0].tracing
    );
}

#[test]
fn what_an_early_mutation_cannot_do_is_refused_with_its_path() {
    let with = |rule: &str| format!(r#"{{"parent": "ignore", "rules": [{rule}]}}"#);
    let matching = |matches: &str| with(&format!(r#"{{"match": {matches}, "sample": "never"}}"#));
    for (json, expected) in [
        (
            r#"{"placement": "upstream", "tracer": "b3"}"#.to_owned(),
            "placement: ",
        ),
        (
            r#"{"default": {"ratio": 7}}"#.to_owned(),
            "default.ratio: impossible value",
        ),
        (
            r#"{"parent": "ignore", "default": {"per_second": 1}}"#.to_owned(),
            "default: an early header mutation cannot count",
        ),
        (
            with(r#"{"sample": {"per_second": 1}}"#),
            "rules[0].sample: an early",
        ),
        (
            matching(r#"{"route": "r"}"#),
            "rules[0].match.route: not known yet",
        ),
        (
            matching(r#"{"cluster": "c"}"#),
            "rules[0].match.cluster: not known yet",
        ),
        (
            matching(r#"{"path": {"regex": "/a"}}"#),
            "rules[0].match.path.regex: too much",
        ),
        (
            matching(&format!(
                r#"{{"path": {{"template": "/{}"}}}}"#,
                "a".repeat(70)
            )),
            "rules[0].match.path.template: too long",
        ),
        (
            matching(r#"{"path": {"exact": "/a'b"}}"#),
            "rules[0].match.path.exact: \"/a'b\" cannot stand",
        ),
        (
            matching(r#"{"headers": [{"name": "x", "exact": "100%"}]}"#),
            "rules[0].match.headers[0]: \"100%\" cannot stand",
        ),
    ] {
        let refusal = settings(&json, Tracer::OpenTelemetry)
            .map(|_| ())
            .expect_err(&json);
        assert!(refusal.starts_with(expected), "{json}: {refusal}");
    }
    // Nothing of it matters where parents are respected.
    let respects = matching(r#"{"route": "r"}"#).replace("ignore", "respect");
    rendered(&respects, Tracer::OpenTelemetry);
}
