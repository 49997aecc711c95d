//! The files of istio-manifests/native/ in real Envoys, as they are and as Istio renders them: the
//! module is the proxy's only tracer, and its spans arrive.

use std::collections::BTreeSet;

use envoy_test_harness::config::{Bootstrap, Cluster};
use envoy_test_harness::{Envoy, EnvoyBinary, Options, OtlpSink, SpanKind, Upstream};
use meshtrace_test_support::applied::{self, envoy_filter, listener, manager};
use meshtrace_test_support::common::yaml;
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::Collected;
use serde_json::{Value, json};

use crate::by_istio::{Places, clusters, envoys, rendered};
use crate::reported::{sampled_request, spans_of};

const HOST: &str = "otel-collector.observability.svc.cluster.local";
const FLUSH: &str = "istio-manifests/native/flush.yaml";

/// A place where a file puts the tracer.
#[derive(Debug)]
struct Place {
    file: &'static str,
    /// As `make test-mesh` calls it.
    name: &'static str,
    node: &'static str,
    direction: &'static str,
    kinds: &'static [SpanKind],
}

const PLACES: [Place; 4] = [
    Place {
        file: "native/mesh-tracing-gateway.yaml",
        name: "gateway",
        node: "router",
        direction: "OUTBOUND",
        kinds: &[SpanKind::Server, SpanKind::Client],
    },
    Place {
        file: "native/mesh-tracing-waypoint.yaml",
        name: "waypoint",
        node: "waypoint",
        direction: "INBOUND",
        kinds: &[SpanKind::Server],
    },
    Place {
        file: "native/mesh-tracing.yaml",
        name: "sidecar-inbound",
        node: "sidecar",
        direction: "INBOUND",
        kinds: &[SpanKind::Server],
    },
    Place {
        file: "native/mesh-tracing.yaml",
        name: "sidecar-outbound",
        node: "sidecar",
        direction: "OUTBOUND",
        kinds: &[SpanKind::Client],
    },
];

/// What the agent hands to Envoy as `--config-yaml`.
fn flush() -> String {
    let map = yaml(FLUSH);
    let text = map["data"]["custom_bootstrap.json"].as_str();
    text.expect("the file of that name").to_owned()
}

/// The patches of a file that are meant for the place, as Istio takes them.
fn filter_for(place: &Place) -> Value {
    let mut filter = envoy_filter(&format!("istio-manifests/{}", place.file));
    let context = match place.name {
        "gateway" => "GATEWAY",
        "sidecar-outbound" => "SIDECAR_OUTBOUND",
        _ => "SIDECAR_INBOUND",
    };
    let patches = applied::list(&mut filter["spec"]["configPatches"]);
    patches.retain(|patch| {
        let wanted = patch["match"]["context"].as_str();
        wanted == Some("ANY") || wanted == Some(context)
    });
    assert_eq!(patches.len(), 2, "{place:?}");
    filter
}

/// An Envoy as the proxy of that place, with this connection manager.
fn start(binary: &EnvoyBinary, place: &Place, manager: &Value) -> Collected {
    let upstream = Upstream::start().expect("an upstream");
    let sink = OtlpSink::start().expect("a collector");
    let mut names = BTreeSet::new();
    clusters(manager, &mut names);
    let node = format!(
        "{}~10.0.0.1~shop-1.default~default.svc.cluster.local",
        place.node
    );
    let ingress = listener("ingress", manager).merge(json!({"traffic_direction": place.direction}));
    let bootstrap = names
        .iter()
        .map(|name| Cluster::http1(name, upstream.address()))
        .fold(Bootstrap::new(), Bootstrap::cluster)
        .node(&node, "shop.default")
        .cluster(Cluster::http1(
            &format!("outbound|4318||{HOST}"),
            sink.http_addr(),
        ))
        .listener(ingress);
    let options: Options = native::options()
        .argument("--config-yaml")
        .argument(&flush());
    let envoy = Envoy::start_with(binary, bootstrap, options).expect("an Envoy that starts");
    Collected {
        envoy,
        upstream,
        sink,
        host: Host::Native,
    }
}

/// One request is the place's spans and no others, and the upstream is told the last one.
fn check(binary: &EnvoyBinary, place: &Place, manager: &Value) {
    let at = format!("{place:?} on {}", binary.reported_version());
    let provider = &manager["tracing"]["provider"]["name"];
    assert_eq!(*provider, "meshtrace", "{at}");
    let mesh = start(binary, place, manager);
    let [trace_id, span_id, _] = sampled_request(&mesh, &at);
    let restarts = place.name == "gateway";
    let spans = spans_of(&mesh, &trace_id, place.kinds, restarts, &at);
    let last = spans.last().expect("a span");
    assert_eq!(span_id, last.span_id, "{at}");
    // Of the bootstrap's node, which is Istio's name for its own tracers' spans too.
    assert_eq!(last.service, "shop.default", "{at}");
    let export = mesh.sink.exports().remove(0);
    assert_eq!(export.path, "/v1/traces", "{at}");
    assert_eq!(export.header_text("host").as_deref(), Some(HOST), "{at}");
    for counter in ["panics", "report.dropped.unknown_cluster"] {
        assert_eq!(mesh.counter(counter), 0, "{at} {counter}");
    }
    let dump = mesh.envoy.admin("GET", "/config_dump");
    let dump = dump.expect("the bootstrap of the dump").text();
    assert!(dump.contains("mesh_tracing_flush"), "{at}");
}

#[test]
fn the_module_is_the_tracer_of_every_place() {
    let mut ran = 0;
    for binary in native::envoys() {
        for place in &PLACES {
            // In the place of each tracer that Istio may have put there, and of none.
            for tracer in ["otel", "none"] {
                let mut manager = manager(tracer);
                applied::apply(&filter_for(place), &mut manager);
                check(&binary, place, &manager);
                ran += 1;
            }
        }
    }
    assert_eq!(ran, 24);
    promises::held(
        "Manifests and examples",
        "The native tracer's files make the module the only tracer",
        "each file of istio-manifests/native over a proxy with the OpenTelemetry tracer and one without, on Envoy 1.38, 1.39 \
         and 1.40",
        "24 of 24 proxies report the spans of their place, and the upstream is told the last one",
    );
}

#[test]
#[ignore = "needs what `make test-mesh` has Istio render"]
fn rendered_by_istio_the_module_is_the_tracer_of_every_place() {
    let mut places = Places::default();
    let mut ran = 0;
    for rendered in rendered() {
        let of_file = |place: &&Place| place.file == rendered.manifest;
        if !PLACES.iter().any(|place| of_file(&place)) {
            continue;
        }
        if !places.take(&rendered) {
            continue;
        }
        let mut here = PLACES.iter().filter(of_file);
        let place = here.find(|place| place.name == rendered.place);
        let place = place.unwrap_or_else(|| panic!("{rendered:?}"));
        assert_eq!(rendered.direction, place.direction, "{place:?}");
        for binary in envoys(&rendered.proxy) {
            check(&binary, place, &rendered.manager(&binary));
            ran += 1;
        }
    }
    let seen: Vec<_> = places.of_manifests().collect();
    let expected = [
        ("native/mesh-tracing-gateway.yaml", vec!["gateway"]),
        ("native/mesh-tracing-waypoint.yaml", vec!["waypoint"]),
        (
            "native/mesh-tracing.yaml",
            vec!["sidecar-inbound", "sidecar-outbound"],
        ),
    ];
    assert_eq!(seen, expected);
    // Four places, on the two Envoys of 1.31.
    assert_eq!(ran, 8);
}
