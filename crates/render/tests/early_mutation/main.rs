//! What early header mutations are rendered to.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

mod callers;
mod context;
mod limits;

use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{EarlyMutation, Tracer, early_mutation};
use serde_json::Value;

pub(crate) const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

pub(crate) const CONFIGS: [&str; 6] = [
    "{}",
    r#"{"b3_strict": true}"#,
    r#"{"extract": ["b3", "b3multi", "tracecontext"], "on_defer": "sampled"}"#,
    r#"{"extract": ["b3multi", "b3"]}"#,
    r#"{"extract": ["tracecontext"]}"#,
    r#"{"extract": []}"#,
];

pub(crate) fn config(json: &str) -> TraceContextConfig {
    meshtrace_config::read(json.as_bytes()).expect("a configuration")
}

pub(crate) fn render(json: &str, tracer: Tracer) -> EarlyMutation {
    early_mutation(&config(json), tracer).expect("a mutation")
}

pub(crate) fn refusal(json: &str) -> String {
    let refused = early_mutation(&config(json), Tracer::OpenTelemetry);
    refused.expect_err("a refusal").to_string()
}

pub(crate) fn mutations(json: &str, tracer: Tracer) -> Vec<Value> {
    let rendered = render(json, tracer).extension;
    let mutations = rendered["typed_config"]["mutations"].as_array();
    mutations.expect("mutations").clone()
}

/// `header <action value`, with names short enough to read.
pub(crate) fn steps(json: &str, tracer: Tracer) -> Vec<String> {
    let short = |text: &str| {
        text.replace("x-meshtrace-early-", "~")
            .replace(&"[0-9a-f]".repeat(16), "ID")
            .replace("[0-9a-f]", "H")
            .replace("request.headers", "headers")
    };
    let family = |mutation: &Value| {
        let prefix = mutation["remove_on_match"]["key_matcher"]["prefix"].as_str()?;
        Some(format!("{prefix}* removed"))
    };
    let step = |mutation: &Value| match (mutation["remove"].as_str(), family(mutation)) {
        (Some(name), _) => format!("{} removed", short(name)),
        (None, Some(family)) => family,
        (None, None) => {
            let append = &mutation["append"];
            let text = |value: &Value| short(value.as_str().expect("text"));
            let action = match append["append_action"].as_str() {
                Some("OVERWRITE_IF_EXISTS_OR_ADD") => "=",
                Some("ADD_IF_ABSENT") => "if absent =",
                Some("OVERWRITE_IF_EXISTS") => "if present =",
                other => panic!("unknown action {other:?}"),
            };
            let header = &append["header"];
            format!(
                "{} {action} {}",
                text(&header["key"]),
                text(&header["value"])
            )
        }
    };
    mutations(json, tracer).iter().map(step).collect()
}

pub(crate) fn values(json: &str, tracer: Tracer) -> Vec<String> {
    let value = |mutation: &Value| {
        let value = mutation["append"]["header"]["value"].as_str();
        value.map(str::to_owned)
    };
    mutations(json, tracer).iter().filter_map(value).collect()
}

/// Every pattern of `matches` and `re.extract`.
pub(crate) fn patterns() -> Vec<String> {
    let mut patterns = Vec::new();
    for (json, tracer) in all() {
        for value in values(json, tracer) {
            let after_matches = value.split(".matches('").skip(1);
            let after_extract = value.split("re.extract(").skip(1);
            let quoted = after_extract.filter_map(|call| call.split("r'").nth(1));
            let found = after_matches.chain(quoted);
            patterns.extend(found.filter_map(|text| text.split('\'').next().map(str::to_owned)));
        }
    }
    patterns.sort();
    patterns.dedup();
    assert!(patterns.len() > 10, "{patterns:?}");
    patterns
}

pub(crate) fn all() -> impl Iterator<Item = (&'static str, Tracer)> {
    CONFIGS
        .into_iter()
        .flat_map(|json| TRACERS.map(|tracer| (json, tracer)))
}
