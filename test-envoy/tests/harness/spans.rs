//! Spans of Envoy's own tracers arrive in the sinks, in one shape.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
    TrafficDirection,
};
use envoy_test_harness::sink::Fault;
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, SpanKind, Upstream, ZipkinSink, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans};
use prost::Message;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";

fn proxy(tracing: Tracing, collector: Cluster, upstream: SocketAddr) -> Envoy {
    let manager = HttpConnectionManager::new()
        .route(Route::path("/broken").direct_response(503, ""))
        .route(Route::prefix("/").cluster("upstream"))
        .tracing(tracing);
    let bootstrap = Bootstrap::new()
        .node("node", "shop")
        .listener(Listener::http("ingress", manager).direction(TrafficDirection::Inbound))
        .cluster(Cluster::http1("upstream", upstream))
        .cluster(collector);
    Envoy::start(&EnvoyBinary::find().unwrap(), bootstrap).unwrap()
}

fn traced() -> Request {
    Request::get("/items").header("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-01"))
}

#[test]
fn otlp_over_grpc() {
    let upstream = Upstream::start().unwrap();
    let sink = OtlpSink::start().unwrap();
    let tracing = Tracing::opentelemetry_grpc("collector", "shop")
        .spawn_upstream_span(true)
        .request_header_tag("user.id", "x-user");
    let envoy = proxy(
        tracing,
        Cluster::http2("collector", sink.grpc_addr()),
        upstream.address(),
    );

    traced()
        .header("tracestate", "a=b")
        .header("x-user", "ada")
        .send(envoy.address("ingress").unwrap())
        .unwrap();

    let spans = sink.wait_for_trace(TRACE_ID, 2).unwrap();
    let server = expect::span()
        .of_kind(SpanKind::Server)
        .of_service("shop")
        .child_of_ids(TRACE_ID, PARENT_ID)
        .with("user.id", "ada")
        .with_error(false)
        .find_in(&spans);
    let client = expect::span()
        .of_kind(SpanKind::Client)
        .child_of(server)
        .begun_during(server)
        .find_in(&spans);
    assert_eq!(server.trace_state, "a=b");
    assert!(server.end_unix_nanos > server.start_unix_nanos);
    let sent = upstream.requests()[0].header_text("traceparent").unwrap();
    assert_eq!(sent, format!("00-{TRACE_ID}-{}-01", client.span_id));

    let export = &sink.exports()[0];
    assert_eq!(
        export.path,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    assert_eq!(export.header_text("host").as_deref(), Some("collector"));
}

#[test]
fn otlp_over_http() {
    let upstream = Upstream::start().unwrap();
    let sink = OtlpSink::start().unwrap();
    let tracing = Tracing::opentelemetry_http("collector", "shop");
    let envoy = proxy(
        tracing,
        Cluster::http1("collector", sink.http_addr()),
        upstream.address(),
    );
    let address = envoy.address("ingress").unwrap();

    traced().send(address).unwrap();
    let spans = sink.wait_for_trace(TRACE_ID, 1).unwrap();
    assert_eq!(spans[0].resource["service.name"], "shop");
    assert_eq!(sink.exports()[0].path, "/v1/traces");

    sink.clear();
    assert!(sink.spans().is_empty());
    Request::get("/broken").send(address).unwrap();
    let spans = sink.wait_for_spans(1).unwrap();
    assert_eq!(
        (spans[0].status_error, spans[0].parent_span_id.as_deref()),
        (true, None)
    );
}

#[test]
fn a_packed_export_is_unpacked_and_a_broken_one_refused() {
    let attribute = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let message = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![proto::Span {
                    trace_id: vec![0xab; 16],
                    span_id: vec![1; 8],
                    parent_span_id: vec![0; 8],
                    attributes: vec![
                        attribute("number", Value::IntValue(-3)),
                        attribute("flag", Value::BoolValue(true)),
                        attribute("bytes", Value::BytesValue(vec![0, 255])),
                        attribute("text", Value::StringValue("a \"b\"".to_owned())),
                    ],
                    ..proto::Span::default()
                }],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&message.encode_to_vec()).unwrap();
    let packed = packed.finish().unwrap();

    let sink = OtlpSink::start().unwrap();
    let post = |path: &str, coding: &str, body: &[u8]| {
        Request::post(path, body)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", coding)
            .send(sink.http_addr())
            .unwrap()
            .status
    };
    assert_eq!(post("/v1/traces", "gzip", b"not gzip"), 400);
    assert_eq!(post("/v1/traces", "br", &packed), 415);
    assert_eq!(post("/v1/metrics", "gzip", &packed), 404);
    assert_eq!(sink.spans(), []);
    assert_eq!(post("/v1/traces", "gzip", &packed), 200);

    let [span] = sink.spans().try_into().unwrap();
    assert_eq!(
        (span.trace_id, span.span_id),
        ("ab".repeat(16), "01".repeat(8))
    );
    assert_eq!(span.parent_span_id, None);
    let attributes: Vec<_> = span.attributes.values().map(String::as_str).collect();
    assert_eq!(attributes, ["\"00ff\"", "true", "-3", "a \"b\""]);
}

#[test]
fn an_unsampled_request_leaves_no_span() {
    let upstream = Upstream::start().unwrap();
    let sink = OtlpSink::start().unwrap();
    let tracing = Tracing::opentelemetry_grpc("collector", "shop").random_sampling(0.0);
    let envoy = proxy(
        tracing,
        Cluster::http2("collector", sink.grpc_addr()),
        upstream.address(),
    );
    let address = envoy.address("ingress").unwrap();

    Request::get("/dropped").send(address).unwrap();
    let sent = upstream.requests()[0].header_text("traceparent").unwrap();
    assert!(sent.ends_with("-00"), "{sent}");

    // Spans leave in order: the second request's is the only one, so the first has none.
    Request::get("/kept")
        .header("x-client-trace-id", "by-client")
        .send(address)
        .unwrap();
    let spans = sink.wait_for_spans(1).unwrap();
    assert_eq!(spans.len(), 1);
    let url = spans[0].attribute("http.url").unwrap();
    assert!(url.ends_with("/kept"), "{url}");
}

#[test]
fn a_collector_that_is_down_costs_the_request_nothing() {
    let upstream = Upstream::start().unwrap();
    let nobody = ClosedPort::reserve().unwrap();
    let tracing = Tracing::opentelemetry_grpc("collector", "shop");
    let envoy = proxy(
        tracing,
        Cluster::http2("collector", nobody.address()),
        upstream.address(),
    );
    let address = envoy.address("ingress").unwrap();
    assert_eq!(Request::get("/").send(address).unwrap().status, 200);
    envoy
        .wait_for_stat("cluster.collector.upstream_cx_connect_fail", |count| {
            count > 0
        })
        .unwrap();
}

#[test]
fn a_collector_that_refuses_keeps_nothing_and_counts_the_tries() {
    let upstream = Upstream::start().unwrap();
    let sink = OtlpSink::start().unwrap();
    sink.set_fault(Some(Fault::status(503).after(Duration::from_millis(1))));
    let tracing = Tracing::opentelemetry_http("collector", "shop");
    let envoy = proxy(
        tracing,
        Cluster::http1("collector", sink.http_addr()),
        upstream.address(),
    );
    let address = envoy.address("ingress").unwrap();

    Request::get("/").send(address).unwrap();
    let exports = sink.wait_for_exports(1).unwrap();
    assert!(exports[0].refused);
    assert_eq!(exports[0].spans, 1);
    assert!(sink.spans().is_empty());
    assert_eq!(
        envoy
            .wait_for_stat("cluster.collector.upstream_rq_503", |count| count >= 1)
            .unwrap(),
        1
    );

    sink.set_fault(None);
    Request::get("/").send(address).unwrap();
    assert_eq!(sink.wait_for_spans(1).unwrap().len(), 1);
}

#[test]
fn zipkin_spans_in_either_format() {
    let upstream = Upstream::start().unwrap();
    let sink = ZipkinSink::start().unwrap();
    let tracing = Tracing::zipkin("collector")
        .shared_span_context(false)
        .trace_context_option(TraceContextOption::B3WithW3c);
    let envoy = proxy(
        tracing,
        Cluster::http1("collector", sink.address()),
        upstream.address(),
    );
    let address = envoy.address("ingress").unwrap();

    traced().send(address).unwrap();
    let spans = sink.wait_for_trace(TRACE_ID, 1).unwrap();
    assert_eq!(spans[0].parent_span_id.as_deref(), Some(PARENT_ID));
    assert_eq!(
        (spans[0].kind, spans[0].service.as_str()),
        (SpanKind::Server, "shop")
    );
    assert_eq!(spans[0].attribute("http.status_code"), Some("200"));
    assert!(!spans[0].shared && !spans[0].status_error);

    Request::get("/broken")
        .header("b3", format!("{PARENT_ID}-{PARENT_ID}-1"))
        .send(address)
        .unwrap();
    let padded = format!("{PARENT_ID:0>32}");
    let spans = sink.wait_for_trace(&padded, 1).unwrap();
    assert!(spans[0].status_error);
    assert!(spans[0].end_unix_nanos >= spans[0].start_unix_nanos);
}
