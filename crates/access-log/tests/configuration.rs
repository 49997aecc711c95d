//! Configurations that are refused, and what is said about them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn compile(json: &str) -> Result<AccessLogIds, String> {
    meshtrace_config::read::<AccessLogTraceConfig>(json.as_bytes())
        .and_then(|config| AccessLogIds::new(&config))
        .map_err(|error| error.to_string())
}

#[test]
fn every_form_of_every_key_is_read() {
    for json in [
        "",
        "{}",
        r#"{"source": "auto", "tracer": null, "spawn_upstream_span": null, "response_header": null}"#,
        r#"{"tracer": "none", "extract": ["xray"]}"#,
        r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#,
        r#"{"tracer": ["b3", "tracecontext"], "shared_span_context": true}"#,
        r#"{"ids": {"trace_id_header": "X-Active-Trace-Id", "span_id_header": "x-active-span-id"}}"#,
        r#"{"shapes": ["datadog", "b3_64", {"gcp": {"project": "example.com:my-project"}}]}"#,
        r#"{"response_header": "x-trace-id"}"#,
        r#"{"response_header": {"name": "x-trace-id", "traceresponse": true}}"#,
        r#"{"response_header": {"traceresponse": true}}"#,
    ] {
        assert!(compile(json).is_ok(), "{json}");
    }
}

#[test]
fn impossible_configurations_are_refused_with_their_path() {
    let long = format!(
        r#"{{"shapes": [{{"gcp": {{"project": "{}"}}}}]}}"#,
        "p".repeat(81)
    );
    for (config, expected) in [
        (
            r#"{"source": "guess"}"#,
            "source: unknown variant `guess`, expected `auto`",
        ),
        (
            r#"{"tracer": "otel"}"#,
            "tracer: invalid value: string \"otel\", expected \"none\", a format (`tracecontext`",
        ),
        (r#"{"tracer": []}"#, "tracer: empty; expected a format"),
        (
            r#"{"tracer": ["b3", "b3"]}"#,
            "tracer[1]: listed before; expected each format once",
        ),
        (
            r#"{"tracer": "b3", "extract": ["b3"]}"#,
            "extract: not with `tracer`",
        ),
        (r#"{"extract": ["b3", "b3"]}"#, "extract[1]: listed before"),
        (
            r#"{"ids": {"span_id_header": "x-s"}}"#,
            "ids.span_id_header: only with `ids.trace_id_header`",
        ),
        (
            r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "X-T"}}"#,
            "ids.span_id_header: the same as",
        ),
        (
            r#"{"ids": {"trace_id_header": "Content-Length"}}"#,
            "ids.trace_id_header: invalid value: string \"Content-Length\", expected the name of a header that does \
             not frame or route the message",
        ),
        (
            r#"{"response_header": {"name": "transfer-encoding"}}"#,
            "response_header: invalid value: string \"transfer-encoding\", expected the name of a header that",
        ),
        (
            r#"{"ids": {"trace_id_header": ":path"}}"#,
            "ids.trace_id_header: invalid value: string \":path\", expected the name of a header",
        ),
        (
            r#"{"ids": {"trace": "x"}}"#,
            "ids.trace: unknown field `trace`, expected `trace_id_header` or `span_id_header`",
        ),
        (
            r#"{"spawn_upstream_span": "no"}"#,
            "spawn_upstream_span: invalid type: string \"no\", expected a boolean",
        ),
        (
            r#"{"shapes": ["gcp"]}"#,
            "shapes[0]: invalid value: string \"gcp\", expected \"datadog\", \"b3_64\" or {\"gcp\"",
        ),
        (
            r#"{"shapes": ["datadog", "datadog"]}"#,
            "shapes[1]: listed before",
        ),
        (
            r#"{"shapes": [{"gcp": {"project": "a/b"}}]}"#,
            "shapes[0].gcp.project: invalid value: string \"a/b\", expected a Google Cloud project",
        ),
        (&long, "shapes[0].gcp.project: invalid value"),
        (
            r#"{"response_header": "x trace"}"#,
            "response_header: invalid value: string \"x trace\", expected the name of a header",
        ),
        (
            r#"{"response_header": 1}"#,
            "response_header: invalid type: integer `1`, expected the name of a header, or an object",
        ),
        (
            r#"{"span_id": true}"#,
            "span_id: unknown field `span_id`, expected one of `source`, `ids`, `tracer`",
        ),
    ] {
        let refusal = compile(config).unwrap_err();
        assert!(refusal.starts_with(expected), "{config}: {refusal}");
    }
}

#[test]
fn a_response_header_is_none_that_means_something_to_its_reader() {
    for name in [
        "set-cookie",
        "Location",
        "grpc-status",
        "grpc-message",
        "content-encoding",
        "content-range",
        "www-authenticate",
        "access-control-allow-origin",
        "x-envoy-degraded",
    ] {
        let json = format!(r#"{{"response_header": "{name}"}}"#);
        let refusal = compile(&json).expect_err(name).to_string();
        let expected = format!("response_header: invalid value: string {name:?}, expected");
        assert!(refusal.contains(&expected), "{refusal}");
    }
    for (name, key) in [
        ("server-timing", "server_timing"),
        ("Traceresponse", "traceresponse"),
    ] {
        let json =
            |told| format!(r#"{{"response_header": {{"name": "{name}", "{key}": {told}}}}}"#);
        let refusal = compile(&json(true)).expect_err(name).to_string();
        assert!(
            refusal.contains("expected a header of its own"),
            "{refusal}"
        );
        assert!(refusal.contains(key), "{refusal}");
    }
    let plain = |name: &str| compile(&format!(r#"{{"response_header": "{name}"}}"#));
    assert!(plain("traceresponse").is_ok());
    let refusal = plain("Server-Timing").expect_err("a refusal").to_string();
    assert!(
        refusal.contains("expected `server_timing: true`"),
        "{refusal}"
    );
}
