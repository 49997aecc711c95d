//! An OpenTelemetry collector for tests: it receives spans over OTLP and stores them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;
use serde_json::json;
use tonic::body::Body;
use tonic::codegen::{CompressionEncoding, Service};

use crate::sink::{self, Sink};
use crate::sync::{self, Task};
use crate::{Error, Span, SpanKind};

/// A server for OTLP/HTTP (`POST /v1/traces`, protobuf, plain or gzip) and OTLP/gRPC. It ends when
/// dropped.
#[derive(Debug)]
pub struct OtlpSink {
    address: SocketAddr,
    sink: Arc<Sink>,
    _server: Task,
}

impl OtlpSink {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Io`] when no port can be bound.
    pub fn start() -> Result<Self, Error> {
        let (listener, address) = sync::bind()?;
        let sink = Arc::new(Sink::default());
        let receiver = Receiver(Arc::clone(&sink));
        let server = sink::serve(listener, move |request| receive(receiver.clone(), request))?;
        Ok(Self {
            address,
            sink,
            _server: server,
        })
    }

    /// The address for OTLP/HTTP, over HTTP/1.1 or HTTP/2. The path is `/v1/traces`.
    pub fn http_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address for OTLP/gRPC. It is an HTTP/2 cluster for Envoy.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Deref for OtlpSink {
    type Target = Sink;

    fn deref(&self) -> &Sink {
        &self.sink
    }
}

#[derive(Debug, Clone)]
struct Receiver(Arc<Sink>);

async fn receive(receiver: Receiver, mut request: http::Request<Incoming>) -> http::Response<Body> {
    let authority = request.uri().authority().map(ToString::to_string);
    let is_grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        request.extensions_mut().insert(Authority(authority));
        let mut service = TraceServiceServer::new(receiver)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        return match service.call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }

    match receive_http(&receiver.0, request, authority).await {
        Ok(()) => sink::respond(
            200,
            PROTOBUF,
            ExportTraceServiceResponse::default().encode_to_vec(),
        ),
        Err(status) => sink::respond(status, PROTOBUF, Vec::new()),
    }
}

async fn receive_http(
    sink: &Sink,
    request: http::Request<Incoming>,
    authority: Option<String>,
) -> Result<(), u16> {
    let (head, body) = request.into_parts();
    if head.uri.path() != "/v1/traces" {
        return Err(404);
    }
    if head.method != http::Method::POST {
        return Err(405);
    }
    if head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_none_or(|kind| kind != PROTOBUF)
    {
        return Err(415);
    }
    let body = sink::read_body(&head.headers, body).await?;
    let message = ExportTraceServiceRequest::decode(body.as_slice()).map_err(|_| 400_u16)?;
    sink.receive(
        head.uri.path(),
        &head.headers,
        authority.as_deref(),
        spans(message),
    )
    .await
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let (metadata, extensions, message) = request.into_parts();
        let authority = extensions
            .get::<Authority>()
            .and_then(|authority| authority.0.as_deref());
        self.0
            .receive(
                GRPC_PATH,
                &metadata.into_headers(),
                authority,
                spans(message),
            )
            .await
            .map(|()| tonic::Response::new(ExportTraceServiceResponse::default()))
            .map_err(|status| tonic::Status::new(grpc_code(status), "the test asked for a refusal"))
    }
}

#[derive(Debug, Clone)]
struct Authority(Option<String>);

fn grpc_code(status: u16) -> tonic::Code {
    match status {
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Internal,
    }
}

fn spans(message: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in message.resource_spans {
        let resource = attributes(group.resource.unwrap_or_default().attributes);
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(convert(span, &resource));
        }
    }
    spans
}

fn convert(span: proto::Span, resource: &BTreeMap<String, String>) -> Span {
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: Some(span.parent_span_id)
            .filter(|id| id.iter().any(|byte| *byte != 0))
            .map(|id| hex(&id)),
        kind: match proto::span::SpanKind::try_from(span.kind) {
            Ok(proto::span::SpanKind::Internal) => SpanKind::Internal,
            Ok(proto::span::SpanKind::Server) => SpanKind::Server,
            Ok(proto::span::SpanKind::Client) => SpanKind::Client,
            Ok(proto::span::SpanKind::Producer) => SpanKind::Producer,
            Ok(proto::span::SpanKind::Consumer) => SpanKind::Consumer,
            Ok(proto::span::SpanKind::Unspecified) | Err(_) => SpanKind::Unspecified,
        },
        name: span.name,
        service: resource.get("service.name").cloned().unwrap_or_default(),
        start_unix_nanos: span.start_time_unix_nano,
        end_unix_nanos: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        resource: resource.clone(),
        status_error: span
            .status
            .is_some_and(|status| status.code() == proto::status::StatusCode::Error),
        trace_state: span.trace_state,
        shared: false,
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter()
        .map(|entry| {
            let value = match entry.value.and_then(|value| value.value) {
                Some(Value::StringValue(text)) => text,
                other => json(other).to_string(),
            };
            (entry.key, value)
        })
        .collect()
}

fn json(value: Option<Value>) -> serde_json::Value {
    let nested = |value: AnyValue| json(value.value);
    match value {
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(value)) => json!(value),
        Some(Value::IntValue(value)) => json!(value),
        Some(Value::DoubleValue(value)) => json!(value),
        Some(Value::BytesValue(bytes)) => json!(hex(&bytes)),
        Some(Value::ArrayValue(list)) => list.values.into_iter().map(nested).collect(),
        Some(Value::KvlistValue(map)) => map
            .values
            .into_iter()
            .map(|entry| {
                (
                    entry.key,
                    entry.value.map_or(serde_json::Value::Null, nested),
                )
            })
            .collect(),
        _ => serde_json::Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PROTOBUF: &str = "application/x-protobuf";
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
