//! One worker under full load, every request sampled: no span is dropped.

use std::process::Command;
use std::time::Instant;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Protocol;
use envoy_test_harness::{Envoy, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::reporting::mesh_tracing;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::json;

const SECONDS: u32 = 5;

/// Spans are counted in what the collector received.
#[test]
#[ignore = "seconds of full load: make long"]
fn no_span_is_dropped_under_full_load() {
    each_supported(|envoy| {
        let collector = Upstream::start().expect("a collector");
        let config = json!({"report": {"cluster": "collector"}});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").direct_response(200, ""))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("collector", collector.address()));
        let envoy_process = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
        let address = envoy_process.address("ingress").expect("its address");
        let header = format!("traceparent: 00-{TRACE}-{SPAN}-01");
        let started = Instant::now();
        let output = Command::new("wrk")
            .args(["-t1", "-c32", &format!("-d{SECONDS}s"), "-H", &header])
            .arg(format!("http://{address}/api/items/7?id=7"))
            .output()
            .expect("wrk, from the Debian package of that name");
        assert!(output.status.success(), "{output:?}");
        let elapsed = started.elapsed();

        let counter = |name: &str| envoy_process.stat(name).expect("the counter");
        // wrk goes away in the middle of its last requests.
        envoy_process
            .wait_for_stat("http.ingress.downstream_cx_active", |active| active == 0)
            .expect("no request to be open");
        let requests = counter("http.ingress.downstream_rq_completed");
        envoy_process
            .wait_for_stat("wasmcustom.meshtrace.report.exported", |spans| {
                spans >= requests
            })
            .expect("every span to be exported");
        let bodies = collector.take();
        assert!(bodies.iter().all(|call| call.protocol == Protocol::Http1));
        let received: usize = bodies.iter().map(|call| spans(&call.body)).sum();
        assert_eq!(received as u64, requests);
        for reason in ["queue_full", "refused", "expired", "unknown_cluster"] {
            let name = format!("wasmcustom.meshtrace.report.dropped.{reason}");
            assert_eq!(counter(&name), 0, "{name}");
        }
        let rate = requests as f64 / elapsed.as_secs_f64();
        println!(
            "Envoy {}: {rate:.0} spans a second on one worker, none dropped",
            envoy.reported_version()
        );
    });
}

fn spans(body: &[u8]) -> usize {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}
