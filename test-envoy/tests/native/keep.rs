//! What is kept although the rules say no.

use std::time::Duration;

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::native::{envoys, manager, start, tracing};
use serde_json::json;

#[test]
fn failures_and_slow_requests_are_kept_with_their_attempts_and_a_never_is_not() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({
            "sampling": {
                "rules": [{"match": {"path": {"prefix": "/health"}}, "sample": "never"}],
                "default": {"ratio": 0},
            },
            "report": {
                "cluster": "collector",
                "keep": {"errors": true, "slower_than_ms": 200},
            },
        });
        let tracing = tracing(config).spawn_upstream_span(true);
        let mesh = start(&envoy, "http/protobuf", manager(tracing));
        mesh.upstream.respond_with(|request| match &*request.path {
            "/broken" | "/health" => Reply::status(500),
            "/slow" => Reply::ok().delay(Duration::from_millis(300)),
            _ => Reply::ok(),
        });
        for path in ["/fine", "/broken", "/health", "/slow", "/direct"] {
            mesh.send(&Request::get(path));
        }
        mesh.sink.wait_for_spans(4).expect("the spans");
        std::thread::sleep(Duration::from_millis(200));
        let spans = mesh.sink.spans();
        assert_eq!(spans.len(), 4, "{version}: {spans:#?}");
        for (path, reason) in [("/broken", "error"), ("/slow", "slow")] {
            let server = spans.iter().find(|span| {
                span.kind == SpanKind::Server && span.attribute("url.path") == Some(path)
            });
            let server = server.unwrap_or_else(|| panic!("{version}: {spans:#?}"));
            assert_eq!(server.attribute("meshtrace.kept"), Some(reason));
            let client = spans.iter().find(|span| span.is_child_of(server));
            let client = client.unwrap_or_else(|| panic!("{version}: {spans:#?}"));
            assert_eq!(client.attribute("meshtrace.kept"), None);
            assert_eq!(server.status_error, reason == "error");
        }
        assert_eq!(mesh.counter("report.kept"), 2, "{version}");
    }
}
