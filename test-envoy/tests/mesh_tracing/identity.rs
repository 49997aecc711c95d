//! The names by which spans are found: the service, the node, the name of a span, and the attributes
//! of Envoy's own tracers.

use std::net::SocketAddr;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing, reporting};
use serde_json::{Value, json};

const SIDECAR: &str = "sidecar~10.0.0.7~reviews-v1-6d8996bff-ztg6z.shop~shop.svc.cluster.local";
const ROUTER: &str = "router~10.0.0.8~gateway-7d8996bff-ztg6z.shop~shop.svc.cluster.local";
const SERVICE: &str = "outbound|9080||reviews.shop.svc.cluster.local";

/// The node as Istio's agent writes it.
fn node(id: &str) -> Bootstrap {
    Bootstrap::new()
        .node(id, "cluster.of-node")
        .merge(json!({"node": {
            "locality": {"zone": "z1"},
            "metadata": {
                "LABELS": {"app": "reviews", "service.istio.io/canonical-name": "canonical"},
                "NAMESPACE": "shop",
                "CLUSTER_ID": "east",
                "MESH_ID": "mesh",
            },
        }}))
}

/// An Envoy with this node whose filter stands in listeners for both directions. Requests to
/// `/service` go to a cluster of Istio, and others to one without a host.
fn mesh(binary: &EnvoyBinary, node: Bootstrap, report: &str, further: &Value) -> Collected {
    let mut config = reporting("http/protobuf", report);
    for (key, value) in further.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/service").cluster(SERVICE))
        .route(Route::prefix("/").cluster("upstream"))
        .filter(mesh_tracing(config));
    let listener = Listener::http("ingress", manager).direction(TrafficDirection::Inbound);
    // The test's upstream listens at a port that is known only after the start, so a closed one
    // stands for the service: that the request fails there is of no concern.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let bootstrap = node
        .listener(listener)
        .cluster(Cluster::http1(SERVICE, nobody));
    Collected::with(binary, "http/protobuf", bootstrap)
}

fn get(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

fn text<'s>(span: &'s Span, key: &str) -> Option<&'s str> {
    span.attribute(key)
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
    each_supported(|envoy| {
        let bootstrap = NAMES.iter().fold(node(SIDECAR), |bootstrap, (report, _)| {
            let config = reporting("http/protobuf", report);
            bootstrap.listener(Listener::http(report, manager(mesh_tracing(config))))
        });
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (report, name) in NAMES {
            let address = mesh.envoy.address(report).expect("its address");
            let mut connection = Connection::open(address).expect("a connection");
            connection.send(&get("/")).expect("a response");
            let span = mesh.only_span();
            assert_eq!(span.service, name, "{} {report}", envoy.reported_version());
        }
    });
}

#[test]
fn both_spans_of_a_gateway_have_the_node() {
    each_supported(|envoy| {
        let mesh = mesh(envoy, node(ROUTER), "{}", &json!({}));
        assert_eq!(mesh.send(&get("/")).status, 200);
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        for kind in [SpanKind::Server, SpanKind::Client] {
            let span = expect::span().of_kind(kind).find_in(&spans);
            assert_eq!(text(span, "node_id"), Some(ROUTER));
            assert_eq!(span.name, "GET");
            // What only `envoy_attributes` adds.
            assert_eq!(text(span, "http.status_code"), None);
            assert_eq!(text(span, "istio.cluster_id"), None);
        }
    });
}

/// Before there was `node_id`, people wrote it themselves: their value stays.
#[test]
fn an_attribute_of_the_configuration_with_the_nodes_name_stays() {
    each_supported(|envoy| {
        let attributes = json!({"span_attributes": {
            "attributes": [{"key": "node_id", "from": {"literal": "mine"}}],
        }});
        let mesh = mesh(envoy, node(SIDECAR), "{}", &attributes);
        mesh.send(&get("/"));
        assert_eq!(text(&mesh.only_span(), "node_id"), Some("mine"));
    });
}

#[test]
fn an_operation_is_the_host_of_the_cluster_where_there_is_no_template() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let rule = json!({"sampling": {"rules": [
            {"match": {"path": {"template": "/service/{id}"}}, "sample": "unchanged"},
        ]}});
        let report = r#"{"span_name": "operation"}"#;
        let mesh = mesh(envoy, node(ROUTER), report, &rule);
        for (path, name) in [
            ("/service", "reviews.shop.svc.cluster.local:9080/*"),
            ("/service/7", "GET /service/{id}"),
            ("/other", "GET"),
        ] {
            mesh.send(&get(path));
            let expected = expect::span().of_kind(SpanKind::Server).at(version);
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            assert_eq!(expected.find_in(&spans).name, name, "{version} {path}");
            mesh.sink.clear();
        }
    });
}

#[test]
fn the_attributes_of_envoys_tracers_stand_beside_opentelemetrys() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let report = r#"{"envoy_attributes": true}"#;
        let mesh = mesh(envoy, node(ROUTER), report, &json!({}));
        let request = get("/a?secret=1")
            .header("user-agent", "test/1")
            .header("x-request-id", "r1");
        assert_eq!(mesh.send(&request).status, 200);
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        let upstream = mesh.upstream.address().to_string();
        for (kind, peer) in [
            (SpanKind::Server, "127.0.0.1"),
            (SpanKind::Client, upstream.as_str()),
        ] {
            let span = expect::span().of_kind(kind).at(version).find_in(&spans);
            for (key, value) in [
                ("component", "proxy"),
                ("zone", "z1"),
                ("istio.canonical_service", "canonical"),
                ("istio.namespace", "shop"),
                ("istio.cluster_id", "east"),
                ("istio.mesh_id", "mesh"),
                ("http.method", "GET"),
                ("http.url", "http://localhost/a"),
                ("http.protocol", "HTTP/1.1"),
                ("http.status_code", "200"),
                ("user_agent", "test/1"),
                ("guid:x-request-id", "r1"),
                ("peer.address", peer),
                ("request_size", "0"),
                ("upstream_cluster", "upstream"),
                // OpenTelemetry's.
                ("http.response.status_code", "200"),
                ("http.request.method", "GET"),
            ] {
                assert_eq!(text(span, key), Some(value), "{version} {kind:?} {key}");
            }
        }
    });
}

#[test]
fn a_compressed_export_arrives_over_both_protocols() {
    each_supported(|envoy| {
        for (protocol, header) in [
            ("http/protobuf", "content-encoding"),
            ("grpc", "grpc-encoding"),
        ] {
            let mesh = Collected::start(envoy, protocol, r#"{"compression": "gzip"}"#);
            mesh.send(&get("/a"));
            assert_eq!(text(&mesh.only_span(), "url.path"), Some("/a"));
            mesh.send(&get("/b"));
            let exports = mesh.sink.wait_for_exports(1).expect("an export");
            let encoding = exports[0].header_text(header);
            assert_eq!(encoding.as_deref(), Some("gzip"), "{protocol}");
            mesh.wait_for_counter("report.exported", 2);
        }
    });
}
