//! A share of all traces: each of them is whole, or nowhere.

use std::collections::BTreeSet;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpFilter, Listener, WasmFilter};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{Mesh, module};
use meshtrace_test_support::sampling::around;
use meshtrace_test_support::sampling::assert_about;
use meshtrace_test_support::tracers::{Sinks, Tracer};
use serde_json::json;

use super::{
    TRACERS, assert_no_host_errors, config, exported, route_sampling, sampled, send, to_upstream,
    told, two_proxies,
};

#[test]
fn a_tenth_of_all_traces_is_whole_and_the_rest_is_nowhere() {
    /// Of each tracer.
    const ORDERS: usize = 400;
    each_supported(|envoy| {
        let what = envoy.reported_version();
        let proxies = two_proxies(envoy);
        let (mesh, sinks) = (&proxies.gateway, &proxies.sinks);
        let (mut orders, mut payments) = (BTreeSet::new(), BTreeSet::new());
        for tracer in TRACERS {
            let what = format!("{tracer:?} on {what}");
            let name = format!("{tracer:?}");
            let sent = |path: &str, count| sampled(&send(mesh, &name, tracer, path, count));
            let kept = sent("/orders?page=2", ORDERS);
            assert_about(kept.len(), 0.1, ORDERS, &what);
            orders.extend(kept);
            assert!(sent("/health", 20).is_empty(), "{what}");
            assert!(sent("/metrics/envoy", 20).is_empty(), "{what}");
            let paid = sent("/payments/7", 20);
            assert_eq!(paid.len(), 20, "{what}");
            payments.extend(paid);
            let last = send(mesh, &name, tracer, "/last", 1).remove(0).0;
            let of = |case: &str| exported(sinks, tracer, case, &last, 2);
            assert_eq!(
                of("/orders?page=2"),
                orders,
                "{what}: gateway, sidecar and application agree"
            );
            assert!(of("/health").is_empty(), "{what}");
            assert!(of("/metrics/envoy").is_empty(), "{what}");
            assert_eq!(of("/payments/7"), payments, "{what}");
        }
        let count = ORDERS * TRACERS.len();
        assert_about(orders.len(), 0.1, count, what);

        let counter = |name: &str| {
            let name = format!("wasmcustom.meshtrace.route_sampling.{name}");
            mesh.envoy.stat(&name).expect("a counter")
        };
        assert_eq!(counter("rule.payments.sampled"), 60, "{what}");
        assert_eq!(counter("rule.probes.dropped"), 60, "{what}");
        assert_eq!(counter("rule.metrics.dropped"), 60, "{what}");
        let number = |count: usize| u64::try_from(count).expect("a number");
        assert_eq!(counter("default.sampled"), number(orders.len()), "{what}");
        let dropped = number(count - orders.len());
        assert_eq!(counter("default.dropped"), dropped, "{what}");
    });
}

/// With the helper header the trace id of the span decides, as it would anywhere else.
#[test]
fn the_helper_header_makes_a_ratio_consistent_and_the_upstream_filter_tells_it() {
    const HELPER: &str = "x-active-trace-id";
    each_supported(|envoy| {
        for tracer in [Tracer::OpenTelemetry, Tracer::ZipkinB3WithW3c] {
            let what = format!("{tracer:?} on {}", envoy.reported_version());
            let sinks = Sinks::start();
            let keys = format!(
                r#""default": {{"ratio": 0.25}}, "ids": {{"trace_id_header": "{HELPER}"}}"#
            );
            let json = config(tracer, &keys);
            let ids = HttpFilter::header_mutation(
                "ids",
                json!([
                    {"remove": HELPER},
                    {"append": {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                                "header": {"key": HELPER, "value": "%TRACE_ID%"}}},
                ]),
            );
            // It is the one that takes the header of the decision away here.
            let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
            let manager = around(tracer, &json)
                .virtual_host(json!({"request_headers_to_remove": null}))
                .filter(ids)
                .filter(route_sampling(&json))
                .upstream_filter(
                    WasmFilter::new("upstream", module("route_sampling")).configuration(upstream),
                );
            let listener = Listener::http("ingress", to_upstream(manager));
            let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
            let mut connection = mesh.connect("ingress");
            let mut kept = 0;
            for _ in 0..100 {
                let seen = mesh.pass(&mut connection, &Request::get("/"));
                let (trace_id, sampled) = told(tracer, &seen);
                let consistent = trace_id[18..] >= *"c0000000000000";
                assert_eq!(sampled, consistent, "{what}: {trace_id}");
                let state = seen.header_text("tracestate").unwrap_or_default();
                assert_eq!(state, if sampled { "ot=th:c" } else { "" }, "{what}");
                for name in [HELPER, "x-envoy-force-trace"] {
                    assert_eq!(seen.header_text(name), None, "{what}: {name}");
                }
                kept += usize::from(sampled);
            }
            assert_about(kept, 0.25, 100, &what);
            assert_no_host_errors(&mesh.envoy);
        }
    });
}
