//! The schemas and the filters agree on what a configuration is.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

use jsonschema::Validator;
use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_attributes::{Attributes, SpanAttributesConfig};
use meshtrace_pipeline::{Composition as _, MeshTracing, Proxy};
use meshtrace_propagation::{Propagation, TraceContextConfig};
use meshtrace_sampling::{RuleSampler, SamplingConfig};
use serde_json::Value;

fn schema(filter: &str) -> Validator {
    let output = Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .args(["schema", filter])
        .output()
        .expect("a process");
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("a schema");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// Both must say the same of every configuration: whether it is good.
fn assert_agreement(filter: &str, is_taken: impl Fn(&[u8]) -> bool, good: &[&str], bad: &[&str]) {
    let schema = schema(filter);
    let cases = good.iter().map(|json| (json, true));
    for (json, expected) in cases.chain(bad.iter().map(|json| (json, false))) {
        let value: Value = serde_json::from_str(json).expect(json);
        assert_eq!(is_taken(json.as_bytes()), expected, "the filter: {json}");
        assert_eq!(schema.is_valid(&value), expected, "the schema: {json}");
    }
}

#[test]
fn span_attributes() {
    let is_taken = |json: &[u8]| {
        let config = meshtrace_config::read::<SpanAttributesConfig>(json);
        config.is_ok_and(|config| Attributes::new(&config, &|_| None).is_ok())
    };
    let of = |rest: &str| format!(r#"{{"attributes": [{{"key": "a.b-c_1", {rest}}}]}}"#);
    let from = |from: &str| of(&format!(r#""from": {from}"#));
    let step = |step: &str| of(&format!(r#""from": {{"env": "A"}}, "transform": [{step}]"#));
    let good = [
        "{}".to_owned(),
        r#"{"attributes": [], "emit": {}}"#.to_owned(),
        r#"{"emit": {"filter_state": true, "request_header_prefix": null, "baggage": true}}"#
            .to_owned(),
        r#"{"emit": {"request_header_prefix": "X-Span-Attr-"}}"#.to_owned(),
        of(r#""from": {"header": "x"}, "default": null, "max_length": null"#),
        of(r#""from": {"header": "x"}, "default": "d", "max_length": 256"#),
        from(r#"{"header": ":path"}"#),
        from(r#"{"response_header": "x"}"#),
        from(r#"{"cookie": "x"}"#),
        from(r#"{"query": "x"}"#),
        from(r#"{"path": "/{id}", "capture": "id"}"#),
        from(r#"{"baggage": "x"}"#),
        from(r#"{"jwt_claim": {"claim": "sub"}}"#),
        from(r#"{"jwt_claim": {"header": "x", "claim": ["a", "b"]}}"#),
        from(r#"{"property": ["xds", "cluster_name"]}"#),
        from(r#"{"env": "A"}"#),
        from(r#"{"literal": ""}"#),
        step(r#""lowercase", "trim""#),
        step(r#"{"truncate": 1}"#),
        step(r#"{"hmac_sha256": {"key_env": "K"}}"#),
        step(r#"{"replace": {"pattern": "a", "with": ""}}"#),
        step(r#"{"allow": ["a"]}"#),
    ];
    let bad = [
        "[]".to_owned(),
        r#"{"attribute": []}"#.to_owned(),
        r#"{"attributes": null}"#.to_owned(),
        r#"{"attributes": [{"key": "a"}]}"#.to_owned(),
        r#"{"attributes": [{"key": "1", "from": {"env": "A"}}]}"#.to_owned(),
        r#"{"attributes": [{"key": "a b", "from": {"env": "A"}}]}"#.to_owned(),
        r#"{"attributes": [{"from": {"env": "A"}}]}"#.to_owned(),
        r#"{"emit": {"header": "x"}}"#.to_owned(),
        r#"{"emit": {"baggage": "yes"}}"#.to_owned(),
        r#"{"emit": {"request_header_prefix": "x"}}"#.to_owned(),
        of(r#""from": {"env": "A"}, "max_length": 257"#),
        of(r#""from": {"env": "A"}, "default": """#),
        of(r#""from": {"env": "A"}, "other": 1"#),
        from("{}"),
        from(r#""x-user-id""#),
        from(r#"{"cookies": "x"}"#),
        from(r#"{"header": "x", "env": "A"}"#),
        from(r#"{"header": ""}"#),
        from(r#"{"path": "/{id}"}"#),
        from(r#"{"path": "id", "capture": "id"}"#),
        from(r#"{"jwt_claim": "sub"}"#),
        from(r#"{"jwt_claim": {"claim": []}}"#),
        from(r#"{"property": "xds"}"#),
        from(r#"{"property": []}"#),
        step(r#""upper""#),
        step(r#"{"lowercase": true}"#),
        step(r#"{"truncate": 0}"#),
        step(r#"{"hmac_sha256": {"key": "secret"}}"#),
        step(r#"{"replace": {"pattern": "a"}}"#),
        step(r#"{"allow": []}"#),
        step(r#"{"allow": ["a"], "truncate": 1}"#),
    ];
    let good: Vec<_> = good.iter().map(String::as_str).collect();
    let bad: Vec<_> = bad.iter().map(String::as_str).collect();
    assert_agreement("span-attributes", is_taken, &good, &bad);
}

#[test]
fn trace_context() {
    let is_taken = |json: &[u8]| {
        let config = meshtrace_config::read::<TraceContextConfig>(json);
        config.is_ok_and(|config| Propagation::new(&config).is_ok())
    };
    let good = [
        "{}",
        r#"{"placement": "upstream", "tracer": "b3"}"#,
        r#"{"extract": ["b3", "b3multi", "jaeger", "grpc-trace-bin"], "inject": ["xray"]}"#,
        r#"{"inject": "preserve", "default_format": "b3"}"#,
        r#"{"clear": ["x-secret", "sw8"]}"#,
        r#"{"incoming": "ignore"}"#,
        r#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"], "direction": "inbound"}}}"#,
        r#"{"on_missing": "generate", "generate_sampled": true, "on_conflict": "restart", "on_defer": "sampled"}"#,
        r#"{"b3_trace_id_bits": 64, "b3_strict": true, "random_flag": true}"#,
        r#"{"extract": null, "incoming": null}"#,
    ];
    let bad = [
        "[]",
        r#"{"extrakt": []}"#,
        r#"{"extract": ["b4"]}"#,
        r#"{"inject": "keep"}"#,
        r#"{"inject": 1}"#,
        r#"{"placement": "side"}"#,
        r#"{"clear": "b3"}"#,
        r#"{"incoming": "refuse"}"#,
        r#"{"incoming": {"when": {}}}"#,
        r#"{"incoming": {"mode": "ignore", "when": {"cidrs": []}}}"#,
        r#"{"b3_trace_id_bits": 96}"#,
        r#"{"b3_strict": "yes"}"#,
        r#"{"on_defer": null}"#,
    ];
    assert_agreement("trace-context", is_taken, &good, &bad);
}

#[test]
fn access_log_trace() {
    let is_taken = |json: &[u8]| {
        let config = meshtrace_config::read::<AccessLogTraceConfig>(json);
        config.is_ok_and(|config| AccessLogIds::new(&config).is_ok())
    };
    let good = [
        "{}",
        r#"{"source": "auto", "ids": {"trace_id_header": "x-t", "span_id_header": null}}"#,
        r#"{"tracer": "none"}"#,
        r#"{"tracer": "b3", "shared_span_context": true, "spawn_upstream_span": null}"#,
        r#"{"tracer": ["b3", "tracecontext"]}"#,
        r#"{"extract": ["jaeger"]}"#,
        r#"{"shapes": ["datadog", "b3_64", {"gcp": {"project": "shop-1"}}]}"#,
        r#"{"response_header": "x-trace-id"}"#,
        r#"{"response_header": {"name": "x-trace-id", "traceresponse": true}}"#,
        r#"{"response_header": {"server_timing": true}}"#,
        r#"{"response_header": null}"#,
    ];
    let bad = [
        "[]",
        r#"{"sources": "auto"}"#,
        r#"{"source": "headers"}"#,
        r#"{"ids": {"header": "x"}}"#,
        r#"{"tracer": "zipkin"}"#,
        r#"{"spawn_upstream_span": "yes"}"#,
        r#"{"shapes": ["hex"]}"#,
        r#"{"shapes": [{"gcp": {}}]}"#,
        r#"{"response_header": {"header": "x"}}"#,
        r#"{"response_header": 1}"#,
    ];
    assert_agreement("access-log-trace", is_taken, &good, &bad);
}

#[test]
fn route_sampling() {
    let is_taken = |json: &[u8]| {
        let config = meshtrace_config::read::<SamplingConfig>(json);
        config.is_ok_and(|config| RuleSampler::new(&config, &|_| None).is_ok())
    };
    let rule = |rule: &str| format!(r#"{{"rules": [{{{rule}}}]}}"#);
    let when = |when: &str| rule(&format!(r#""match": {{{when}}}, "sample": "always""#));
    let good = [
        "{}".to_owned(),
        r#"{"default": {"ratio": 0.1}, "parent": "respect_sampled"}"#.to_owned(),
        r#"{"default": {"per_second": 5}, "request_header": null}"#.to_owned(),
        r#"{"placement": "upstream", "tracer": "tracecontext", "request_header": "x-f"}"#
            .to_owned(),
        r#"{"force": {"header": "x-f", "value_env": "F"}, "ids": {"trace_id_header": "x-t"}}"#
            .to_owned(),
        rule(r#""name": "a", "sample": "never""#),
        when(r#""path": {"prefix": "/a"}, "methods": ["GET"], "host": "*.example""#),
        when(r#""path": {"template": "/a/{id}"}, "route": "r", "cluster": "c""#),
        when(r#""path": {"regex": "/a+"}, "headers": [{"name": "x", "exact": "1"}]"#),
        when(r#""headers": [{"name": "x", "present": true}, {"name": "y", "prefix": "a"}]"#),
    ];
    let bad = [
        "[]".to_owned(),
        r#"{"rule": []}"#.to_owned(),
        r#"{"default": "sometimes"}"#.to_owned(),
        r#"{"default": {"ratio": 2}}"#.to_owned(),
        r#"{"default": {"ratio": 0.1, "per_second": 1}}"#.to_owned(),
        r#"{"parent": "obey"}"#.to_owned(),
        r#"{"force": {"header": "x"}}"#.to_owned(),
        rule(r#""name": "a""#),
        when(r#""path": "/a""#),
        when(r#""path": {"glob": "/a*"}"#),
        when(r#""methods": "GET""#),
        when(r#""headers": [{"name": "x"}]"#),
        when(r#""headers": [{"name": "x", "exact": "1", "present": true}]"#),
        when(r#""headers": [{"name": "x", "present": false}]"#),
    ];
    let good: Vec<_> = good.iter().map(String::as_str).collect();
    let bad: Vec<_> = bad.iter().map(String::as_str).collect();
    assert_agreement("route-sampling", is_taken, &good, &bad);
}

#[test]
fn mesh_tracing() {
    let is_taken = |json: &[u8]| MeshTracing::from_json(json, &Proxy::UNKNOWN).is_ok();
    let good = [
        "{}",
        r#"{"trace_context": {}, "sampling": {}, "span_attributes": {}, "access_log": {}}"#,
        r#"{"sampling": {"default": {"ratio": 0.1}, "parent": "ignore"}, "report": {"cluster": "c"}}"#,
        r#"{"trace_context": null, "report": {"cluster": "c"}}"#,
        r#"{"report": {"cluster": "c", "protocol": "grpc", "role": "gateway", "timeout_ms": 10}}"#,
        r#"{"report": {"cluster": "c", "path": "/v1/traces", "authority": null, "headers": {"k": "v"}}}"#,
        r#"{"report": {"cluster": "c", "resource": {"a": "b", "c": 1, "d": true, "e": 1.5}}}"#,
        r#"{"report": {"cluster": "c", "batch": {"max_spans": 8}, "keep": {"slower_than_ms": 5}}}"#,
        r#"{"report": {"cluster": "c", "service_name": "istio", "span_name": "operation"}}"#,
        r#"{"report": {"cluster": "c", "envoy_attributes": true, "compression": "gzip"}}"#,
    ];
    let bad = [
        "[]",
        r#"{"reports": {}}"#,
        r#"{"report": {}}"#,
        r#"{"report": {"cluster": 1}}"#,
        r#"{"report": {"cluster": "c", "protocol": "http"}}"#,
        r#"{"report": {"cluster": "c", "role": "proxy"}}"#,
        r#"{"report": {"cluster": "c", "service_name": ""}}"#,
        r#"{"report": {"cluster": "c", "span_name": "route"}}"#,
        r#"{"report": {"cluster": "c", "envoy_attributes": "yes"}}"#,
        r#"{"report": {"cluster": "c", "compression": "zstd"}}"#,
        r#"{"report": {"cluster": "c", "resource": {"a": []}}}"#,
        r#"{"report": {"cluster": "c", "batch": {"spans": 8}}}"#,
        r#"{"trace_context": {"extract": ["b4"]}}"#,
        r#"{"access_log": {"shapes": ["hex"]}}"#,
        r#"{"sampling": {"default": "sometimes"}}"#,
        r#"{"span_attributes": {"attribute": []}}"#,
    ];
    assert_agreement("mesh-tracing", is_taken, &good, &bad);
}
