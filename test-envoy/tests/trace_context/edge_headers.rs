//! What SECURITY.md says of headers that Envoy, or an application, takes for more than they are.

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, Tracing,
};
use envoy_test_harness::{EnvoyBinary, OtlpSink, each_supported};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{self, Mesh, get, manager, trace_context};
use meshtrace_test_support::promises;
use serde_json::json;

/// Names of trace headers with an underscore, as an application behind CGI or WSGI reads them too.
const UNDERSCORES: [(&str, &str); 4] = [
    ("x_b3_traceid", common::TRACE),
    ("x_b3_spanid", common::SPAN),
    ("x_datadog_trace_id", "1"),
    ("uber_trace_id", "1"),
];

#[test]
fn names_with_underscores_pass_every_removal_until_envoy_drops_them() {
    let config = r#"{"incoming": "ignore", "clear": ["jaeger", "datadog", "b3multi"]}"#;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let dropping = json!({
            "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"},
        });
        let mesh = Mesh::start_on(
            envoy,
            vec![
                ("as it is", manager(trace_context(config))),
                ("dropping", manager(trace_context(config)).merge(dropping)),
            ],
        );
        for (listener, passes) in [("as it is", true), ("dropping", false)] {
            let left = mesh.pass(&mut mesh.connect(listener), &get(&UNDERSCORES));
            for (name, _) in UNDERSCORES {
                assert_eq!(
                    left.header(name).is_some(),
                    passes,
                    "{listener}, {name} on {version}"
                );
            }
        }
    });
    promises::held(
        "Headers and connections",
        "Headers whose names have underscores reach no application behind `headers_with_underscores_action: DROP_HEADER`.",
        "x_b3_traceid and three more before incoming: ignore, with the action and without it (they pass then).",
        "0 of 4 left, 4 versions",
    );
}

#[test]
fn a_client_does_not_name_the_cluster_that_it_comes_from() {
    let header = [("x-envoy-downstream-service-cluster", "the client's")];
    let sink = OtlpSink::start().expect("a collector");
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let traced = |remote: bool| {
            HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("upstream"))
                .tracing(Tracing::opentelemetry_grpc("collector", "edge"))
                .use_remote_address(remote)
        };
        let config =
            meshtrace_config::read(br#"{"incoming": "restart"}"#).expect("a configuration");
        let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
        let early = traced(false)
            .early_header_mutation(rendered.extension.clone())
            .merge(rendered.manager.to_json());
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("collector", sink.grpc_addr()))
            .listener(Listener::http("as it is", traced(false)))
            .listener(Listener::http("remote", traced(true)))
            .listener(Listener::http("early", early));
        let mesh = Mesh::with(envoy, bootstrap);
        for (listener, expected) in [("as it is", true), ("remote", false), ("early", false)] {
            sink.clear();
            mesh.pass(&mut mesh.connect(listener), &get(&header));
            let spans = sink.wait_for_spans(1).expect("a span");
            let said = spans[0].attribute("downstream_cluster") == Some("the client's");
            assert_eq!(said, expected, "{listener} on {version}: {:?}", spans[0]);
        }
    });
    promises::held(
        "Spans",
        "No client's `x-envoy-downstream-service-cluster` becomes an attribute behind the early mutation, or with \
         `use_remote_address`",
        "OpenTelemetry tracer, with the mutation, with use_remote_address, and with neither (it becomes one then)",
        &format!("0 of 2, {} versions", EnvoyBinary::SUPPORTED.len()),
    );
}
