//! Every span is exported once.

use std::collections::BTreeSet;
use std::thread;

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};

const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];

fn sampled() -> Request {
    Request::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// Sends `count` sampled requests, which all succeed.
fn send(mesh: &Collected, count: usize) {
    let mut connection = mesh.connect();
    for _ in 0..count {
        let response = connection.send(&sampled()).expect("a response");
        assert_eq!(response.status, 200);
    }
}

#[test]
fn two_workers_lose_and_double_no_span() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 50;

    for envoy in envoys() {
        for protocol in PROTOCOLS {
            let what = format!("{} {protocol}", envoy.reported_version());
            let report = r#"{"batch": {"max_spans": 64}}"#;
            let tracing = tracing(reporting(protocol, report)).spawn_upstream_span(true);
            let listener = Listener::http("ingress", manager(tracing));
            let mesh = Collected::on(
                Host::Native,
                &envoy,
                protocol,
                Bootstrap::new().listener(listener),
                options().concurrency(2),
            );
            thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| send(&mesh, REQUESTS));
                }
            });
            let count = 2 * CLIENTS * REQUESTS;
            mesh.wait_for_counter("report.exported", count as u64);
            let spans = mesh.sink.wait_for_spans(count).expect("the spans");
            assert_eq!(spans.len(), count, "{what}");
            let servers: BTreeSet<_> = spans
                .iter()
                .filter(|span| span.kind == SpanKind::Server)
                .map(|span| span.span_id.clone())
                .collect();
            assert_eq!(servers.len(), count / 2, "{what}");
            for client in spans.iter().filter(|span| span.kind == SpanKind::Client) {
                let parent = client.parent_span_id.as_ref().expect("a parent");
                assert!(servers.contains(parent), "{what}: {client:#?}");
            }
            assert_eq!(mesh.counter("report.exported"), count as u64, "{what}");
            assert_eq!(mesh.counter("report.dropped.queue_full"), 0, "{what}");
            assert_eq!(mesh.counter("panics"), 0, "{what}");
        }
    }
}
