//! `Server-Timing: trace;desc=…`: the caller is told the trace, beside what the application
//! measures.

use envoy_test_harness::client::Response;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route, Tracing};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE, access_log_trace, expose_ids, get, log_ids};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

const SERVER_TIMING: &str = r#"{"response_header": {"server_timing": true}}"#;

fn lines(response: &Response) -> Vec<String> {
    let named = |(name, _): &&(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(b"server-timing");
    let lines = response.headers.iter().filter(named);
    lines
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// `desc` is a token (RFC 9110, section 5.6.2) in which a `traceparent` stands.
fn span_of(line: &str) -> String {
    let value = line
        .strip_prefix("trace;desc=")
        .unwrap_or_else(|| panic!("{line}"));
    let fields: Vec<_> = value.split('-').collect();
    let ["00", trace_id, span_id, flags] = fields.as_slice() else {
        panic!("{line}");
    };
    assert_eq!([*trace_id, *flags], [TRACE, "01"], "{line}");
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!(value.bytes().all(is_token), "{line}");
    (*span_id).to_owned()
}

#[test]
fn the_callers_line_stands_behind_those_of_the_application() {
    let own = ["db;dur=53, cache;desc=\"a, b\"", "app;dur=47.2"];
    let sampled = format!("00-{TRACE}-{SPAN}-01");
    let mut tried = 0;
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let mut config = reporting("http/protobuf", "{}");
        config["access_log"] = serde_json::from_str(SERVER_TIMING).expect("JSON");
        let manager = |filter| {
            HttpConnectionManager::new()
                .route(Route::prefix("/direct").direct_response(200, "here"))
                .route(
                    Route::prefix("/retried")
                        .cluster("upstream")
                        .retry("5xx", 1),
                )
                .route(Route::prefix("/").cluster("upstream"))
                .filter(filter)
        };
        let listener = Listener::http("ingress", manager(mesh_tracing(config)));
        let mesh = Collected::with(envoy, "http/protobuf", Bootstrap::new().listener(listener));
        mesh.upstream.respond_with(move |request| {
            let status = if request.path == "/retried" { 503 } else { 200 };
            own.iter().fold(Reply::status(status), |reply, line| {
                reply.header("server-timing", line)
            })
        });
        for (path, of_application) in [("/", 2), ("/retried", 2), ("/direct", 0)] {
            let request =
                envoy_test_harness::client::Request::get(path).header("traceparent", &sampled);
            let response = mesh.send(&request);
            let lines = lines(&response);
            assert_eq!(
                lines[..of_application],
                own[..of_application],
                "{path} {at}"
            );
            assert_eq!(lines.len(), of_application + 1, "{path} {at}: {lines:?}");
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            mesh.sink.clear();
            assert_eq!(
                span_of(&lines[of_application]),
                spans[0].span_id,
                "{path} {at}"
            );
            tried += 1;
        }
        assert_eq!(mesh.counter("host_errors"), 0, "{at}");
    });
    promises::held(
        "Spans",
        "Server-Timing names the span that is reported, and the application's own lines stay",
        "mesh_tracing: proxied, retried, answered by Envoy; two lines of the application's",
        &format!(
            "{tried} of {tried} responses, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// Beside the proxy's own tracer the span is known where `%SPAN_ID%` is (Envoy 1.38 and later).
#[test]
fn access_log_trace_tells_the_span_of_the_proxys_tracer() {
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let version: meshtrace_render::EnvoyVersion = at.parse().expect("a version");
        let has_span_id = version >= "1.38.0".parse().expect("a version");
        let ids = match has_span_id {
            true => json!({"trace_id_header": "x-t", "span_id_header": "x-s"}),
            false => json!({"trace_id_header": "x-t"}),
        };
        let config = json!({"ids": ids, "tracer": "tracecontext",
            "response_header": {"name": "x-trace-id", "server_timing": true}});
        let (compiled, _) = log_ids(&config.to_string());
        let step = expose_ids(&compiled, envoy).expect("a step before it");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .tracing(Tracing::opentelemetry_http("collector", "test"))
            .filter(step)
            .filter(access_log_trace(&config.to_string()));
        let listener = Listener::http("ingress", manager);
        let mesh = Collected::with(envoy, "http/protobuf", Bootstrap::new().listener(listener));
        mesh.upstream
            .respond_with(|_| Reply::ok().header("Server-Timing", "app;dur=1"));
        let response = mesh.send(&get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]));
        let lines = lines(&response);
        assert_eq!(lines[0], "app;dur=1", "{at}");
        let spans = mesh.sink.wait_for_spans(1).expect("a span");
        match has_span_id {
            true => assert_eq!(span_of(&lines[1]), spans[0].span_id, "{at}"),
            false => assert_eq!(lines.len(), 1, "{at}: what is not known is not told"),
        }
        assert_eq!(
            response.header("x-trace-id"),
            Some(TRACE.as_bytes()),
            "{at}"
        );
    });
}
