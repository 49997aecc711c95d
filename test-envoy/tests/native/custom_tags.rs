//! `custom_tags` with the names of Envoy's own tags, and more of them than there is room for.

use std::collections::BTreeSet;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::reporting::Collected;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::json;

/// The names of Envoy's own tags.
const NAMES: [&str; 23] = [
    "canceled",
    "component",
    "downstream_cluster",
    "error",
    "grpc.message",
    "grpc.path",
    "grpc.status_code",
    "guid:x-request-id",
    "http.method",
    "http.protocol",
    "http.status_code",
    "http.url",
    "node_id",
    "peer.address",
    "request_size",
    "response_flags",
    "response_size",
    "retry.count",
    "upstream_address",
    "upstream_cluster",
    "upstream_cluster.name",
    "user_agent",
    "zone",
];

fn sampled(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

#[test]
fn a_custom_tag_is_on_the_span_and_changes_nothing_else() {
    for envoy in envoys() {
        let operations = json!({"operation": "op", "upstream_operation": "op"});
        for (envoy_attributes, operation) in [(false, json!({})), (true, operations)] {
            let what = format!(
                "{} {envoy_attributes} {operation}",
                envoy.reported_version()
            );
            let config = json!({
                "report": {"cluster": "collector", "envoy_attributes": envoy_attributes},
            });
            let tracing = NAMES
                .iter()
                .fold(tracing(config), |tracing, name| {
                    tracing.request_header_tag(name, "x-mine")
                })
                .spawn_upstream_span(true)
                .merge(operation);
            let grpc = Upstream::start().expect("an upstream");
            grpc.respond_with(|_| {
                Reply::ok()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "14")
                    .header("grpc-message", "no")
            });
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/shop.Cart").cluster("grpc"))
                .route(Route::prefix("/").cluster("upstream"))
                .filter(export())
                .tracing(tracing);
            let bootstrap = Bootstrap::new()
                .listener(Listener::http("ingress", manager))
                .cluster(Cluster::http2("grpc", grpc.address()));
            let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
            mesh.upstream.respond_with(|request| match &*request.path {
                "/broken" => Reply::status(503),
                _ => Reply::ok().body("hello"),
            });
            for (path, code, is_error, rpc) in [
                ("/fine", "200", false, None),
                ("/broken", "503", true, None),
                ("/shop.Cart/Add", "200", true, Some("UNAVAILABLE")),
            ] {
                let mut request = sampled(path).header("x-mine", "mine");
                if rpc.is_some() {
                    request = request.header("content-type", "application/grpc");
                }
                mesh.send(&request);
                let spans = mesh.sink.wait_for_spans(2).expect("two spans");
                mesh.sink.clear();
                for span in &spans {
                    let what = format!("{what} {path}: {span:#?}");
                    for name in NAMES {
                        assert_eq!(span.attribute(name), Some("mine"), "{what} {name}");
                    }
                    let attribute = |key| span.attribute(key);
                    assert_eq!(attribute("http.response.status_code"), Some(code), "{what}");
                    assert_eq!(attribute("rpc.response.status_code"), rpc, "{what}");
                    assert_eq!(span.status_error, is_error, "{what}");
                    assert_eq!(attribute("url.path"), Some(path), "{what}");
                    let peer = match span.kind {
                        SpanKind::Server => attribute("client.address"),
                        _ => attribute("network.peer.address"),
                    };
                    assert_eq!(peer, Some("127.0.0.1"), "{what}");
                    if (&span.kind, path) == (&SpanKind::Server, "/fine") {
                        let size = attribute("http.response.body.size");
                        assert_eq!(size, Some("5"), "{what}");
                    }
                }
            }
            assert_eq!(mesh.counter("panics"), 0, "{what}");
        }
    }
}

/// Every tag that is not on the span is counted on the span, however many there are.
#[test]
fn tags_without_room_are_counted_exactly() {
    const TAGS: usize = 100;

    for envoy in envoys() {
        let version = envoy.reported_version();
        let collector = Upstream::start().expect("a collector");
        let tags = (0..TAGS).map(|i| format!("mine.{i}"));
        let tracing = tags.fold(
            tracing(json!({"report": {"cluster": "raw"}})),
            |tracing, name| tracing.request_header_tag(&name, "x-long"),
        );
        let manager = meshtrace_test_support::native::manager(tracing);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("raw", collector.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        mesh.send(&sampled("/").header("x-long", "x".repeat(1024)));
        let export = collector.wait_for_requests(1).expect("an export").remove(0);
        let export = ExportTraceServiceRequest::decode(&*export.body).expect("an export");
        let span = &export.resource_spans[0].scope_spans[0].spans[0];
        let keys: BTreeSet<_> = span.attributes.iter().map(|pair| &pair.key).collect();
        assert_eq!(
            keys.len(),
            span.attributes.len(),
            "{version}: keys are unique"
        );
        let kept = keys.iter().filter(|key| key.starts_with("mine.")).count();
        assert!(kept > 5, "{version}: {kept}");
        let dropped = usize::try_from(span.dropped_attributes_count).expect("a number");
        assert_eq!(kept + dropped, TAGS, "{version}");
    }
}
