//! What becomes of spans: every one is exported once, whatever the collector does for a while.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::{Envoy, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{
    counter, envoys, manager, options, start, tracing, wait_for_counter,
};
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
            let mesh = Collected::with_options(
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
            wait_for_counter(&mesh, "report.exported", count as u64);
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
            assert_eq!(counter(&mesh, "report.exported"), count as u64, "{what}");
            assert_eq!(counter(&mesh, "report.dropped.queue_full"), 0, "{what}");
            assert_eq!(counter(&mesh, "panics"), 0, "{what}");
        }
    }
}

#[test]
fn a_collector_that_refuses_for_a_while_loses_nothing() {
    for envoy in envoys() {
        for protocol in PROTOCOLS {
            let mesh = start(
                &envoy,
                protocol,
                manager(tracing(reporting(protocol, "{}"))),
            );
            mesh.sink.set_fault(Some(Fault::status(503)));
            send(&mesh, 5);
            let exports = mesh.sink.wait_for_exports(2).expect("a retry");
            assert!(exports.iter().all(|export| export.refused));
            mesh.sink.set_fault(None);
            mesh.sink.wait_for_spans(5).expect("the spans");
            wait_for_counter(&mesh, "report.exported", 5);
            assert_eq!(mesh.sink.spans().len(), 5, "each once");
            assert!(counter(&mesh, "report.retries") >= 1);
        }
    }
}

#[test]
fn a_collector_that_refuses_for_good_is_not_asked_again() {
    for envoy in envoys() {
        for protocol in PROTOCOLS {
            let mesh = start(
                &envoy,
                protocol,
                manager(tracing(reporting(protocol, "{}"))),
            );
            mesh.sink.set_fault(Some(Fault::status(403)));
            send(&mesh, 3);
            wait_for_counter(&mesh, "report.dropped.refused", 3);
            mesh.sink.set_fault(None);
            send(&mesh, 2);
            wait_for_counter(&mesh, "report.exported", 2);
            let log = mesh.envoy.log().expect("the log");
            // gRPC maps the status of an answer without `grpc-status`: 403 is PERMISSION_DENIED.
            let status = match protocol {
                "grpc" => "gRPC status 7",
                _ => "status 403",
            };
            let said = format!("the cluster \"collector\" refuses spans for good: {status}; ");
            assert_eq!(log.matches(&said).count(), 1, "{log}");
            let in_force = "mesh_tracing 0.1.0: the configuration is in force: the tracer ";
            assert_eq!(log.matches(in_force).count(), 1, "{log}");
        }
    }
}

#[test]
fn a_collector_that_is_down_harms_no_request() {
    use envoy_test_harness::Upstream;
    use envoy_test_harness::upstream::ClosedPort;

    for envoy in envoys() {
        for protocol in PROTOCOLS {
            let port = ClosedPort::reserve().expect("a port");
            let upstream = Upstream::start().expect("an upstream");
            let listener = Listener::http("ingress", manager(tracing(reporting(protocol, "{}"))));
            let collector = match protocol {
                "grpc" => Cluster::http2("collector", port.address()),
                _ => Cluster::http1("collector", port.address()),
            };
            let bootstrap = Bootstrap::new()
                .listener(listener)
                .cluster(Cluster::http1("upstream", upstream.address()))
                .cluster(collector);
            let envoy = Envoy::start_with(&envoy, bootstrap, options()).expect("an Envoy");
            let address = envoy.address("ingress").expect("its address");
            let mut connection = Connection::open(address).expect("a connection");
            for _ in 0..20 {
                assert_eq!(connection.send(&sampled()).expect("a response").status, 200);
            }
            let name = "dynamicmodulescustom.meshtrace.report.retries";
            envoy
                .wait_for_stat(name, |retries| retries >= 1)
                .expect("a retry");
        }
    }
}

#[test]
fn an_unknown_cluster_is_one_line_and_a_counter() {
    for envoy in envoys() {
        let report = r#"{"cluster": "nowhere"}"#;
        let config = reporting("http/protobuf", report);
        let mesh = start(&envoy, "http/protobuf", manager(tracing(config)));
        send(&mesh, 3);
        wait_for_counter(&mesh, "report.dropped.unknown_cluster", 3);
        send(&mesh, 2);
        wait_for_counter(&mesh, "report.dropped.unknown_cluster", 5);
        let log = mesh.envoy.wait_for_log("nowhere").expect("a line");
        let lines = log.lines().filter(|line| line.contains("\"nowhere\""));
        assert_eq!(lines.count(), 1, "{log}");
    }
}

/// The connections of the old configuration go on until they end, and their spans with them.
#[test]
fn an_update_loses_no_span() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let listener = |name: &str| {
            let report = format!(
                r#"{{"batch": {{"interval_ms": 60000}}, "resource": {{"service.name": "{name}"}}}}"#
            );
            let config = reporting("http/protobuf", &report);
            Listener::http("ingress", manager(tracing(config)))
        };
        let bootstrap = Bootstrap::new().watched_listener(listener("old"));
        let mesh = Collected::with_options(
            &envoy,
            "http/protobuf",
            bootstrap,
            options()
                .argument("--drain-time-s")
                .argument("1")
                .argument("--drain-strategy")
                .argument("immediate"),
        );
        send(&mesh, 7);
        mesh.envoy
            .update_listener(listener("new"))
            .expect("an update");
        let spans = mesh
            .sink
            .wait_for_spans(7)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        assert!(spans.iter().all(|span| span.service == "old"), "{version}");
        send(&mesh, 3);
        mesh.envoy
            .update_listener(listener("newer"))
            .expect("an update");
        let spans = mesh.sink.wait_for_spans(10);
        let spans = spans.unwrap_or_else(|error| panic!("{version}: {error}"));
        let new = spans.iter().filter(|span| span.service == "new");
        assert_eq!((spans.len(), new.count()), (10, 3), "{version}");
    }
}

#[test]
fn an_idle_proxy_sends_nothing() {
    let envoy = envoys().pop().expect("an Envoy");
    let config = reporting("http/protobuf", "{}");
    let mesh = start(&envoy, "http/protobuf", manager(tracing(config)));
    thread::sleep(Duration::from_millis(500));
    assert!(mesh.sink.exports().is_empty());
}
