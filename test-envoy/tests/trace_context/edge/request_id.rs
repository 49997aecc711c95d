//! The request id: the client is told it, its own can be kept, and what gentler settings leave it.

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, Tracing,
};
use envoy_test_harness::{OtlpSink, each_supported};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{self, Mesh};
use serde_json::{Value, json};

use super::{Callers, NOTHING, REQUEST_ID, RESTART, manager};

/// The mutations that docs/early-mutation.md offers to those who want the client's id.
fn kept_request_id() -> Value {
    let page = common::text("docs/early-mutation.md");
    let (_, rest) = page.split_once("```yaml\n").expect("a block of YAML");
    let (yaml, _) = rest.split_once("```").expect("its end");
    serde_saphyr::from_str(yaml).expect("YAML")
}

#[test]
fn the_request_id_is_told_to_the_client_and_its_own_can_be_kept() {
    each_supported(|envoy| {
        let config = meshtrace_config::read(RESTART.as_bytes()).expect("a configuration");
        let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
        let mut extension = rendered.extension;
        let mutations = &mut extension["typed_config"]["mutations"];
        let mut all = kept_request_id();
        let list = all.as_array_mut().expect("mutations");
        list.append(mutations.as_array_mut().expect("mutations"));
        *mutations = all;

        let told = json!({"always_set_request_id_in_response": true});
        let traced = || {
            HttpConnectionManager::new()
                .tracing(Tracing::opentelemetry_grpc("otlp", "edge"))
                .early_header_mutation(extension.clone())
                .merge(told.clone())
                .route(Route::prefix("/").cluster("upstream"))
        };
        let otlp = OtlpSink::start().expect("a sink");
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", otlp.grpc_addr()))
            .listener(Listener::http(
                "edge",
                traced().merge(rendered.manager.to_json()),
            ))
            .listener(Listener::http(
                "no ids",
                traced().generate_request_id(false),
            ));
        let mesh = Mesh::with(envoy, bootstrap);
        let request = common::get(&[
            ("x-request-id", REQUEST_ID),
            ("x-client-request-id", "forged"),
        ]);
        let response = mesh.connect("edge").send(&request).expect("a response");
        let left = mesh.upstream.take().remove(0);
        let id = response.header_text("x-request-id").expect("an id");
        assert_eq!(left.header_text("x-request-id").as_ref(), Some(&id));
        assert_ne!(id, REQUEST_ID);
        assert_eq!(
            left.header_values("x-client-request-id"),
            [REQUEST_ID.as_bytes()]
        );
        let without = common::get(&[("x-client-request-id", "forged")]);
        let left = mesh.pass(&mut mesh.connect("edge"), &without);
        assert_eq!(left.header_text("x-client-request-id"), None);

        // Why `generate_request_id` is among the settings.
        let flags = |listener| {
            let left = mesh.pass(&mut mesh.connect(listener), &common::get(&[]));
            let traceparent = left.header_text("traceparent").expect("a context");
            traceparent
                .rsplit_once('-')
                .map(|(_, flags)| flags.to_owned())
        };
        assert_eq!(flags("edge").as_deref(), Some("01"));
        assert_eq!(flags("no ids").as_deref(), Some("00"));
    });
}

/// Whether each of some requests with this id is traced.
fn traced(mesh: &Mesh, listener: &str, id: &str) -> Vec<bool> {
    let mut connection = mesh.connect(listener);
    let flags = |_| {
        let left = mesh.pass(&mut connection, &common::get(&[("x-request-id", id)]));
        let traceparent = left.header_text("traceparent").expect("a context");
        traceparent.ends_with("-01")
    };
    (0..64).map(flags).collect()
}

#[test]
fn gentler_settings_leave_the_request_id_a_say() {
    const FORCED: &str = "12345678-1234-a234-9234-123456789abc";
    const MALFORMED: &str = "client-12345678-1234";
    const LOW: &str = "00000000-1234-4234-9234-123456789abc";
    const HIGH: &str = "0000270f-1234-4234-9234-123456789abc";
    let extension = |setting: &str| {
        let mut uuid = json!({
            "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        });
        uuid[setting] = json!(false);
        json!({"request_id_extension": {"typed_config": uuid}})
    };
    let settings = [
        ("default", json!({})),
        (
            "preserved",
            json!({"use_remote_address": true, "preserve_external_request_id": true}),
        ),
        ("not packed", extension("pack_trace_reason")),
        ("not by id", extension("use_request_id_for_trace_sampling")),
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let otlp = OtlpSink::start().expect("a sink");
        let mut bootstrap = Bootstrap::new().cluster(Cluster::http2("otlp", otlp.grpc_addr()));
        for percent in [0, 50, 100] {
            for (name, setting) in &settings {
                let behind = manager(Tracer::OpenTelemetry, Callers::Unknown, percent, RESTART);
                let alone = manager(Tracer::OpenTelemetry, Callers::Unknown, percent, NOTHING);
                let listener = |name: String, manager: HttpConnectionManager| {
                    Listener::http(&name, manager.merge(setting.clone()))
                };
                bootstrap = bootstrap
                    .listener(listener(format!("{name} {percent}"), alone))
                    .listener(listener(format!("{name} {percent} behind"), behind));
            }
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for (listener, id, expected) in [
            ("default 0", FORCED, true),
            ("default 100", MALFORMED, false),
            ("default 50", LOW, true),
            ("default 50", HIGH, false),
            ("preserved 0", FORCED, false),
            ("preserved 100", MALFORMED, false),
            ("preserved 50", LOW, true),
            ("preserved 50", HIGH, false),
            ("not packed 0", FORCED, false),
            ("not packed 100", MALFORMED, false),
            ("not packed 50", LOW, true),
            ("not packed 50", HIGH, false),
            ("not by id 0", LOW, true),
            ("not by id 0", HIGH, true),
        ] {
            let seen = traced(&mesh, listener, id);
            assert_eq!(seen, [expected; 64], "{id} to {listener} on {version}");
        }
        for name in ["default", "preserved", "not packed"] {
            let traced = |percent, id| traced(&mesh, &format!("{name} {percent} behind"), id);
            assert_eq!(traced(0, FORCED), [false; 64], "{name} on {version}");
            assert_eq!(traced(100, MALFORMED), [true; 64], "{name} on {version}");
            // Neither all nor none: Envoy's own ids decide.
            for id in [LOW, HIGH] {
                let seen = traced(50, id);
                assert!(
                    seen.contains(&true) && seen.contains(&false),
                    "{name} on {version}"
                );
            }
        }
    });
}
