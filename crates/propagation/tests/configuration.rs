//! Configurations that are refused, and what is said about them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_propagation::{Propagation, TraceContextConfig};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn impossible_configurations_are_refused_with_their_path() {
    for (config, expected) in [
        (r#"{"extract": ["b3", "b3"]}"#, "extract[1]: listed before"),
        (r#"{"inject": ["b3", "b3"]}"#, "inject[1]: listed before"),
        (
            r#"{"inject": ["b3"], "clear": ["b3"]}"#,
            "inject[0]: also in `clear`",
        ),
        (
            r#"{"default_format": "b3"}"#,
            "default_format: only with inject",
        ),
        (
            r#"{"clear": [":path"]}"#,
            "clear[0]: invalid value: string \":path\"",
        ),
        (
            r#"{"clear": ["Host"]}"#,
            "clear[0]: invalid value: string \"Host\"",
        ),
        (r#"{"clear": [""]}"#, "clear[0]: invalid value"),
        (
            r#"{"tracer": "b3"}"#,
            "tracer: only with placement \"upstream\"",
        ),
        (
            r#"{"placement": "upstream"}"#,
            "tracer: required with placement",
        ),
        (
            r#"{"placement": "upstream", "tracer": "b3", "incoming": "ignore"}"#,
            "incoming: not with placement",
        ),
        (
            r#"{"placement": "upstream", "tracer": "b3", "on_missing": "pass"}"#,
            "on_missing: not with placement",
        ),
        (
            r#"{"incoming": {"mode": "ignore", "when": {"not_from_cidrs": ["10.0.0.0/33"]}}}"#,
            "incoming.when.not_from_cidrs[0]: invalid value: string \"10.0.0.0/33\"",
        ),
        (
            r#"{"overrides": [{"inject": []}]}"#,
            "overrides[0]: expected either `cluster` or `host`",
        ),
        (
            r#"{"overrides": [{"cluster": "a", "host": "a", "inject": []}]}"#,
            "overrides[0]: expected either `cluster` or `host`",
        ),
        (
            r#"{"overrides": [{"cluster": "a"}]}"#,
            "overrides[0]: changes nothing; expected `inject`, `clear` or both",
        ),
        (
            r#"{"overrides": [{"cluster": "", "inject": []}]}"#,
            "overrides[0].cluster: invalid value: string \"\", expected the name of a cluster",
        ),
        (
            r#"{"overrides": [{"cluster": "a", "inject": []}, {"cluster": "a", "clear": []}]}"#,
            "overrides[1].cluster: listed before",
        ),
        (
            r#"{"overrides": [{"host": "A.b", "inject": []}, {"host": "a.B.", "inject": []}]}"#,
            "overrides[1].host: listed before",
        ),
        (
            r#"{"overrides": [{"host": "a.example:443", "inject": []}]}"#,
            "overrides[0].host: invalid value: string \"a.example:443\", expected a host without a port",
        ),
        (
            r#"{"overrides": [{"host": "*", "inject": []}]}"#,
            "overrides[0].host: invalid value: string \"*\"",
        ),
        (
            r#"{"overrides": [{"host": "*.", "inject": []}]}"#,
            "overrides[0].host: invalid value: string \"*.\"",
        ),
        (
            r#"{"overrides": [{"host": "**.a", "inject": []}]}"#,
            "overrides[0].host: invalid value: string \"**.a\"",
        ),
        (
            r#"{"overrides": [{"host": "https://a", "inject": []}]}"#,
            "overrides[0].host: invalid value: string \"https://a\"",
        ),
        (
            r#"{"overrides": [{"host": "a", "inject": ["b3"], "clear": ["b3"]}]}"#,
            "overrides[0].inject[0]: also in `clear`",
        ),
        (
            r#"{"clear": ["b3"], "overrides": [{"host": "a", "inject": ["b3"]}]}"#,
            "overrides[0].inject[0]: also in the top level's `clear`",
        ),
        (
            r#"{"overrides": [{"host": "a", "inject": ["b3", "b3"]}]}"#,
            "overrides[0].inject[1]: listed before",
        ),
        (
            r#"{"overrides": [{"host": "a", "clear": [":path"]}]}"#,
            "overrides[0].clear[0]: invalid value: string \":path\"",
        ),
        (
            r#"{"clear": ["Transfer-Encoding"]}"#,
            "clear[0]: invalid value: string \"Transfer-Encoding\", expected the name of a header that does not frame",
        ),
        (
            r#"{"overrides": [{"host": "a", "clear": ["host"]}]}"#,
            "overrides[0].clear[0]: invalid value: string \"host\"",
        ),
        (
            r#"{"baggage_from": ["jaeger", "jaeger"]}"#,
            "baggage_from[1]: listed before",
        ),
    ] {
        let parsed: TraceContextConfig = meshtrace_config::read(config.as_bytes()).unwrap();
        let refusal = Propagation::new(&parsed).unwrap_err().to_string();
        assert!(refusal.starts_with(expected), "{config}: {refusal}");
    }
    let names: Vec<_> = (0..17).map(|i| format!("\"x-{i}\"")).collect();
    let many = format!(r#"{{"clear": [{}]}}"#, names.join(","));
    let parsed: TraceContextConfig = meshtrace_config::read(many.as_bytes()).unwrap();
    let refusal = Propagation::new(&parsed).unwrap_err().to_string();
    assert!(refusal.starts_with("clear[16]: too many"), "{refusal}");
}

#[test]
fn wrong_types_and_unknown_values_say_what_is_allowed() {
    for (config, expected) in [
        (
            r#"{"extract": ["cookies"]}"#,
            "extract[0]: unknown variant `cookies`, expected one of `tracecontext`, `b3`, `b3multi`, `jaeger`",
        ),
        (
            r#"{"extrakt": []}"#,
            "extrakt: unknown field `extrakt`, expected one of `placement`",
        ),
        (
            r#"{"inject": "keep"}"#,
            "inject: invalid value: string \"keep\", expected \"preserve\" or a list of formats",
        ),
        (r#"{"inject": ["b4"]}"#, "inject[0]: unknown variant `b4`"),
        (
            r#"{"incoming": 7}"#,
            "incoming: invalid type: integer `7`, expected a mode or an object",
        ),
        (
            r#"{"incoming": {"mode": "ignore", "if": {}}}"#,
            "incoming.if: unknown field `if`, expected `mode` or `when`",
        ),
        (
            r#"{"overrides": {"a": {"inject": []}}}"#,
            "overrides: invalid type: object, expected a list",
        ),
        (
            r#"{"overrides": [{"clusters": "a"}]}"#,
            "overrides[0].clusters: unknown field `clusters`, expected one of `cluster`, `host`, `inject`, `clear`",
        ),
        (
            r#"{"overrides": [{"cluster": "a", "inject": "all"}]}"#,
            "overrides[0].inject: invalid value: string \"all\", expected \"preserve\" or a list of formats",
        ),
        (
            r#"{"baggage_from": ["zipkin"]}"#,
            "baggage_from[0]: unknown variant `zipkin`, expected `jaeger` or `ottrace`",
        ),
        (
            r#"{"b3_trace_id_bits": 96}"#,
            "b3_trace_id_bits: invalid value: integer `96`, expected 128 or 64",
        ),
        (
            r#"{"b3_strict": "yes"}"#,
            "b3_strict: invalid type: string \"yes\", expected a boolean",
        ),
    ] {
        let refusal = meshtrace_config::read::<TraceContextConfig>(config.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(refusal.starts_with(expected), "{config}: {refusal}");
    }
}
