//! What `mesh_tracing` refuses, in sentences for who wrote it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_pipeline::{Composition as _, MeshTracing, Proxy};

fn refusal(json: &str) -> String {
    MeshTracing::from_json(json.as_bytes(), &Proxy::UNKNOWN)
        .expect_err(json)
        .to_string()
}

#[test]
fn a_refusal_names_the_path_what_was_found_and_what_is_allowed() {
    let report = |rest: &str| format!(r#"{{"report": {{"cluster": "c", {rest}}}}}"#);
    let sampling =
        |rest: &str| format!(r#"{{"sampling": {{{rest}}}, "report": {{"cluster": "c"}}}}"#);
    for (json, expected) in [
        (
            r#"{"report": {}}"#.to_owned(),
            "mesh_tracing.report.cluster: required: the name of the Envoy cluster of the collector",
        ),
        (
            r#"{"reports": {}}"#.to_owned(),
            "mesh_tracing.reports: unknown field `reports`, expected one of `trace_context`, `sampling`, `span_attributes`, `access_log`, `report`",
        ),
        (
            r#"{"trace_context": {"inject": ["b4"]}}"#.to_owned(),
            "mesh_tracing.trace_context.inject[0]: unknown variant `b4`",
        ),
        (
            r#"{"trace_context": {"placement": "upstream", "tracer": "b3"}}"#.to_owned(),
            "mesh_tracing.trace_context.placement: \"downstream\" alone",
        ),
        (
            r#"{"report": {"cluster": "c"}, "trace_context": {"on_missing": "pass"}}"#.to_owned(),
            "mesh_tracing.trace_context.on_missing: not \"pass\" with `report`",
        ),
        (
            r#"{"report": {"cluster": "c"}, "trace_context": {"generate_sampled": true}}"#
                .to_owned(),
            "mesh_tracing.trace_context.generate_sampled: not with `report`",
        ),
        (
            r#"{"access_log": {"tracer": "b3"}, "report": {"cluster": "c"}}"#.to_owned(),
            "mesh_tracing.access_log.tracer: not with `report`, which opens the span itself",
        ),
        (
            sampling(r#""request_header": null"#),
            "mesh_tracing.sampling.request_header: not with `report`, which decides itself",
        ),
        (
            sampling(r#""extract": ["b3"]"#),
            "mesh_tracing.sampling.extract: not with `report`, which reads what `trace_context.extract` \
             names",
        ),
        (
            sampling(r#""tracer": "b3""#),
            "mesh_tracing.sampling.tracer: not with `report`, which is the tracer",
        ),
        (
            sampling(r#""ids": {"trace_id_header": "x"}"#),
            "mesh_tracing.sampling.ids.trace_id_header: not with `report`, which knows the trace id",
        ),
        (
            sampling(r#""placement": "upstream""#),
            "mesh_tracing.sampling.placement: \"downstream\" alone",
        ),
        (
            r#"{"sampling": {"placement": "upstream", "tracer": "b3"}}"#.to_owned(),
            "mesh_tracing.sampling.placement: \"downstream\" alone",
        ),
        (
            sampling(r#""rules": [{"sample": "sometimes"}]"#),
            "mesh_tracing.sampling.rules[0].sample: invalid value: string \"sometimes\"",
        ),
        (
            sampling(r#""default": {"ratio": 2}"#),
            "mesh_tracing.sampling.default.ratio: impossible value: 2",
        ),
        (
            r#"{"sampling": {"tracer": "b3"}}"#.to_owned(),
            "mesh_tracing.sampling.tracer: only with placement",
        ),
        (
            r#"{"report": {"cluster": "c"}, "span_attributes": {"attributes": [
                {"key": "user.id", "from": {"header": "x"}},
                {"key": "http.route", "from": {"response_header": "x-route"}}]}}"#
                .to_owned(),
            "mesh_tracing.span_attributes.attributes[1].key: \"http.route\" is what `report` says \
             itself on its spans, expected another key",
        ),
        (
            r#"{"span_attributes": {"attributes": [{"key": "a"}]}}"#.to_owned(),
            "mesh_tracing.span_attributes.attributes[0]: missing field `from`",
        ),
        (
            report(r#""role": "proxy""#),
            "mesh_tracing.report.role: unknown variant `proxy`, expected one of `auto`, `server`, \
             `client`, `gateway`",
        ),
        (
            report(r#""protocol": "grpc", "path": "/v1/traces""#),
            "mesh_tracing.report.path: not with protocol \"grpc\"",
        ),
        (
            report(r#""path": "v1""#),
            "mesh_tracing.report.path: invalid value (not repeated, it may be confidential), expected a path",
        ),
        (
            report(r#""authority": "a b""#),
            "mesh_tracing.report.authority: invalid value (not repeated, it may be confidential), expected a host",
        ),
        (
            r#"{"report": {"cluster": "my collector"}}"#.to_owned(),
            "mesh_tracing.report.authority: missing, and the cluster's name, \"my collector\", has no host in it; \
             expected a host",
        ),
        (
            report(r#""headers": {"te": "x"}"#).replace("te\"", "content-type\""),
            "mesh_tracing.report.headers.content-type: the protocol decides it",
        ),
        (
            report(r#""headers": {"Content-Encoding": "gzip"}"#),
            "mesh_tracing.report.headers.content-encoding: the protocol decides it",
        ),
        (
            report(r#""headers": {"X-Key": "a", "x-key": "b"}"#),
            "mesh_tracing.report.headers.x-key: there twice, in another case",
        ),
        (
            report(r#""headers": {":path": "x"}"#),
            "mesh_tracing.report.headers: the protocol decides it",
        ),
        (
            report(r#""headers": {"authorization: Bearer hunter2": "x"}"#),
            "mesh_tracing.report.headers: invalid name (not repeated, it may be confidential), expected the name",
        ),
        (
            report(r#""headers": {"Transfer-Encoding": "chunked"}"#),
            "mesh_tracing.report.headers: invalid name: string \"transfer-encoding\", expected the name of a header \
             that does not frame or route the message",
        ),
        (
            report(r#""headers": "authorization=Bearer hunter2""#),
            "mesh_tracing.report.headers: invalid type: string, expected an object",
        ),
        (
            report(r#""headers": {"authorization": ["hunter2"]}"#),
            "mesh_tracing.report.headers.authorization: invalid type",
        ),
        (
            report(r#""headers": {"authorization": 4242}"#),
            "mesh_tracing.report.headers.authorization: invalid type: integer, expected a string",
        ),
        (
            report(r#""headers": {"x": "secret\n"}"#),
            "mesh_tracing.report.headers.x: invalid value, expected printable ASCII",
        ),
        (
            report(r#""timeout_ms": 0"#),
            "mesh_tracing.report.timeout_ms: invalid value: 0, expected 1 to 600000",
        ),
        (
            report(r#""batch": {"max_in_flight": 9}"#),
            "mesh_tracing.report.batch.max_in_flight: invalid value: 9, expected 1 to 4",
        ),
        (
            report(r#""batch": {"max_queue": 100}"#),
            "mesh_tracing.report.batch.max_queue: invalid value: 100, expected at least `max_spans` (512)",
        ),
        (
            report(r#""resource": {"a": []}"#),
            "mesh_tracing.report.resource.a: invalid type: list, expected a string, a number or \
             a boolean",
        ),
        (
            report(r#""keep": {"slower_than_ms": 0}"#),
            "mesh_tracing.report.keep.slower_than_ms: invalid value: 0",
        ),
    ] {
        let refusal = refusal(&json);
        assert!(
            refusal.starts_with(expected),
            "{json}\n{refusal}\n{expected}"
        );
        for secret in ["secret", "hunter2", "4242"] {
            assert!(!refusal.contains(secret), "{refusal}");
        }
    }
}

/// Those of the text, and those that are found when the stages are compiled.
#[test]
fn a_refusal_has_the_mistakes_of_all_stages() {
    let json = r#"{
        "trace_context": {"extract": ["b3", "b4"], "clear": ["content-length"], "on_missing": "pass"},
        "sampling": {"rules": [
            {"match": {"path": {"regex": "("}, "methods": ["get"]}, "sample": {"ratio": 2}},
            {"match": {"headers": [{"name": "x-a", "exakt": "1"}]}},
            {"match": {"path": {"regex": ")"}}, "sample": "never"}
        ]},
        "span_attributes": {"attributes": [{"key": "0", "from": {"cookies": "c"}, "max_length": 0}]},
        "report": {"cluster": "c", "timeout_ms": 0, "bach": {}, "batch": {"max_spans": 0}}
    }"#;
    let error = MeshTracing::from_json(json.as_bytes(), &Proxy::UNKNOWN).expect_err(json);
    let mut paths: Vec<_> = error
        .mistakes()
        .iter()
        .map(|mistake| mistake.path().trim_start_matches("mesh_tracing."))
        .collect();
    paths.sort_unstable();
    let expected = [
        "report.bach",
        "report.batch.max_spans",
        "report.timeout_ms",
        "sampling.rules[0].match.methods[0]",
        "sampling.rules[0].match.path.regex",
        "sampling.rules[0].sample.ratio",
        "sampling.rules[1]",
        "sampling.rules[1].match.headers[0].exakt",
        "sampling.rules[2].match.path.regex",
        "span_attributes.attributes[0].from",
        "span_attributes.attributes[0].key",
        "span_attributes.attributes[0].max_length",
        "trace_context.clear[0]",
        "trace_context.extract[1]",
        "trace_context.on_missing",
    ];
    assert_eq!(paths, expected);
    // The line of the log tells of the first ones.
    let told = error.to_string().matches("; also ").count() + 1;
    assert!((5..=paths.len()).contains(&told), "{error}");
}

/// What only a tracer in the proxy is told, and keys of spans that it exports, are refused where
/// there is none.
#[test]
fn without_report_the_keys_are_those_of_the_single_filters() {
    for json in [
        r#"{"sampling": {"request_header": "x-force", "extract": ["b3"], "placement": "downstream",
            "ids": {"trace_id_header": "x-trace"}}}"#,
        r#"{"span_attributes": {"attributes": [{"key": "url.path", "from": {"header": ":path"}}]}}"#,
        r#"{"sampling": {"placement": "downstream", "force": {"header": "x", "value_env": "K"}},
            "report": {"cluster": "c"}}"#,
    ] {
        let taken = MeshTracing::from_json(json.as_bytes(), &Proxy::UNKNOWN);
        assert!(taken.is_ok(), "{json}: {taken:?}");
    }
}
