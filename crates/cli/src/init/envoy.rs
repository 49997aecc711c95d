//! The whole configuration of a standalone Envoy.

use meshtrace_render::{Rendering, Tracer};
use serde_json::{Value, json};

use super::answers::{Answers, Place};
use super::files::{File, Options, merge};
use crate::output::yaml;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// `envoy.yaml`.
pub(super) fn bootstrap(
    answers: &Answers,
    options: &Options,
    rendering: &Rendering,
) -> Result<File, String> {
    let mut manager = json!({
        "@type": concat!(
            "type.googleapis.com/envoy.extensions.filters.network.",
            "http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "ingress",
        // The client's address, and no header of its own, says who it is.
        "use_remote_address": answers.place == Place::Edge,
    });
    let mut routes = json!({"virtual_hosts": [{
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}],
    }]});
    let mut bootstrap = json!({
        "node": {"id": "envoy-1", "cluster": "envoy"},
        "admin": {"address": socket("127.0.0.1", 9901)},
        "static_resources": {"clusters": [cluster("application", "127.0.0.1", 8080)]},
    });
    let mut comments = rendering.head.clone();
    comments.push(
        "Made by meshtrace init. README.md beside it says how to run, try and remove it."
            .to_owned(),
    );
    for piece in &rendering.pieces {
        let value: Value = serde_saphyr::from_str(&piece.content)
            .map_err(|error| format!("{} is not YAML: {error}", piece.name))?;
        match piece.name.as_str() {
            "connection-manager.yaml" | "early-header-mutation.yaml" => merge(&mut manager, value),
            "route-configuration.yaml" => merge(&mut routes, value),
            _ => merge(&mut bootstrap, value),
        }
        comments.extend(piece.notes.iter().cloned());
    }
    if let Some(tracer) = answers.tracer.own() {
        let (host, port) = options.collector(answers);
        let provider = json!({"tracing": {"provider": provider(tracer)}});
        merge(&mut manager, provider);
        let mut collector = cluster("tracing-collector", &host, port);
        if tracer == Tracer::OpenTelemetry {
            merge(&mut collector, http2());
        }
        let clusters = json!({"static_resources": {"clusters": [collector]}});
        merge(&mut bootstrap, clusters);
    }
    merge(&mut manager, json!({"route_config": routes}));
    let listener = json!({
        "name": "ingress",
        "address": socket("0.0.0.0", 10000),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    });
    merge(
        &mut bootstrap,
        json!({"static_resources": {"listeners": [listener]}}),
    );
    Ok(File::new("envoy.yaml", yaml(&bootstrap, &comments)?))
}

fn provider(tracer: Tracer) -> Value {
    let zipkin = |option: &str| {
        json!({
            "name": "envoy.tracers.zipkin",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                "collector_cluster": "tracing-collector",
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": true,
                "trace_context_option": option,
            },
        })
    };
    match tracer {
        Tracer::OpenTelemetry => json!({
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": "tracing-collector"}},
                "service_name": "envoy",
            },
        }),
        Tracer::ZipkinB3 => zipkin("USE_B3"),
        Tracer::ZipkinB3WithW3c => zipkin("USE_B3_WITH_W3C_PROPAGATION"),
    }
}

fn socket(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn cluster(name: &str, host: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(host, port)}}]}],
        },
    })
}

fn http2() -> Value {
    let mut options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    merge(
        &mut options,
        json!({"@type": format!("type.googleapis.com/{HTTP_OPTIONS}")}),
    );
    json!({"typed_extension_protocol_options": {HTTP_OPTIONS: options}})
}
