//! A number of traces a second, for all workers of a proxy together.

use std::collections::BTreeSet;

use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::{Envoy, OtlpSink, Upstream};
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::{collector, traceparent};
use meshtrace_test_support::sampling::assert_one_bucket;
use serde_json::json;

use super::{config, tracestate};

/// Two workers: the bucket is one for both.
#[test]
fn the_workers_of_a_proxy_share_one_bucket() {
    const RATE: u64 = 20;
    each_host(|host, envoy, version| {
        let sampling = json!({"default": {"per_second": RATE}});
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let manager = host.manager(config(sampling, json!({})));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let envoy =
            Envoy::start_with(envoy, bootstrap, host.options().concurrency(2)).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");
        let kept = assert_one_bucket(host, &envoy, address, RATE, 34);
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
