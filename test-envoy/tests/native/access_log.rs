//! `%TRACE_ID%` and `%SPAN_ID%`: every line names the span that is exported.

use std::collections::BTreeMap;

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{HttpConnectionManager, Route};
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, export, start, tracing};
use serde_json::json;

#[test]
fn every_line_has_the_ids_of_the_exported_span() {
    for envoy in envoys() {
        for spawn in [false, true] {
            let what = format!("{} {spawn}", envoy.reported_version());
            let config =
                json!({"sampling": {"default": "always"}, "report": {"cluster": "collector"}});
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/direct").direct_response(403, "no"))
                .route(Route::prefix("/moved").redirect("/there"))
                .route(
                    Route::prefix("/retried")
                        .cluster("upstream")
                        .retry("5xx", 2),
                )
                .route(Route::prefix("/ok").cluster("upstream"))
                .access_log(
                    json!({"trace": "%TRACE_ID%", "span": "%SPAN_ID%", "path": "%REQ(:PATH)%"}),
                )
                .filter(export())
                .tracing(tracing(config).spawn_upstream_span(spawn));
            let mesh = start(&envoy, "http/protobuf", manager);
            mesh.upstream
                .respond_with(|request| match request.path.as_str() {
                    "/retried" => Reply::status(503),
                    _ => Reply::ok(),
                });
            let paths = ["/ok", "/direct", "/moved", "/retried", "/unknown"];
            let mut connection = mesh.connect();
            for path in paths {
                connection.send(&Request::get(path)).expect("a response");
                let parent = format!("00-{TRACE}-{SPAN}-01");
                let joined = Request::get(path).header("traceparent", parent);
                connection.send(&joined).expect("a response");
            }
            let lines = mesh.envoy.access_log("ingress").wait_for_lines(10);
            let lines = lines.expect("ten lines");
            mesh.sink.wait_for_spans(10).expect("the spans");
            std::thread::sleep(std::time::Duration::from_millis(300));
            let spans = mesh.sink.spans();
            let servers: BTreeMap<_, _> = spans
                .iter()
                .filter(|span| span.kind == SpanKind::Server)
                .map(|span| (span.span_id.as_str(), span))
                .collect();
            assert_eq!((lines.len(), servers.len()), (10, 10), "{what}: {spans:#?}");
            for line in &lines {
                let text = |key: &str| line[key].as_str().expect("text");
                let span = servers.get(text("span"));
                let span = span.unwrap_or_else(|| panic!("{what}: {line} {spans:#?}"));
                assert_eq!(span.trace_id, text("trace"), "{what}");
                assert_eq!(span.attribute("url.path"), Some(text("path")), "{what}");
            }
            let joined = lines.iter().filter(|line| line["trace"] == TRACE).count();
            assert_eq!(joined, 5, "{what}");
        }
    }
}
