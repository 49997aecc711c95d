//! The filter and the module that are the tracer themselves, with their collector's cluster.

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster};
use envoy_test_harness::{Envoy, EnvoyBinary, Options, OtlpSink, Upstream, each_supported};
use meshtrace_render::{Filter, ProxyTracer};
use meshtrace_test_support::applied;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native;
use meshtrace_test_support::tracers::Reader;
use serde_json::json;

use super::{bootstrap, collector, manager, render, setup};

fn reports(envoy: &EnvoyBinary, filter: Filter, config: &str, is_grpc: bool, options: Options) {
    let label = format!("{filter:?} {is_grpc} on {}", envoy.reported_version());
    let sink = OtlpSink::start().expect("a collector");
    let upstream = Upstream::start().expect("an upstream");
    let address = match is_grpc {
        true => sink.grpc_addr(),
        false => sink.http_addr(),
    };
    let mut setup = setup(envoy, ProxyTracer::None, &[(filter, config)]);
    setup.collector = Some((address.ip().to_string(), address.port()));
    let rendering = render(&setup);
    let extensions = bootstrap(&rendering)["bootstrap_extensions"].take();
    let mut envoys = Bootstrap::new()
        .listener(applied::listener("ingress", &manager("none", &rendering)))
        .cluster(Cluster::http1("upstream", upstream.address()))
        .cluster(collector(&rendering, address));
    if extensions.is_array() {
        envoys = envoys.merge(json!({"bootstrap_extensions": extensions}));
    }
    let envoy = Envoy::start_with(envoy, envoys, options).expect("an Envoy that starts");
    let address = envoy.address("ingress").expect("its address");
    let mut connection = Connection::open(address).expect("a connection");
    let request = Request::get("/orders/7")
        .header("b3", format!("{TRACE}-{SPAN}-1"))
        .header("x-user-id", "u1");
    let response = connection.send(&request).expect("a response");
    assert_eq!(response.status, 200, "{label}");
    let spans = sink.wait_for_spans(1).expect("spans");
    let seen = upstream.take();
    assert!(
        spans.iter().all(|span| span.trace_id == TRACE),
        "{label}: {spans:?}"
    );
    let server = spans
        .iter()
        .find(|span| span.parent_span_id.as_deref() == Some(SPAN));
    let server = server.unwrap_or_else(|| panic!("{label}: {spans:?}"));
    assert_eq!(server.attribute("user.id"), Some("u1"), "{label}");
    let seen = seen.first().expect("a request");
    for reader in [Reader::W3c, Reader::B3Multi] {
        let told = reader.read(seen).expect("a context");
        assert_eq!(
            (&*told.trace_id, told.sampled),
            (TRACE, Some(true)),
            "{label}"
        );
    }
}

#[test]
fn mesh_tracing_reports_to_the_rendered_cluster() {
    each_supported(|envoy| {
        for (is_grpc, protocol) in [(false, "http/protobuf"), (true, "grpc")] {
            let config = json!({
                "trace_context": {}, "span_attributes": {}, "access_log": {},
                "sampling": {"default": "always"},
                "report": {"cluster": "collector", "protocol": protocol},
            });
            let config = config.to_string();
            reports(envoy, Filter::MeshTracing, &config, is_grpc, Options::new());
        }
    });
}

#[test]
fn the_native_tracer_reports_to_the_rendered_cluster() {
    for envoy in native::envoys() {
        let config = json!({
            "trace_context": {}, "span_attributes": {},
            "sampling": {"default": "always"}, "report": {"cluster": "collector"},
        });
        let config = config.to_string();
        reports(&envoy, Filter::Native, &config, false, native::options());
    }
}
