//! The filters: each puts stages in order.

mod access_log_trace;
mod mesh_tracing;
mod route_sampling;
mod span_attributes;
mod trace_context;

pub use access_log_trace::AccessLogTrace;
pub use mesh_tracing::{MeshTracing, MeshTracingState, SpanStart};
pub use route_sampling::RouteSampling;
pub use span_attributes::SpanAttributes;
pub use trace_context::TraceContext;
