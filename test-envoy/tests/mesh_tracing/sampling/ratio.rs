//! A trace that starts here is sampled by its id, at both hops.

use std::collections::BTreeSet;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::{Envoy, OtlpSink, Span, Upstream};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::reporting::{collector, traceparent};
use meshtrace_test_support::sampling::assert_about;
use serde_json::json;

use super::{config, last, tracestate};

#[test]
fn a_trace_that_starts_here_follows_its_rule_by_its_id_at_both_hops() {
    const COUNT: usize = 200;
    each_host(|host, envoy, version| {
        let rules = json!({"rules": [
            {"name": "probes", "match": {"path": {"exact": "/health"}}, "sample": "never"},
            {"name": "payments", "match": {"path": {"prefix": "/payments"}}, "sample": "always"},
            {"name": "plain", "match": {"path": {"exact": "/plain"}}, "sample": "unchanged"},
        ], "default": {"ratio": 0.25}});
        // The next hop keeps an eighth of all traces, of those that come in recorded.
        let eighth = json!({"parent": "respect_dropped", "rules": [
            {"match": {"path": {"exact": "/last"}}, "sample": "unchanged"},
        ], "default": {"ratio": 0.125}});
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let inbound = host.manager(config(eighth, json!({})));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("inbound", inbound))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let sidecar = Envoy::start_with(envoy, bootstrap, host.options()).expect("a sidecar");
        let sidecar_address = sidecar.address("inbound").expect("its address");
        let middle = host.manager(config(rules, json!({})));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", middle))
            .cluster(Cluster::http1("upstream", sidecar_address))
            .cluster(collector("http/protobuf", &sink));
        let gateway = Envoy::start_with(envoy, bootstrap, host.options()).expect("a gateway");
        let address = gateway.address("ingress").expect("its address");
        let mut connection = Connection::open(address).expect("a connection");

        let mut send = |path: &str, count: usize| {
            for _ in 0..count {
                connection.send(&Request::get(path)).expect("a response");
            }
            upstream.take()
        };
        let orders = send("/orders?page=2", COUNT);
        let health = send("/health", 5);
        let payments = send("/payments/7", 5);
        let plain = send("/plain", 5);
        let (request, last) = last("/last");
        connection.send(&request).expect("a response");
        sink.wait_for_trace(&last, 2).expect("the last spans");
        let spans = sink.spans();
        let of_gateway = |span: &&Span| span.parent_span_id.is_none();

        // At the first hop a quarter, at the next an eighth, each by the id alone.
        let mut quarter = BTreeSet::new();
        let mut told = BTreeSet::new();
        for request in &orders {
            let [trace_id, _, flags] = traceparent(request);
            if trace_id[18..] >= *"c0000000000000" {
                quarter.insert(trace_id.clone());
            }
            let is_kept = trace_id[18..] >= *"e0000000000000";
            assert_eq!(flags == "01", is_kept, "{version}: {trace_id}");
            let expected = if is_kept { "ot=th:e" } else { "" };
            assert_eq!(tracestate(request), expected, "{version}: {trace_id}");
            if is_kept {
                told.insert(trace_id);
            }
        }
        assert_about(quarter.len(), 0.25, COUNT, version);
        let of_orders = |span: &&Span| span.attribute("url.path") == Some("/orders");
        let orders_of = |first: bool, state: &str| -> BTreeSet<String> {
            let spans = spans.iter().filter(of_orders);
            let spans = spans.filter(|span| of_gateway(span) == first);
            spans
                .map(|span| {
                    assert_eq!(span.trace_state, state, "{version}");
                    span.trace_id.clone()
                })
                .collect()
        };
        assert_eq!(orders_of(true, "ot=th:c"), quarter, "{version}");
        assert_eq!(orders_of(false, "ot=th:e"), told, "{version}");

        for request in health {
            assert_eq!(traceparent(&request)[2], "00", "{version}");
            assert_eq!(tracestate(&request), "", "{version}");
        }
        assert!(
            !spans
                .iter()
                .any(|span| span.attribute("url.path") == Some("/health")),
            "{version}"
        );
        let is_payment = |span: &&Span| span.attribute("url.path") == Some("/payments/7");
        let first = spans.iter().filter(is_payment).filter(of_gateway);
        let first: Vec<_> = first.collect();
        assert_eq!((first.len(), payments.len()), (5, 5), "{version}");
        assert!(first.iter().all(|span| span.trace_state == "ot=th:0"));
        for request in plain {
            let [trace_id, ..] = traceparent(&request);
            let exported = spans
                .iter()
                .find(|span| span.trace_id == trace_id && span.parent_span_id.is_none());
            let expected = trace_id[18..] >= *"fd70a400000000";
            assert_eq!(exported.is_some(), expected, "{version}: one in a hundred");
        }

        let counter = |name: &str| {
            let name = host.counter(&format!("route_sampling.{name}"));
            gateway.stat(&name).expect("a counter")
        };
        assert_eq!(counter("rule.payments.sampled"), 5, "{version}");
        assert_eq!(counter("rule.probes.dropped"), 5, "{version}");
        assert_eq!(counter("rule.plain.unchanged"), 5, "{version}");
        let kept = u64::try_from(quarter.len()).expect("a number");
        assert_eq!(counter("default.sampled"), kept, "{version}");
        assert_eq!(
            counter("default.dropped"),
            u64::try_from(COUNT).expect("a number") - kept
        );
        assert_eq!(counter("parent.sampled"), 1, "{version}: the last one");
        for envoy in [&gateway, &sidecar] {
            let errors = envoy.stat(&host.counter(match host {
                Host::Wasm => "host_errors",
                Host::Native => "panics",
            }));
            assert_eq!(errors.expect("a counter"), 0, "{version}");
        }
    });
}
