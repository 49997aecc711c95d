//! OpenTelemetry's semantic conventions for HTTP and RPC spans, for the attributes whose values a
//! proxy has ("Semantic Conventions for HTTP Spans", 1.23 and later; for gRPC the release candidate
//! of 1.39).
//!
//! Attributes that the conventions do not have get the names of Envoy's own tracers:
//! `upstream_cluster.name`, `upstream_address`, `response_flags`.

mod end;
mod end_value;
mod envoy;
mod grpc;
mod request;
mod response_flags;
mod value;

pub use end::{End, Seen, Told};
pub use end_value::{EndValue, EndValues};
pub use envoy::ENVOY_KEYS;
pub use grpc::{is_grpc_web, parse_grpc_status};
pub use request::{Described, Name, Request};
pub use value::integer;

/// Every attribute that a span of this project may have by itself. "The keys of attributes … MUST
/// be unique" (OTLP, `Span.attributes`).
pub const KEYS: [&str; 27] = [
    "client.address",
    "error.type",
    "http.request.body.size",
    "http.request.header.x-request-id",
    "http.request.method",
    "http.request.method_original",
    "http.request.resend_count",
    "http.response.body.size",
    "http.response.status_code",
    "http.route",
    KEPT,
    "network.peer.address",
    "network.peer.port",
    "network.protocol.version",
    "response_flags",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.system.name",
    "server.address",
    "server.port",
    "upstream_address",
    "upstream_cluster.name",
    "url.full",
    "url.path",
    "url.scheme",
    "url.template",
    "user_agent.original",
];
/// The attribute that has the reason why a span is reported although its trace is not sampled.
pub const KEPT: &str = "meshtrace.kept";
