//! What Istio's own code makes of the manifests, in real Envoys: `make test-mesh` has it rendered by istiod's generator
//! and the agent's image puller, and runs this. The answers are those of configurations written by hand.

mod common;
mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use common::{Mesh, SPAN, TRACE, get, trace_context, trace_headers};
use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, Listener, Route, TraceContextOption,
    Tracing,
};
use envoy_test_harness::upstream::ClosedPort;
use example::with_new_ids_named;
use meshtrace_config::read;
use meshtrace_render::{Tracer, early_mutation};
use serde_json::{Value, json};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A connection manager as Istio renders it, and what its proxy is told beside it.
#[derive(Debug)]
struct Rendered {
    proxy: String,
    manifest: String,
    place: String,
    manager: Value,
    routes: Value,
    extensions: Value,
    kinds: Value,
}

/// All that `make test-mesh` had rendered.
fn rendered() -> Vec<Rendered> {
    let folder = std::env::var_os("RENDERED_BY_ISTIO").expect("set by `make test-mesh`");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "only {} files", paths.len());
    let read = |path: PathBuf| {
        let text = fs::read(&path).expect("a file");
        let mut value: Value = serde_json::from_slice(&text).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Rendered {
            proxy: text(&value["proxy"]),
            manifest: text(&value["manifest"]),
            place: text(&value["place"]),
            manager: value["manager"].take(),
            routes: value["routes"].take(),
            extensions: value["extensions"].take(),
            kinds: value["kinds"].take(),
        }
    };
    paths.into_iter().map(read).collect()
}

/// The Envoys that stand for the proxy of an Istio version. Of 1.30's none has Wasm within reach.
fn envoys(proxy: &str) -> Vec<EnvoyBinary> {
    let minors: &[u32] = match proxy.get(..4) {
        Some("1.28") => &[36],
        Some("1.29") => &[37],
        Some("1.31") => &[39, 40],
        _ => &[],
    };
    let all = EnvoyBinary::all_supported().expect("the supported Envoys");
    let is_wanted = |envoy: &EnvoyBinary| {
        let exactly = |minor: u32| envoy.is_at_least(1, minor) && !envoy.is_at_least(1, minor + 1);
        minors.iter().any(|minor| exactly(*minor))
    };
    all.into_iter().filter(is_wanted).collect()
}

impl Rendered {
    /// Whether the manifest put something of ours into this place: a plugin that is discovered, or what an EnvoyFilter
    /// brings.
    fn has_ours(&self) -> bool {
        let discovered = self
            .extensions
            .as_object()
            .is_some_and(|all| !all.is_empty());
        discovered || self.manager.to_string().contains("meshtrace")
    }

    /// Whether the manifest only selects what Istio has itself.
    fn is_telemetry(&self) -> bool {
        let mut kinds = self.kinds.as_array().expect("kinds").iter();
        kinds.all(|kind| kind == "Telemetry")
    }

    /// As Envoy takes it: what is discovered stands in place, routes too, and Istio's own filters are left out.
    fn manager(&self, envoy: &EnvoyBinary) -> Value {
        let mut manager = self.manager.clone();
        // A newer istiod than the proxy: over xDS an unknown field is passed over, and in a file it is refused.
        if !envoy.is_at_least(1, 37)
            && let Some(tags) = manager.pointer_mut("/tracing/customTags")
        {
            let tags = tags.as_array_mut().expect("tags");
            tags.retain(|tag| tag.get("value").is_none());
        }
        let filters = manager["httpFilters"].as_array_mut().expect("filters");
        filters.retain(|filter| !is_istios(filter));
        inline(&mut manager, &self.extensions);
        if manager.get("rds").is_some() {
            let fields = manager.as_object_mut().expect("an object");
            fields.remove("rds");
            manager["routeConfig"] = self.routes[0].clone();
            strip_type(&mut manager["routeConfig"]);
        }
        manager["@type"] = json!(MANAGER);
        manager
    }
}

/// A filter of Istio's build of Envoy, known by its name or by the type inside of a `TypedStruct`.
fn is_istios(filter: &Value) -> bool {
    let name = filter["name"].as_str().expect("a name");
    let typed = filter["typedConfig"]["typeUrl"].as_str();
    name.starts_with("istio.") || typed.is_some_and(|typed| typed.contains("istio"))
}

fn strip_type(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("@type");
    }
}

/// Puts the extension in place of its discovery, among upstream filters too.
fn inline(value: &mut Value, extensions: &Value) {
    match value {
        Value::Object(fields) => {
            if fields.remove("configDiscovery").is_some() {
                let name = fields["name"].as_str().expect("a name");
                let found = &extensions[name]["typedConfig"];
                assert!(found.is_object(), "{name} is not in {extensions}");
                fields.insert("typedConfig".to_owned(), found.clone());
            }
            fields
                .values_mut()
                .for_each(|inner| inline(inner, extensions));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| inline(inner, extensions)),
        _ => {}
    }
}

/// The clusters that anything refers to.
fn clusters(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                if let ("cluster" | "clusterName" | "collectorCluster", Some(name)) =
                    (key.as_str(), inner.as_str())
                {
                    found.insert(name.to_owned());
                }
                clusters(inner, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| clusters(inner, found)),
        _ => {}
    }
}

/// The tracers that `make test-mesh` lets Istio configure.
fn zipkin() -> Tracing {
    Tracing::zipkin("collector")
        .trace_context_option(TraceContextOption::B3WithW3c)
        .shared_span_context(false)
}

fn otel() -> Tracing {
    Tracing::opentelemetry_grpc("collector", "sidecar")
}

/// The same by hand, without Istio; `None` for a manifest of which only a good answer is wanted.
fn by_hand(rendered: &Rendered) -> Option<HttpConnectionManager> {
    const UPSTREAM: &str =
        r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
    const BESIDE_ZIPKIN: &str = r#"{"extract": ["b3", "b3multi", "tracecontext"], "inject": ["tracecontext"], "clear": ["b3"]}"#;
    let filter = |config: &str| trace_context(config).failure_policy(FailurePolicy::FailOpen);
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    // A gateway's tracer reports a span for each attempt, and trusts no address but the peer's.
    let gateway = rendered.place == "gateway";
    let manager = manager.use_remote_address(gateway);
    let otel = || otel().spawn_upstream_span(gateway);
    Some(match rendered.manifest.as_str() {
        "envoyfilter/trace-context-downstream.yaml" => {
            manager.filter(filter(r#"{"inject": ["tracecontext", "b3multi"]}"#))
        }
        path if path.starts_with("envoyfilter/trace-context-upstream") => {
            manager.tracing(otel()).upstream_filter(filter(UPSTREAM))
        }
        "envoyfilter/trace-context-early.yaml" => {
            let config = read(b"{}").expect("a configuration");
            let made = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
            manager
                .tracing(otel())
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
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut compared = 0;
    for rendered in rendered() {
        if rendered.is_telemetry() {
            continue;
        }
        let ran = places.entry(rendered.manifest.clone()).or_default();
        if !rendered.has_ours() {
            continue;
        }
        ran.insert(rendered.place.clone());
        for envoy in envoys(&rendered.proxy) {
            let label = format!(
                "{} at {} for {} on {}",
                rendered.manifest,
                rendered.place,
                rendered.proxy,
                envoy.reported_version()
            );
            let manager = rendered.manager(&envoy);
            // A manifest with it says that it is not for proxies of 1.28 and 1.29 as it stands.
            if manager.to_string().contains("%SPAN_ID%") && !envoy.is_at_least(1, 38) {
                continue;
            }
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
    // Where the manifests mean to be, and nowhere else: a match that finds nothing is no error to Istio.
    let expected = |manifest: &str| -> Option<&[&str]> {
        Some(match manifest {
            // A waypoint takes what names its Gateway; an EnvoyFilter with a selector is not for it.
            "envoyfilter/trace-context-downstream.yaml" => &["sidecar-inbound"],
            path if is_plugin(path) && path.ends_with("-gateway.yaml") => &["gateway"],
            path if is_plugin(path) && path.ends_with("-waypoint.yaml") => &["waypoint"],
            path if is_plugin(path) => &["sidecar-inbound"],
            "envoyfilter/trace-context-early.yaml"
            | "envoyfilter/trace-context-upstream.yaml"
            | "envoyfilter/trace-context-upstream-image.yaml" => {
                &["gateway", "sidecar-inbound", "sidecar-outbound"]
            }
            _ => return None,
        })
    };
    for (manifest, places) in places {
        assert!(!places.is_empty(), "{manifest} is nowhere");
        if let Some(expected) = expected(&manifest) {
            let places: Vec<_> = places.iter().map(String::as_str).collect();
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
