//! What Istio's own code makes of the manifests, in real Envoys: `make test-mesh` has it rendered
//! by istiod's generator and the agent's image puller, and runs this. The answers are those of
//! configurations written by hand.

use std::collections::BTreeSet;

use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, Listener, Route, TraceContextOption,
    Tracing,
};
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_config::read;
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, get, trace_context, trace_headers};
use meshtrace_test_support::example::with_new_ids_named;
use serde_json::json;

use crate::by_istio::{Places, Rendered, clusters, envoys, rendered};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";
/// The tracers that `make test-mesh` lets Istio configure.
fn zipkin() -> Tracing {
    Tracing::zipkin("collector")
        .trace_context_option(TraceContextOption::B3WithW3c)
        .shared_span_context(false)
}

fn zipkin_b3() -> Tracing {
    zipkin().trace_context_option(TraceContextOption::B3)
}

fn otel() -> Tracing {
    Tracing::opentelemetry_grpc("collector", "sidecar")
}

/// The same by hand, without Istio; `None` for a manifest of which only a good answer is wanted.
fn by_hand(rendered: &Rendered) -> Option<HttpConnectionManager> {
    const UPSTREAM: &str =
        r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
    const BEHIND_ZIPKIN_B3: &str =
        r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext", "b3multi"]}"#;
    const BESIDE_ZIPKIN: &str = r#"{"extract": ["b3", "b3multi", "tracecontext"], "inject": ["tracecontext"], "clear": ["b3"]}"#;
    let filter = |config: &str| trace_context(config).failure_policy(FailurePolicy::FailOpen);
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    // A gateway's tracer reports a span for each attempt, and trusts no address but the peer's.
    let gateway = rendered.place == "gateway";
    let manager = manager.use_remote_address(gateway);
    let otel = || otel().spawn_upstream_span(gateway);
    Some(match rendered.manifest.as_str() {
        "envoyfilter/trace-context-no-tracer.yaml" => {
            manager.filter(filter(r#"{"inject": ["tracecontext", "b3multi"]}"#))
        }
        path if path.starts_with("envoyfilter/trace-context-otel-upstream") => {
            manager.tracing(otel()).upstream_filter(filter(UPSTREAM))
        }
        path if path.starts_with("envoyfilter/trace-context-zipkin-b3-upstream") => manager
            .tracing(zipkin_b3().spawn_upstream_span(gateway))
            .upstream_filter(filter(BEHIND_ZIPKIN_B3)),
        "envoyfilter/trace-context-otel-early.yaml" => {
            let config = read(b"{}").expect("a configuration");
            let made = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
            manager
                .tracing(otel())
                .early_header_mutation(made.extension)
        }
        "envoyfilter/trace-context-zipkin-b3-early.yaml" => {
            let config = read(b"{}").expect("a configuration");
            let made = early_mutation(&config, Tracer::ZipkinB3).expect("a mutation");
            manager
                .tracing(zipkin_b3().spawn_upstream_span(gateway))
                .early_header_mutation(made.extension)
        }
        path if is_plugin(path) => manager
            .tracing(zipkin().spawn_upstream_span(gateway))
            .filter(filter(BESIDE_ZIPKIN)),
        _ => return None,
    })
}

/// Of `manifest_files.rs`: `trace_context` beside the Zipkin tracer.
fn is_plugin(manifest: &str) -> bool {
    let folders = ["wasmplugin/", "trafficextension/"];
    let name = folders
        .iter()
        .find_map(|folder| manifest.strip_prefix(folder));
    name.is_some_and(|name| name.starts_with("trace-context"))
}

fn arrivals() -> Vec<Vec<(&'static str, String)>> {
    let w3c = vec![
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("tracestate", "a=1".to_owned()),
    ];
    let b3 = vec![("b3", format!("{OTHER_TRACE}-{OTHER_SPAN}-1"))];
    let multi = vec![
        ("x-b3-traceid", OTHER_TRACE.to_owned()),
        ("x-b3-spanid", OTHER_SPAN.to_owned()),
        ("x-b3-sampled", "1".to_owned()),
    ];
    let malformed = vec![("b3", "hello".to_owned())];
    vec![
        vec![],
        w3c.clone(),
        b3.clone(),
        multi.clone(),
        [w3c.clone(), b3].concat(),
        [w3c.clone(), multi].concat(),
        [w3c, malformed].concat(),
    ]
}

#[test]
#[ignore = "needs what `make test-mesh` has Istio render"]
fn the_answers_are_those_of_a_configuration_by_hand() {
    let mut places = Places::default();
    let mut compared = 0;
    for rendered in rendered() {
        // Those of mesh_tracing are in `rendered_mesh_tracing.rs`.
        if !rendered.extends_proxies() || rendered.is_of_mesh_tracing() {
            continue;
        }
        if !places.take(&rendered) {
            continue;
        }
        for envoy in envoys(&rendered.proxy) {
            let label = format!(
                "{} at {} for {} on {}",
                rendered.manifest,
                rendered.place,
                rendered.proxy,
                envoy.reported_version()
            );
            let manager = rendered.manager(&envoy);
            let by_hand = by_hand(&rendered);
            let collector = ClosedPort::reserve().expect("a port");
            let upstream = envoy_test_harness::Upstream::start().expect("an upstream");
            let mut names = BTreeSet::new();
            clusters(&manager, &mut names);
            let bootstrap = names
                .iter()
                .map(|name| {
                    if name.contains("collector.default") {
                        Cluster::http2(name, collector.address())
                    } else {
                        Cluster::http1(name, upstream.address())
                    }
                })
                .fold(Bootstrap::new(), Bootstrap::cluster)
                .cluster(Cluster::http2("collector", collector.address()))
                .listener(Listener::http(
                    "by hand",
                    by_hand.clone().unwrap_or_default(),
                ))
                .listener(
                    Listener::http("rendered", HttpConnectionManager::new()).merge(json!({
                        "filter_chains": [{"filters": [{
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": manager,
                        }]}],
                    })),
                );
            let mesh = Mesh::with(&envoy, bootstrap);
            for arrival in arrivals() {
                let arrival: Vec<_> = arrival.iter().map(|(n, v)| (*n, v.as_str())).collect();
                let left = |listener: &str, upstream: &envoy_test_harness::Upstream| {
                    upstream.take();
                    let response = mesh
                        .connect(listener)
                        .send(&get(&arrival))
                        .expect("a response");
                    assert_eq!(response.status, 200, "{label}: {}", response.text());
                    let mut requests = upstream.take();
                    assert_eq!(requests.len(), 1, "{label}");
                    let headers = trace_headers(&requests.remove(0)).join("\n");
                    with_new_ids_named(&headers, &format!("{arrival:?}"))
                };
                let answer = left("rendered", &upstream);
                if by_hand.is_none() {
                    continue;
                }
                let expected = left("by hand", &mesh.upstream);
                assert_eq!(answer, expected, "{label}: {arrival:?}");
                compared += 1;
            }
        }
    }
    // Where the manifests mean to be, and nowhere else: a match that finds nothing is no error to
    // Istio.
    let expected = |manifest: &str| -> Option<&[&str]> {
        Some(match manifest {
            // A waypoint takes what names its Gateway; an EnvoyFilter with a selector is not for
            // it.
            "envoyfilter/trace-context-no-tracer.yaml" => &["sidecar-inbound"],
            path if is_plugin(path) && path.ends_with("-gateway.yaml") => &["gateway"],
            path if is_plugin(path) && path.ends_with("-waypoint.yaml") => &["waypoint"],
            path if is_plugin(path) => &["sidecar-inbound"],
            path if path.starts_with("envoyfilter/trace-context-") && !path.contains("-edge") => {
                &["gateway", "sidecar-inbound", "sidecar-outbound"]
            }
            "together.yaml" => &["gateway", "sidecar-inbound", "sidecar-outbound"],
            _ => return None,
        })
    };
    for (manifest, places) in places.of_manifests() {
        // It patches the filter of an authoriser, which Istio adds for a policy: ext_authz_test.go.
        if manifest.starts_with("ext-authz/check-metadata") {
            assert!(places.is_empty(), "{manifest}: {places:?}");
            continue;
        }
        assert!(!places.is_empty(), "{manifest} is nowhere");
        if let Some(asked) = manifest.strip_prefix("rendered/") {
            // Its last word is the proxies that it was rendered for.
            let of = |role: &str| asked.ends_with(&format!("-{role}.yaml"));
            let is_right = match of("sidecar") {
                true => places.contains(&"sidecar-inbound") && !places.contains(&"waypoint"),
                false => places == [if of("gateway") { "gateway" } else { "waypoint" }],
            };
            assert!(is_right, "{manifest}: {places:?}");
        }
        if let Some(expected) = expected(manifest) {
            assert_eq!(places, expected, "{manifest}");
        }
    }
    assert!(compared > 100, "only {compared} answers were compared");
}

#[test]
#[ignore = "needs what `make test-mesh` has Istio render"]
fn telemetry_selects_provider_sampling_and_log() {
    let mut seen = 0;
    for rendered in rendered() {
        let provider = match rendered.manifest.as_str() {
            "telemetry/zipkin.yaml" => "envoy.tracers.zipkin",
            "telemetry/opentelemetry.yaml" => "envoy.tracers.opentelemetry",
            _ => continue,
        };
        // A waypoint takes what names it, and these name nobody.
        if rendered.place == "waypoint" {
            continue;
        }
        let tracing = &rendered.manager["tracing"];
        assert_eq!(tracing["provider"]["name"], provider, "{rendered:?}");
        assert_eq!(tracing["randomSampling"]["value"], 10, "{rendered:?}");
        let log = rendered.manager["accessLog"].to_string();
        assert!(log.contains("%TRACE_ID%"), "{log}");
        seen += 1;
    }
    assert!(seen > 6, "only {seen}");
}
