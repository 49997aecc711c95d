//! Internal redirects: Envoy starts the tracer's span again, and nothing is decided again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{HttpConnectionManager, Route, Tracing};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, export, start, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::Collected;
use serde_json::{Value, json};

/// The header that Envoy writes for the second pass.
const ORIGINAL_URL: &str = "x-envoy-original-url";

fn manager(tracing: Tracing) -> HttpConnectionManager {
    let follows = json!({"route": {"internal_redirect_policy": {
        "max_internal_redirects": 2,
        "redirect_response_codes": [301, 302, 303, 307, 308],
        "allow_cross_scheme_redirect": true,
    }}});
    HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream").merge(follows))
        .filter(export())
        .tracing(tracing)
}

/// `/302`, `/307/302` and so on: each number leads to what is behind it.
fn lead(request: &RecordedRequest) -> Reply {
    let (_, path) = request.path.split_once('/').unwrap_or_default();
    let (code, rest) = path.split_once('/').unwrap_or((path, ""));
    match code.parse() {
        Ok(code) => {
            Reply::status(code).header("location", format!("http://next.example:81/{rest}"))
        }
        Err(_) => Reply::ok(),
    }
}

/// Sends a request, and waits for all of its spans.
fn send(mesh: &Collected, request: &Request, count: usize) -> (Vec<RecordedRequest>, Vec<Span>) {
    assert_eq!(mesh.send(request).status, 200);
    let told = mesh.upstream.take();
    mesh.sink.wait_for_spans(count).expect("the spans");
    if count == 0 {
        thread::sleep(Duration::from_millis(250));
    }
    let spans = mesh.sink.spans();
    mesh.sink.clear();
    assert_eq!(spans.len(), count, "{spans:#?}");
    (told, spans)
}

fn caller(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// The spans are one trace with one root, and each pass is a child of the call before it.
fn assert_one_trace(spans: &[Span], at: &str) {
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces.len(), 1, "{at}: {spans:#?}");
    let known: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    let is_root = |span: &&Span| {
        span.parent_span_id
            .as_ref()
            .is_none_or(|id| !known.contains(id))
    };
    let roots = spans.iter().filter(is_root).count();
    assert_eq!(roots, 1, "{at}: {spans:#?}");
}

#[test]
fn a_redirect_that_envoy_follows_is_one_trace_whatever_came_and_leaves() {
    let formats = [
        json!(["tracecontext", "b3"]),
        json!(["b3"]),
        json!(["b3multi"]),
        json!(["jaeger"]),
        json!(["datadog"]),
        json!(["gcp"]),
        json!(["xray"]),
        json!(["grpc-trace-bin"]),
    ];
    for envoy in envoys() {
        for mode in ["continue", "restart", "ignore"] {
            for inject in &formats {
                for attempts in [false, true] {
                    let at = format!("{} {mode} {inject} {attempts}", envoy.reported_version());
                    let config = json!({
                        "trace_context": {"incoming": mode, "inject": inject, "extract": inject},
                        "sampling": {"default": "always"},
                        "report": {"cluster": "collector"},
                    });
                    let tracing = tracing(config).spawn_upstream_span(attempts);
                    let mesh = start(&envoy, "http/protobuf", manager(tracing));
                    mesh.upstream.respond_with(lead);
                    let each = if attempts { 2 } else { 1 };
                    for (path, passes) in [("/302", 2), ("/307/303", 3)] {
                        let (told, spans) = send(&mesh, &caller(path), each * passes);
                        assert_eq!(told.len(), passes, "{at}");
                        assert_one_trace(&spans, &at);
                    }
                    assert_eq!(mesh.counter("panics"), 0, "{at}");
                }
            }
        }
    }
    promises::held(
        "Spans",
        "An internal redirect is one trace on the native tracer, whatever `incoming` and `inject` are",
        "3 modes, 8 formats, with a span for each attempt and without, one redirect and two",
        "96 redirects a version, 3 versions",
    );
}

/// What the second pass would decide by itself, it does not decide.
#[test]
fn a_redirect_takes_one_decision() {
    let per_second = json!({"rules": [{"match": {"path": {"prefix": "/"}}, "sample": {"per_second": 1}}],
        "parent": "ignore"});
    let by_path = |first: &str, second: &str| {
        json!({"rules": [
            {"match": {"path": {"prefix": "/302"}}, "sample": first},
            {"match": {"path": {"prefix": "/"}}, "sample": second},
        ], "parent": "ignore"})
    };
    let cases: [(&str, Value, usize); 3] = [
        ("per_second", per_second, 4),
        ("always, never", by_path("always", "never"), 4),
        ("never, always", by_path("never", "always"), 0),
    ];
    for envoy in envoys() {
        for (name, sampling, count) in &cases {
            for (mode, keep) in [("continue", false), ("restart", false), ("ignore", true)] {
                let at = format!("{} {name} {mode}", envoy.reported_version());
                let config = json!({
                    "trace_context": {"incoming": mode},
                    "sampling": sampling,
                    "report": {"cluster": "collector", "keep": {"errors": keep}},
                });
                let tracing = tracing(config).spawn_upstream_span(true);
                let mesh = start(&envoy, "http/protobuf", manager(tracing));
                mesh.upstream.respond_with(lead);
                let (told, spans) = send(&mesh, &caller("/302"), *count);
                let flags = if *count > 0 { "01" } else { "00" };
                let mut traces = BTreeSet::new();
                for told in told {
                    let [trace, _, told] = meshtrace_test_support::reporting::traceparent(&told);
                    assert_eq!(told, flags, "{at}");
                    traces.insert(trace);
                }
                assert_eq!(traces.len(), 1, "{at}: {traces:?}");
                assert!(
                    spans.iter().all(|span| traces.contains(&span.trace_id)),
                    "{at}"
                );
            }
        }
    }
}

/// `upstream` answers 302 and 200 in turn, and Envoy follows no answer.
fn unfollowed(envoy: &EnvoyBinary) -> Collected {
    let config = json!({
        "trace_context": {"incoming": "restart"},
        "sampling": {"default": "always"},
        "report": {"cluster": "collector"},
    });
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(export())
        .tracing(tracing(config).spawn_upstream_span(true))
        .merge(json!({"internal_address_config": {"cidr_ranges": [
            {"address_prefix": "10.0.0.0", "prefix_len": 8}]}}));
    let mesh = start(envoy, "http/protobuf", manager);
    let count = AtomicUsize::new(0);
    mesh.upstream
        .respond_with(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Reply::status(302).header("location", "http://next.example/"),
            _ => Reply::ok(),
        });
    mesh
}

/// A request with the header of a second pass, of a caller that Envoy takes for internal: it removes
/// that header of all others.
fn forged(traceparent: &str) -> Request {
    Request::get("/")
        .header("traceparent", traceparent)
        .header("x-forwarded-for", "10.0.0.1")
        .header(ORIGINAL_URL, "http://shop/")
}

/// An application that passes on what it was told makes a call of its own. So does one that writes
/// Envoy's header too, but with the context of another span.
#[test]
fn a_call_with_a_context_that_was_told_is_no_second_pass() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let mesh = unfollowed(&envoy);
        let mut last: Option<String> = None;
        for is_told in [true, true, false, true] {
            let mut request = caller("/shop");
            if let Some(told) = last.take().filter(|_| is_told) {
                request = Request::get("/shop").header("traceparent", told);
            }
            assert_eq!(mesh.send(&request).status, 302, "{version}");
            let told = mesh.upstream.take().remove(0).header_text("traceparent");
            // One in between, which ends well.
            let told = told.expect("a context");
            assert_eq!(
                mesh.send(&Request::get("/").header("traceparent", &told))
                    .status,
                200
            );
            last = mesh.upstream.take().remove(0).header_text("traceparent");
        }
        let spans = mesh.sink.wait_for_spans(16).expect("the spans");
        let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
        assert_eq!(traces.len(), 8, "{version}: {spans:#?}");
        mesh.sink.clear();

        // With the header, but of another span.
        assert_eq!(mesh.send(&caller("/shop")).status, 302, "{version}");
        let other = forged(&format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(mesh.send(&other).status, 200, "{version}");
        let traces = traces_of_servers(&mesh, version);
        assert_eq!(traces.len(), 2, "{version}: {traces:?}");
    }
}

/// The traces of the SERVER spans of two requests.
fn traces_of_servers(mesh: &Collected, at: &str) -> BTreeSet<String> {
    let spans = mesh.sink.wait_for_spans(4).expect(at);
    mesh.sink.clear();
    let servers = spans
        .into_iter()
        .filter(|span| span.kind == SpanKind::Server);
    servers.map(|span| span.trace_id).collect()
}

/// Also with the header, and with the very context that was told: after a second it is a call of its
/// own, for which everything is decided anew.
#[test]
fn a_call_that_looks_like_a_second_pass_is_none_after_a_second() {
    for envoy in envoys() {
        let at = envoy.reported_version();
        let mesh = unfollowed(&envoy);
        assert_eq!(mesh.send(&caller("/shop")).status, 302, "{at}");
        let told = mesh.upstream.take().remove(0).header_text("traceparent");
        thread::sleep(Duration::from_millis(1100));
        let again = forged(&told.expect("a context"));
        assert_eq!(mesh.send(&again).status, 200, "{at}");
        let arrived = mesh.upstream.take().remove(0);
        assert!(arrived.header(ORIGINAL_URL).is_some(), "{at}: it came");
        let traces = traces_of_servers(&mesh, at);
        assert_eq!(traces.len(), 2, "{at}: {traces:?}");
    }
}
