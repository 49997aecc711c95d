//! The early header mutation in files for users, which `meshtrace-render` makes from a filter's
//! configuration.

use std::fs;

use meshtrace_config::read;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{
    EarlyMutation, SamplingSettings, Tracer, early_mutation, sampling_settings,
};
use meshtrace_sampling::SamplingConfig;
use serde_json::Value;

use crate::common;

/// The field of the connection manager that contains the text. The rendered extension is its value.
const FIELD: &str = "early_header_mutation_extensions:";
/// The comment on the line before the field. The configuration follows in it.
const BEGIN: &str = "# rendered from ";
/// The comment on the line after the field.
const END: &str = "# end of what is rendered";
const UPDATE: &str =
    "UPDATE_EXAMPLES=1 cargo test -p envoy-test-harness --test examples --test manifests rendered";

/// Asserts that the connection manager of a file has the settings that go with the mutation.
pub fn assert_has(manager: &Value, settings: &Value) {
    match (manager, settings) {
        (Value::Object(manager), Value::Object(settings)) => {
            for (key, value) in settings {
                assert_has(manager.get(key).unwrap_or(&Value::Null), value);
            }
        }
        (found, expected) => assert_eq!(found, expected),
    }
}

/// Renders the mutation from the configuration that the file names. The file must have it. The
/// tracer is OpenTelemetry's, except for a file with another tracer in its name.
///
/// With `UPDATE_EXAMPLES` in the environment the mutation is written into the file first.
pub fn early_mutation_of(path: &str) -> EarlyMutation {
    let text = common::text(path);
    let part = Part::find(&text).unwrap_or_else(|| panic!("{path}: no {BEGIN:?} … {END:?}"));
    let config: TraceContextConfig = read(part.config.as_bytes()).expect("a configuration");
    let tracer = match path.contains("zipkin-b3") {
        true => Tracer::ZipkinB3,
        false => Tracer::OpenTelemetry,
    };
    let rendered = early_mutation(&config, tracer).expect("an early mutation");
    hold(path, &part, &rendered.extension);
    rendered
}

/// As [`early_mutation_of`], for the settings around `route_sampling` with this configuration.
pub fn sampling_settings_in(path: &str, config: &str) -> SamplingSettings {
    let text = common::text(path);
    let part = Part::find(&text).unwrap_or_else(|| panic!("{path}: no {BEGIN:?} … {END:?}"));
    let config: SamplingConfig = read(config.as_bytes()).expect("a configuration");
    let settings = sampling_settings(&config, Tracer::OpenTelemetry).expect("settings");
    hold(
        path,
        &part,
        &settings.manager["early_header_mutation_extensions"][0],
    );
    settings
}

/// Asserts that the file has the extension, or writes it into the file.
fn hold(path: &str, part: &Part<'_>, extension: &Value) {
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        let fresh = yaml(extension, part.indent);
        let whole = [part.before, &fresh, part.after].concat();
        fs::write(common::root().join(path), whole).unwrap_or_else(|e| panic!("{path}: {e}"));
        return;
    }
    let written: Value = serde_saphyr::from_str(part.rendered)
        .unwrap_or_else(|error| panic!("{path}: the rendered part: {error}"));
    assert!(
        written == serde_json::json!([extension]),
        "{path} does not have what `meshtrace-render` makes of {}. To write it anew: {UPDATE}",
        part.config
    );
}

/// The parts of a file around its rendered part.
struct Part<'a> {
    config: &'a str,
    indent: &'a str,
    before: &'a str,
    rendered: &'a str,
    after: &'a str,
}

impl<'a> Part<'a> {
    fn find(text: &'a str) -> Option<Self> {
        let comment = text.find(BEGIN)?;
        let config = text[comment + BEGIN.len()..].lines().next()?;
        let field = comment + text[comment..].find(FIELD)? + FIELD.len();
        let end = field + text[field..].find(END)?;
        let end = text[..end].rfind('\n')? + 1;
        let indent = text[..field - FIELD.len()].lines().next_back()?;
        Some(Self {
            config,
            indent,
            before: &text[..field],
            rendered: &text[field..end],
            after: &text[end..],
        })
    }
}

/// A list with only the extension. Each of its mutations has one line.
fn yaml(extension: &Value, indent: &str) -> String {
    let typed = &extension["typed_config"];
    let mut text = format!(
        "\n{indent}- name: {}\n{indent}  typed_config:\n{indent}    \"@type\": {}\n{indent}    mutations:\n",
        extension["name"].as_str().expect("a name"),
        typed["@type"].as_str().expect("a type"),
    );
    for mutation in typed["mutations"].as_array().expect("mutations") {
        text.push_str(&format!("{indent}    - {}\n", flow(mutation)));
    }
    text
}

/// A value on one line. JSON text is also YAML in double quotes.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key}: {}", flow(value));
            let fields: Vec<_> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        scalar => scalar.to_string(),
    }
}
