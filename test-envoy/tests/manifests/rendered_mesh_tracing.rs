//! What Istio's own code makes of the manifests of `mesh_tracing`, in real Envoys with a collector
//! behind the cluster of Istio's name: which spans each place reports, and that no tracer of the
//! proxy's is left beside the filter.

use std::collections::BTreeSet;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener};
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, SpanKind, Upstream};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::reporting::Collected;
use serde_json::json;

use crate::by_istio::{Places, Rendered, clusters, envoys, rendered};
use crate::reported::{sampled_request, spans_of};

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
        host: Host::Wasm,
    }
}

#[test]
#[ignore = "needs what `make test-mesh` has Istio render"]
fn every_place_reports_its_spans_and_is_the_only_tracer() {
    use SpanKind::{Client, Server};
    let mut places = Places::default();
    let mut run = 0;
    for rendered in rendered() {
        if expected(&rendered.manifest).is_none() {
            continue;
        }
        if !places.take(&rendered) {
            // The mesh's default provider is still there, but that a Telemetry without a selector
            // is for waypoints too, which a plugin without a selector is not: the manifest says so.
            let is_off = rendered.manager["tracing"].is_null();
            let is_for_all = rendered.manifest.ends_with("mesh-tracing.yaml");
            assert_eq!(is_off, is_for_all, "{rendered:?}");
            continue;
        }
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
            let [trace_id, span_id, _] = sampled_request(&mesh, &at);
            let restarts = rendered.manifest.ends_with("-gateway.yaml");
            let kinds: &[SpanKind] = match rendered.place.as_str() {
                "gateway" => &[Server, Client],
                "sidecar-outbound" => &[Client],
                _ => &[Server],
            };
            let spans = spans_of(&mesh, &trace_id, kinds, restarts, &at);
            let last = spans.last().expect("a span");
            assert_eq!(span_id, last.span_id, "{at}");
            let export = mesh.sink.exports().remove(0);
            assert_eq!(export.path, "/v1/traces", "{at}");
            assert_eq!(export.header_text("host").as_deref(), Some(HOST), "{at}");
            for counter in ["config_invalid", "host_errors"] {
                assert_eq!(mesh.counter(counter), 0, "{at} {counter}");
            }
            run += 1;
        }
    }
    for (manifest, places) in places.of_manifests() {
        assert_eq!(Some(places.as_slice()), expected(manifest), "{manifest}");
    }
    assert_eq!(places.of_manifests().count(), 6, "{places:?}");
    // Five places: the WasmPlugins on all Envoys, the TrafficExtensions on the two of 1.31.
    assert_eq!(run, 30);
}
