//! A gateway, two sidecars and two applications: one trace, and every parent exact.

use std::net::SocketAddr;

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::{
    Envoy, EnvoyBinary, OtlpSink, Span, SpanKind, Upstream, each_supported, expect,
};
use meshtrace_test_support::common::{SPAN, TRACE, get};
use meshtrace_test_support::reporting::{collector, forward, mesh_tracing, reporting, traceparent};
use serde_json::json;

/// A proxy of an Istio mesh, with a listener for each name, direction and address to send to.
fn proxy(
    binary: &EnvoyBinary,
    sink: &OtlpSink,
    kind: &str,
    service: &str,
    listeners: &[(&str, TrafficDirection, SocketAddr)],
) -> Envoy {
    let bootstrap = Bootstrap::new()
        .node(&format!("{kind}~10.0.0.1~{service}-1.shop~svc"), service)
        .merge(
            json!({"node": {"metadata": {"NAMESPACE": "shop", "LABELS": {
            "service.istio.io/canonical-name": service}}}}),
        )
        .cluster(collector("grpc", sink));
    let bootstrap = listeners
        .iter()
        .fold(bootstrap, |bootstrap, (name, direction, next)| {
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster(name))
                .filter(mesh_tracing(reporting("grpc", "{}")));
            bootstrap
                .listener(Listener::http(name, manager).direction(*direction))
                .cluster(Cluster::http1(name, *next))
        });
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

#[test]
fn gateway_sidecars_and_applications_are_one_trace_with_exact_parents() {
    each_supported(|envoy| {
        let sink = OtlpSink::start().expect("a collector");
        let [shop, stock] = [(); 2].map(|()| Upstream::start().expect("an application"));
        let (inbound, outbound) = (TrafficDirection::Inbound, TrafficDirection::Outbound);
        let second = proxy(
            envoy,
            &sink,
            "sidecar",
            "stock",
            &[("ingress", inbound, stock.address())],
        );
        let address = |proxy: &Envoy, name: &str| proxy.address(name).expect("its address");
        let to_stock = address(&second, "ingress");
        let first = proxy(
            envoy,
            &sink,
            "sidecar",
            "shop",
            &[
                ("ingress", inbound, shop.address()),
                ("egress", outbound, to_stock),
            ],
        );
        forward(&shop, address(&first, "egress"));
        let to_shop = address(&first, "ingress");
        let gateway = proxy(
            envoy,
            &sink,
            "router",
            "gateway",
            &[("front", outbound, to_shop)],
        );

        let caller = format!("00-{TRACE}-{SPAN}-01");
        let response = get(&[("traceparent", &caller)]).send(address(&gateway, "front"));
        assert_eq!(response.expect("a response").status, 200);
        let spans = sink.wait_for_trace(TRACE, 5).expect("the trace");
        assert_eq!(spans.len(), 5, "{spans:#?}");
        let version = envoy.reported_version();
        let stations = [
            ("gateway.shop", SpanKind::Server),
            ("gateway.shop", SpanKind::Client),
            ("shop.shop", SpanKind::Server),
            ("shop.shop", SpanKind::Client),
            ("stock.shop", SpanKind::Server),
        ];
        let mut chain: Vec<&Span> = Vec::new();
        for (service, kind) in stations {
            let one = expect::span().of_service(service).of_kind(kind);
            let expected = match chain.last() {
                None => one.child_of_ids(TRACE, SPAN),
                Some(before) => one.child_of(before).begun_during(before),
            };
            chain.push(expected.find_in(&spans));
        }
        // What the applications read is the span of the proxy before them.
        assert_eq!(
            traceparent(&shop.take()[0])[1],
            chain[2].span_id,
            "{version}"
        );
        assert_eq!(
            traceparent(&stock.take()[0])[1],
            chain[4].span_id,
            "{version}"
        );
    });
}
