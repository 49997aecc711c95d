//! What a person gives the command line: files to check, a file of cases, header lines.

use meshtrace_check::{Input, Options, check as check_files, filters_of};
use meshtrace_config::ConfigError;
use meshtrace_explain::{
    Case, Cases, Explanation, SentRequest, explain as run, explain_mesh_tracing, header_line,
    json_of, text,
};
use meshtrace_pipeline::{AccessLogTrace, RouteSampling, SpanAttributes, TraceContext};
use std::collections::BTreeMap;

/// The widest line of an explanation.
const WIDTH: usize = 100;

/// Any file: it is read or refused, and each finding has a place in it, in one line.
pub fn check(data: &[u8]) {
    // The name of a file can say whose configuration it is.
    for name in ["file.yaml", "span_attributes.json"] {
        let input = Input {
            name: name.to_owned(),
            bytes: data.to_vec(),
        };
        let breaks = data
            .iter()
            .filter(|byte| matches!(byte, b'\n' | b'\r'))
            .count();
        let inputs = [input];
        let report = check_files(&inputs, &Options::default());
        for finding in &report.findings {
            let line = usize::try_from(finding.line).expect("a line");
            assert!(line >= 1 && line <= breaks + 1, "{finding}");
            assert!(finding.column >= 1, "{finding}");
            assert!(!finding.to_string().contains(['\n', '\r']), "{finding:?}");
        }
        let again = check_files(&inputs, &Options::default());
        assert_eq!(report.findings, again.findings);
        assert!(filters_of(&inputs[0]).len() <= 5);
    }
}

/// A configuration as YAML or JSON: what is JSON afterwards stays as it is, and means the same.
pub fn yaml(data: &[u8]) {
    let json = json_of(data.to_vec());
    assert_eq!(json_of(json.clone()), json);
    let is_yaml = json != data;
    let value = serde_json::from_slice::<serde_json::Value>(&json);
    assert!(!is_yaml || value.is_ok_and(|value| value.is_object()));
}

/// A file of cases: it is refused in a sentence, or its cases are run.
pub fn cases(data: &[u8]) {
    match Cases::read(data.to_vec()) {
        Err(reason) => assert!(!reason.is_empty()),
        Ok(cases) => {
            let config = match &cases.config {
                config if config.is_object() => config.to_string().into_bytes(),
                _ => Vec::new(),
            };
            for case in cases.cases.iter().take(4) {
                one(&config, case, &cases.environment);
            }
        }
    }
}

fn one(config: &[u8], case: &Case, environment: &BTreeMap<String, String>) {
    let sent = case.request(environment);
    for explanation in explanations(config, &sent).into_iter().flatten() {
        let differences = case.expect.differences(&explanation);
        assert!(!case.expect.is_empty() || differences.is_empty());
        shown(&explanation, &sent);
    }
}

/// Lines of headers: each is refused in a sentence, or sent to every filter.
pub fn explain(data: &[u8]) {
    let mut sent = SentRequest::new("GET", "/", "localhost");
    for line in String::from_utf8_lossy(data).lines() {
        match header_line(line) {
            Ok((name, value)) => sent.add(&name, &value),
            Err(reason) => assert!(reason.starts_with("expected NAME: VALUE")),
        }
    }
    let config = br#"{"report": {"cluster": "c"}, "trace_context": {"incoming": "restart"}, "sampling": {"default": "always"},
        "span_attributes": {"attributes": [{"key": "a", "from": {"header": "a"}, "transform": ["lowercase"]}]}}"#;
    for config in [&b"{}"[..], config] {
        for explanation in explanations(config, &sent).into_iter().flatten() {
            shown(&explanation, &sent);
        }
    }
}

fn explanations(config: &[u8], sent: &SentRequest) -> [Result<Explanation, ConfigError>; 5] {
    [
        run::<AccessLogTrace>(config, sent),
        explain_mesh_tracing(config, sent),
        run::<RouteSampling>(config, sent),
        run::<SpanAttributes>(config, sent),
        run::<TraceContext>(config, sent),
    ]
}

/// An explanation is readable on a terminal, whatever came.
fn shown(explanation: &Explanation, sent: &SentRequest) {
    let plain = text(explanation, sent, false);
    for line in plain.lines() {
        assert!(line.chars().count() <= WIDTH, "{line:?}");
    }
    let is_control = |character: char| character.is_control() && character != '\n';
    assert!(!plain.contains(is_control), "{plain:?}");
    assert!(serde_json::to_string(explanation).is_ok());
}
