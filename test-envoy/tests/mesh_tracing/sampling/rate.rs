//! A number of traces a second, for all workers of a proxy together.

use std::collections::BTreeSet;
use std::time::Instant;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::{Envoy, Options, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::reporting::{collector, manager, mesh_tracing, traceparent};
use serde_json::json;

use super::{config, tracestate};

/// Two workers: the bucket is one for both.
#[test]
fn the_workers_of_a_proxy_share_one_bucket() {
    const RATE: u64 = 20;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"default": {"per_second": RATE}});
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let filter = mesh_tracing(config(sampling, json!({})));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager(filter)))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let envoy =
            Envoy::start_with(envoy, bootstrap, Options::new().concurrency(2)).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");
        let begin = Instant::now();
        let senders: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut connection = Connection::open(address).expect("a connection");
                    for _ in 0..100 {
                        let response = connection.send(&Request::get("/")).expect("a response");
                        assert_eq!(response.status, 200);
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().expect("all requests");
        }
        let seconds = begin.elapsed().as_secs() + 1;
        let counter = |name: &str| {
            let name = format!("wasmcustom.meshtrace.route_sampling.{name}");
            envoy.stat(&name).expect("a counter")
        };
        let (kept, dropped) = (counter("default.sampled"), counter("default.dropped"));
        assert_eq!(kept + dropped, 800, "{version}");
        assert_eq!(counter("per_second.failed"), 0, "{version}");
        assert!(
            kept >= RATE && kept <= RATE * (seconds + 1),
            "{version}: {kept}"
        );
        let told = upstream.take().into_iter().filter_map(|request| {
            let [trace_id, _, flags] = traceparent(&request);
            assert_eq!(tracestate(&request), "", "{version}: no probability");
            (flags == "01").then_some(trace_id)
        });
        let told: BTreeSet<_> = told.collect();
        assert_eq!(u64::try_from(told.len()).ok(), Some(kept), "{version}");
        let spans = sink.wait_for_spans(told.len()).expect("the spans");
        let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
        assert_eq!(
            (traces, spans.len()),
            (told.clone(), told.len()),
            "{version}"
        );
    });
}
