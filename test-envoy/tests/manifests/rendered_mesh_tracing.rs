//! What Istio's own code makes of the manifests of `mesh_tracing`, in real Envoys with a collector behind the cluster of
//! Istio's name: which spans each place reports, and that no tracer of the proxy's is left beside the filter.

use std::collections::{BTreeMap, BTreeSet};

use crate::by_istio::{Rendered, clusters, envoys, rendered};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener};
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE, get};
use meshtrace_test_support::reporting::{Collected, traceparent};
use serde_json::json;

const HOST: &str = "otel-collector.observability.svc.cluster.local";

/// Where the manifest means to be.
fn expected(manifest: &str) -> Option<&'static [&'static str]> {
    let name = ["wasmplugin/", "trafficextension/"]
        .iter()
        .find_map(|folder| manifest.strip_prefix(folder))?;
    match name {
        "mesh-tracing.yaml" => Some(&["gateway", "sidecar-inbound", "sidecar-outbound"]),
        "mesh-tracing-gateway.yaml" => Some(&["gateway"]),
        "mesh-tracing-waypoint.yaml" => Some(&["waypoint"]),
        _ => None,
    }
}

/// An Envoy as the proxy of that place.
fn start(rendered: &Rendered, envoy: &EnvoyBinary) -> Collected {
    let upstream = Upstream::start().expect("an upstream");
    let sink = OtlpSink::start().expect("a collector");
    let manager = rendered.manager(envoy);
    let mut names = BTreeSet::new();
    clusters(&manager, &mut names);
    let kind = match rendered.place.as_str() {
        "gateway" => "router",
        "waypoint" => "waypoint",
        _ => "sidecar",
    };
    let node = format!("{kind}~10.0.0.1~shop-1.default~default.svc.cluster.local");
    let listener = Listener::http("ingress", HttpConnectionManager::new()).merge(json!({
        "traffic_direction": rendered.direction,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    }));
    let bootstrap = names
        .iter()
        .map(|name| Cluster::http1(name, upstream.address()))
        .fold(Bootstrap::new(), Bootstrap::cluster)
        .node(&node, "shop.default")
        .cluster(Cluster::http1(
            &format!("outbound|4318||{HOST}"),
            sink.http_addr(),
        ))
        .listener(listener);
    let envoy = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
    Collected {
        envoy,
        upstream,
        sink,
    }
}

/// Sends until a trace is sampled; a gateway that starts traces of its own samples one in a hundred.
fn told_of_a_sampled_request(mesh: &Collected, at: &str) -> [String; 3] {
    let mut connection = mesh.connect();
    let request = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    for _ in 0..5000 {
        let response = connection.send(&request).expect("a response");
        assert_eq!(response.status, 200, "{at}");
        let told = traceparent(&mesh.upstream.take().remove(0));
        if told[2] == "01" {
            return told;
        }
    }
    panic!("{at}: none of 5000 was sampled");
}

#[test]
#[ignore = "needs what `make test-mesh` has Istio render"]
fn every_place_reports_its_spans_and_is_the_only_tracer() {
    use SpanKind::{Client, Server};
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut run = 0;
    for rendered in rendered() {
        if expected(&rendered.manifest).is_none() {
            continue;
        }
        let seen = places.entry(rendered.manifest.clone()).or_default();
        if !rendered.has_ours() {
            // The mesh's default provider is still there, but that a Telemetry without a selector is for waypoints too,
            // which a plugin without a selector is not: the manifest says so.
            let is_off = rendered.manager["tracing"].is_null();
            let is_for_all = rendered.manifest.ends_with("mesh-tracing.yaml");
            assert_eq!(is_off, is_for_all, "{rendered:?}");
            continue;
        }
        seen.insert(rendered.place.clone());
        assert!(rendered.manager["tracing"].is_null(), "{rendered:?}");
        // Older proxies have the WasmPlugin, of which istiod itself makes a TrafficExtension.
        let is_newer_than_proxy =
            rendered.manifest.starts_with("traffic") && rendered.proxy.as_str() < "1.30";
        if is_newer_than_proxy {
            continue;
        }
        for envoy in envoys(&rendered.proxy) {
            let at = format!(
                "{} at {} for {} on {}",
                rendered.manifest,
                rendered.place,
                rendered.proxy,
                envoy.reported_version()
            );
            let mesh = start(&rendered, &envoy);
            let [trace_id, span_id, _] = told_of_a_sampled_request(&mesh, &at);
            let restarts = rendered.manifest.ends_with("-gateway.yaml");
            assert_eq!(trace_id == TRACE, !restarts, "{at}");

            let kinds: &[SpanKind] = match rendered.place.as_str() {
                "gateway" => &[Server, Client],
                "sidecar-outbound" => &[Client],
                _ => &[Server],
            };
            let spans = mesh.sink.wait_for_trace(&trace_id, kinds.len());
            let mut spans = spans.unwrap_or_else(|error| panic!("{at}: {error}"));
            spans.sort_by_key(|span| span.kind != Server);
            let found: Vec<_> = spans.iter().map(|span| span.kind).collect();
            assert_eq!(found, kinds, "{at}");
            let parent = (!restarts).then_some(SPAN);
            assert_eq!(spans[0].parent_span_id.as_deref(), parent, "{at}");
            let last = spans.last().expect("a span");
            assert_eq!(span_id, last.span_id, "{at}");
            if let [server, client] = spans.as_slice() {
                assert!(client.is_child_of(server), "{at}");
            }
            let export = mesh.sink.exports().remove(0);
            assert_eq!(export.path, "/v1/traces", "{at}");
            assert_eq!(export.header_text("host").as_deref(), Some(HOST), "{at}");
            for counter in ["config_invalid", "host_errors"] {
                assert_eq!(mesh.counter(counter), 0, "{at} {counter}");
            }
            run += 1;
        }
    }
    for (manifest, places) in &places {
        let places: Vec<_> = places.iter().map(String::as_str).collect();
        assert_eq!(Some(places.as_slice()), expected(manifest), "{manifest}");
    }
    assert_eq!(places.len(), 6, "{places:?}");
    // Five places: the WasmPlugins on all Envoys, the TrafficExtensions on the two of 1.31.
    assert_eq!(run, 30);
}
