//! What `meshtrace render --envoy` prints, in real Envoys.

mod composed;
mod patterns;
mod reported;

use std::net::SocketAddr;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::Cluster;
use meshtrace_render::{Filter, FilterSetup, Host, Kind, ProxyTracer, Rendering, Setup, Tracer};
use meshtrace_test_support::applied::{self, merge};
use meshtrace_test_support::common;
use serde_json::{Value, json};

/// A set-up of these filters for one Envoy. The modules are those of `make build`.
fn setup(envoy: &EnvoyBinary, tracer: ProxyTracer, filters: &[(Filter, &str)]) -> Setup {
    let version = envoy.reported_version().parse().expect("a known version");
    let mut setup = Setup::new(Host::Envoy(version));
    setup.tracer = Some(tracer);
    for (filter, config) in filters {
        let mut given = FilterSetup::new(*filter, *config);
        if *filter != Filter::Native {
            let module = common::module(filter.name());
            given.url = Some(module.to_str().expect("a path in UTF-8").to_owned());
        }
        setup.filters.push(given);
    }
    setup
}

fn render(setup: &Setup) -> Rendering {
    let rendering = setup.render();
    rendering.unwrap_or_else(|refused| panic!("{setup:?}: {refused}"))
}

/// The pieces of a rendering, as a reader of YAML gets them.
fn pieces(rendering: &Rendering) -> Vec<(String, Value)> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&rendering.to_yaml()).expect("the text as YAML");
    assert_eq!(documents.len(), rendering.pieces.len());
    assert!(
        rendering
            .pieces
            .iter()
            .all(|piece| piece.kind == Kind::Envoy)
    );
    let names = rendering.pieces.iter().map(|piece| piece.name.clone());
    names.zip(documents).collect()
}

/// A connection manager with all pieces in the places that their comments name. All requests go to
/// the cluster `upstream`.
fn manager(tracer: &str, rendering: &Rendering) -> Value {
    let mut manager = applied::manager(tracer);
    for (name, piece) in pieces(rendering) {
        match name.as_str() {
            "connection-manager.yaml" => {
                if let Value::Object(manager) = &mut manager {
                    // The rendered list has the router.
                    manager.remove("http_filters");
                }
                merge(&mut manager, &piece);
            }
            "early-header-mutation.yaml" => merge(&mut manager, &piece),
            "route-configuration.yaml" => merge(&mut manager["route_config"], &piece),
            "bootstrap.yaml" => {}
            name if name.starts_with("route-") => {
                let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
                let route = json!({"name": "pay", "match": {"path": "/pay"}, "route": {"cluster": "upstream"}});
                let routes = routes.as_array_mut().expect("routes");
                routes.insert(0, route);
                merge(&mut routes[0], &piece);
            }
            other => panic!("{other} is in no place"),
        }
    }
    manager
}

/// The rendered part of the bootstrap.
fn bootstrap(rendering: &Rendering) -> Value {
    let mut pieces = pieces(rendering).into_iter();
    let own = pieces.find(|(name, _)| name == "bootstrap.yaml");
    own.map_or_else(|| json!({}), |(_, piece)| piece)
}

/// The rendered cluster, with nothing of the one that it is merged into left but the defaults.
fn collector(rendering: &Rendering, address: SocketAddr) -> Cluster {
    let bootstrap = bootstrap(rendering);
    let cluster = &bootstrap["static_resources"]["clusters"][0];
    let name = cluster["name"].as_str().expect("a name");
    let base = match cluster.get("typed_extension_protocol_options") {
        None => Cluster::http1(name, address),
        Some(_) => Cluster::http2(name, address),
    };
    base.merge(cluster.clone())
}

/// The word for a tracer in `applied::manager`.
fn word(tracer: Tracer) -> &'static str {
    match tracer {
        Tracer::OpenTelemetry => "otel",
        Tracer::ZipkinB3 => "zipkin-b3",
        Tracer::ZipkinB3WithW3c => "zipkin",
    }
}
