//! What Envoy's configuration says of the calls of a request: mirrors that are not sampled, names of
//! operations, attempts in parallel.
//!
//! Envoy's own tracers decide: they obey the same settings.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{HttpConnectionManager, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{Span, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, export, start, tracing};
use meshtrace_test_support::reporting::{reporting, traceparent};
use serde_json::json;

fn sampled(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// `trace_sampled: false` of a mirror. Without it the mirror follows the request.
#[test]
fn a_mirror_that_is_not_sampled_is_told_that_and_has_no_span() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let mirror =
            |policy: serde_json::Value| json!({"route": {"request_mirror_policies": [policy]}});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/not").cluster("upstream").merge(mirror(
                json!({"cluster": "upstream", "trace_sampled": false}),
            )))
            .route(Route::prefix("/always").cluster("upstream").merge(mirror(
                json!({"cluster": "upstream", "trace_sampled": true}),
            )))
            .route(
                Route::prefix("/")
                    .cluster("upstream")
                    .merge(mirror(json!({"cluster": "upstream"}))),
            )
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")));
        let mesh = start(&envoy, "http/protobuf", manager);
        for (path, flags, of_mirror, count) in [
            ("/not", "01", "00", 1),
            ("/always", "01", "01", 2),
            ("/", "01", "01", 2),
            ("/always", "00", "00", 0),
            ("/not", "00", "00", 0),
        ] {
            let what = format!("{version} {path} {flags}");
            let value = format!("00-{TRACE}-{SPAN}-{flags}");
            let state = "a=1,ot=th:8;rv:f0000000000000";
            let request = Request::get(path)
                .header("traceparent", value)
                .header("tracestate", state)
                .header("x-b3-traceid", TRACE)
                .header("x-b3-spanid", SPAN);
            assert_eq!(mesh.send(&request).status, 200, "{what}");
            let both = mesh.upstream.wait_for_requests(2).expect("both");
            mesh.upstream.take();
            let spans = mesh.sink.wait_for_spans(count).expect("the spans");
            // What is not to be reported would come with the others.
            thread::sleep(Duration::from_millis(200));
            assert_eq!(mesh.sink.spans().len(), count, "{what}: {spans:#?}");
            mesh.sink.clear();
            let is_mirror = |told: &&_| {
                let told: &envoy_test_harness::upstream::RecordedRequest = told;
                told.header_text("host")
                    .is_some_and(|host| host.contains("-shadow"))
            };
            let mirror = both.iter().find(is_mirror).expect("the mirror");
            let itself = both.iter().find(|told| !is_mirror(told)).expect("itself");
            let [trace, span_id, told] = traceparent(mirror);
            assert_eq!((&*trace, &*told), (TRACE, of_mirror), "{what}");
            let [_, _, told] = traceparent(itself);
            assert_eq!(told, flags, "{what}");
            let is_reported = spans.iter().any(|span| span.span_id == span_id);
            assert_eq!(is_reported, count == 2, "{what}: {spans:#?}");
            let state = mirror.header_text("tracestate").expect("a tracestate");
            assert_eq!(state.contains("th:8"), of_mirror == "01", "{what}: {state}");
            assert!(state.contains("a=1"), "{what}: {state}");
        }
        assert_eq!(mesh.counter("panics"), 0, "{version}");
    }
}

#[test]
fn upstream_operation_names_the_span_of_an_attempt() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        for (report, expected) in [
            ("{}", ["GET", "GET"]),
            (r#"{"span_name": "operation"}"#, ["in /shop", "out /shop"]),
        ] {
            let operations = json!({
                "operation": "in %REQ(:PATH)%",
                "upstream_operation": "out %REQ(:PATH)%",
            });
            let tracing = tracing(reporting("http/protobuf", report))
                .spawn_upstream_span(true)
                .merge(operations);
            let manager = meshtrace_test_support::native::manager(tracing);
            let mesh = start(&envoy, "http/protobuf", manager);
            assert_eq!(mesh.send(&sampled("/shop")).status, 200, "{version}");
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            for (kind, expected) in [SpanKind::Server, SpanKind::Client]
                .into_iter()
                .zip(expected)
            {
                let span = spans.iter().find(|span| span.kind == kind);
                assert_eq!(span.expect("a span").name, expected, "{version}");
            }
        }
    }
}

/// With hedging, an attempt whose time is over goes on beside the next one. Where its answer is used
/// it is no error, although Envoy leaves the flag `UT` on it. Neither is the other one, which Envoy then
/// ends.
#[test]
fn an_attempt_whose_answer_is_used_after_its_time_is_no_error() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let hedging = json!({"route": {
            "timeout": "20s",
            "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"},
            "hedge_policy": {"hedge_on_per_try_timeout": true},
        }});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream").merge(hedging))
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        for (slow, fast, is_error) in [(1, 5000, [false; 2]), (5000, 1, [true, false])] {
            let mesh = start(&envoy, "http/protobuf", manager.clone());
            let attempts = AtomicUsize::new(0);
            mesh.upstream.respond_with(move |_| {
                // Before the time of the second attempt is over, at 0.6 s.
                let delay = match attempts.fetch_add(1, Ordering::Relaxed) {
                    0 => 420 + slow,
                    _ => fast,
                };
                Reply::ok().delay(Duration::from_millis(delay))
            });
            assert_eq!(mesh.send(&sampled("/")).status, 200, "{version}");
            let spans = mesh.sink.wait_for_spans(3).expect("three spans");
            let mut clients: Vec<&Span> = spans
                .iter()
                .filter(|span| span.kind == SpanKind::Client)
                .collect();
            clients.sort_by_key(|span| span.start_unix_nanos);
            let [first, second] = clients.as_slice() else {
                panic!("{version}: {spans:#?}");
            };
            let found = [first, second].map(|span| span.status_error);
            assert_eq!(found, is_error, "{version}: {spans:#?}");
            assert_eq!(first.attribute("response_flags"), Some("UT"), "{version}");
            let server = spans.iter().find(|span| span.kind == SpanKind::Server);
            assert!(!server.expect("a span").status_error, "{version}");
        }
    }
}
