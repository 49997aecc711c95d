//! The names by which spans are found: the service, the node, the name of a span, and the attributes
//! of Envoy's own tracers.

use std::net::SocketAddr;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, export, manager, options, start, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::json;

const ROUTER: &str = "router~10.0.0.8~gateway-7d8996bff-ztg6z.shop~shop.svc.cluster.local";
const SERVICE: &str = "outbound|9080||reviews.shop.svc.cluster.local";

/// An Envoy with a node of Istio that makes a span of each call. Requests to `/service` go to a
/// cluster of Istio, those to `/decorated` have a decorator, and others go to a cluster without a
/// host.
fn mesh(binary: &EnvoyBinary, report: &str) -> Collected {
    let config = reporting("http/protobuf", report);
    let tracing = tracing(config).spawn_upstream_span(true);
    let decorated = Route::prefix("/decorated").cluster("upstream");
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/service").cluster(SERVICE))
        .route(decorated.decorator("details.shop:9080/*"))
        .route(Route::prefix("/").cluster("upstream"))
        .filter(export())
        .tracing(tracing);
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let bootstrap = node()
        .listener(Listener::http("ingress", manager))
        .cluster(Cluster::http1(SERVICE, nobody));
    Collected::with_options(binary, "http/protobuf", bootstrap, options())
}

fn get(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

fn spans(mesh: &Collected, path: &str) -> Vec<Span> {
    mesh.sink.clear();
    mesh.send(&get(path));
    mesh.sink.wait_for_spans(2).expect("two spans")
}

/// The node as Istio's agent writes it.
fn node() -> Bootstrap {
    Bootstrap::new()
        .node(ROUTER, "cluster.of-node")
        .merge(json!({"node": {"metadata": {
            "LABELS": {"app": "reviews", "service.istio.io/canonical-name": "canonical"},
            "NAMESPACE": "shop",
            "CLUSTER_ID": "east",
        }}}))
}

/// The configurations, each with the name that it gives to the service at the node of [`node`].
const NAMES: [(&str, &str); 5] = [
    ("{}", "reviews.shop"),
    (r#"{"service_name": "istio"}"#, "reviews.shop"),
    (r#"{"service_name": "canonical"}"#, "canonical"),
    (r#"{"service_name": "till"}"#, "till"),
    (
        r#"{"service_name": "till", "resource": {"service.name": "mine"}}"#,
        "mine",
    ),
];

#[test]
fn the_service_is_named_as_istios_own_tracers_name_it_unless_the_configuration_does() {
    for envoy in envoys() {
        let bootstrap = NAMES.iter().fold(node(), |bootstrap, (report, _)| {
            let config = reporting("http/protobuf", report);
            bootstrap.listener(Listener::http(report, manager(tracing(config))))
        });
        let mesh = Collected::with_options(&envoy, "http/protobuf", bootstrap, options());
        for (report, name) in NAMES {
            let address = mesh.envoy.address(report).expect("its address");
            let mut connection = Connection::open(address).expect("a connection");
            connection.send(&get("/")).expect("a response");
            let span = mesh.only_span();
            assert_eq!(span.service, name, "{} {report}", envoy.reported_version());
        }
    }
}

/// Envoy tells its node with the span of a request alone.
#[test]
fn every_span_has_the_node() {
    for envoy in envoys() {
        let mesh = mesh(&envoy, "{}");
        for span in spans(&mesh, "/") {
            assert_eq!(span.attribute("node_id"), Some(ROUTER), "{span:#?}");
            assert_eq!(span.name, "GET");
            assert_eq!(span.attribute("http.status_code"), None);
        }
    }
}

#[test]
fn an_operation_is_the_decorators_or_the_host_of_the_cluster() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let mesh = mesh(&envoy, r#"{"span_name": "operation"}"#);
        for (path, name) in [
            ("/service", "reviews.shop.svc.cluster.local:9080/*"),
            ("/decorated", "details.shop:9080/*"),
            ("/other", "GET"),
        ] {
            let spans = spans(&mesh, path);
            let server = expect::span().of_kind(SpanKind::Server).find_in(&spans);
            assert_eq!(server.name, name, "{version} {path}");
        }
    }
}

#[test]
fn the_attributes_of_envoys_tracers_stand_beside_opentelemetrys() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let mesh = mesh(&envoy, r#"{"envoy_attributes": true}"#);
        let upstream = mesh.upstream.address().to_string();
        let spans = spans(&mesh, "/a?secret=1");
        for (kind, peer) in [
            (SpanKind::Server, "127.0.0.1"),
            (SpanKind::Client, upstream.as_str()),
        ] {
            let span = expect::span().of_kind(kind).at(version).find_in(&spans);
            for (key, value) in [
                ("component", "proxy"),
                ("istio.canonical_service", "canonical"),
                ("istio.namespace", "shop"),
                ("istio.cluster_id", "east"),
                ("http.method", "GET"),
                ("http.url", "http://localhost/a"),
                ("http.status_code", "200"),
                ("peer.address", peer),
                ("upstream_cluster", "upstream"),
                ("http.response.status_code", "200"),
            ] {
                let found = span.attribute(key);
                assert_eq!(found, Some(value), "{version} {kind:?} {key}");
            }
        }
    }
}

#[test]
fn a_compressed_export_arrives_over_both_protocols() {
    for envoy in envoys() {
        for (protocol, header) in [
            ("http/protobuf", "content-encoding"),
            ("grpc", "grpc-encoding"),
        ] {
            let config = reporting(protocol, r#"{"compression": "gzip"}"#);
            let mesh = start(&envoy, protocol, manager(tracing(config)));
            mesh.send(&get("/a"));
            let span = mesh.only_span();
            assert_eq!(span.attribute("url.path"), Some("/a"));
            mesh.send(&get("/b"));
            let exports = mesh.sink.wait_for_exports(1).expect("an export");
            let encoding = exports[0].header_text(header);
            assert_eq!(encoding.as_deref(), Some("gzip"), "{protocol}");
            mesh.wait_for_counter("report.exported", 2);
        }
    }
}
