//! What SECURITY.md says about callers that are not believed, beside a tracer of the proxy.

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Tracing};
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{
    self, Mesh, SPAN, TRACE, get, manager, trace_context, trace_headers,
};
use serde_json::{Value, json};

/// The remedy as the page shows it: a part of the connection manager.
fn remedy() -> Value {
    let page = common::text("SECURITY.md");
    let (_, rest) = page.split_once("```yaml\n").expect("a block of YAML");
    let (yaml, _) = rest.split_once("```").expect("its end");
    serde_saphyr::from_str(yaml).expect("YAML")
}

#[test]
fn the_remedy_is_what_is_rendered() {
    let config = r#"{"incoming": "restart"}"#;
    let config = meshtrace_config::read(config.as_bytes()).expect("a configuration");
    for tracer in [
        Tracer::OpenTelemetry,
        Tracer::ZipkinB3,
        Tracer::ZipkinB3WithW3c,
    ] {
        let rendered = early_mutation(&config, tracer).expect("an early header mutation");
        let mut manager = rendered.manager.to_json();
        manager["early_header_mutation_extensions"] = json!([rendered.extension]);
        assert_eq!(remedy(), manager);
    }
}

#[test]
fn incoming_does_not_reach_the_tracer_and_early_header_mutation_does() {
    let collector = ClosedPort::reserve().expect("a port");
    let traced = |manager: HttpConnectionManager| {
        manager.tracing(Tracing::opentelemetry_grpc("collector", "edge"))
    };
    each_supported(|envoy| {
        let filtered = |incoming: &str| {
            let config = format!(r#"{{"incoming": "{incoming}"}}"#);
            traced(manager(trace_context(&config)))
        };
        let early = filtered("continue").merge(remedy());
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("collector", collector.address()))
            .listener(Listener::http("restart", filtered("restart")))
            .listener(Listener::http("ignore", filtered("ignore")))
            .listener(Listener::http("early", early));
        let mesh = Mesh::with(envoy, bootstrap);
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{TRACE}-{SPAN}-1");
        let request = get(&[
            ("traceparent", &w3c),
            ("tracestate", "a=1"),
            ("b3", &b3),
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-parentspanid", SPAN),
            ("x-b3-sampled", "1"),
            ("x-b3-flags", "1"),
        ]);
        let left = |listener| trace_headers(&mesh.pass(&mut mesh.connect(listener), &request));

        let version = envoy.reported_version();
        for listener in ["restart", "ignore"] {
            let left = left(listener);
            let continued = format!("traceparent: 00-{TRACE}-");
            assert!(
                left.iter().any(|header| header.starts_with(&continued)),
                "{listener} on {version}: {left:?}"
            );
        }
        // The tracer's own, of a trace that it started.
        let early = left("early");
        let [traceparent, tracestate] = early.as_slice() else {
            panic!("on {version}: {early:?}");
        };
        assert!(traceparent.starts_with("traceparent: 00-"), "{traceparent}");
        assert!(!traceparent.contains(TRACE), "{traceparent}");
        assert_eq!(tracestate, "tracestate: ");
    });
}
