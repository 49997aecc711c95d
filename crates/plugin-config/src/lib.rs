//! What each filter is told: the configurations of the plugins, read from JSON.
//!
//! The stages say what theirs look like, but what reads them is compiled in this crate, and for size: it runs once, and
//! V8 compiles all of it in every proxy.

#![forbid(unsafe_code)]

use meshtrace_access_log::AccessLogTraceConfig;
use meshtrace_attributes::SpanAttributesConfig;
use meshtrace_config::{ConfigError, RequestHeaders, read};
use meshtrace_otlp::ReportConfig;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_sampling::SamplingConfig;
use serde::Deserialize;

/// `mesh_tracing.wasm`'s configuration: a stage that is absent is off, `{}` is on with its
/// defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MeshTracingConfig {
    /// One context, in every format.
    pub trace_context: Option<TraceContextConfig>,
    /// Which traces are recorded, by rule.
    pub sampling: Option<SamplingConfig>,
    /// Business attributes, on the spans of `report` too.
    pub span_attributes: Option<SpanAttributesConfig>,
    /// The ids of the span, for the access log.
    pub access_log: Option<AccessLogTraceConfig>,
    /// The hop's own spans, exported over OTLP.
    pub report: Option<ReportConfig>,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// Reads `trace_context.wasm`'s configuration.
///
/// # Errors
/// As [`read`]'s.
pub fn trace_context(json: &[u8]) -> Result<TraceContextConfig, ConfigError> {
    read(json)
}

/// Reads `span_attributes.wasm`'s configuration.
///
/// # Errors
/// As [`read`]'s.
pub fn span_attributes(json: &[u8]) -> Result<SpanAttributesConfig, ConfigError> {
    read(json)
}

/// Reads `access_log_trace.wasm`'s configuration.
///
/// # Errors
/// As [`read`]'s.
pub fn access_log_trace(json: &[u8]) -> Result<AccessLogTraceConfig, ConfigError> {
    read(json)
}

/// Reads `route_sampling.wasm`'s configuration.
///
/// # Errors
/// As [`read`]'s.
pub fn route_sampling(json: &[u8]) -> Result<SamplingConfig, ConfigError> {
    read(json)
}

/// Reads `mesh_tracing.wasm`'s configuration.
///
/// # Errors
/// As [`read`]'s.
pub fn mesh_tracing(json: &[u8]) -> Result<MeshTracingConfig, ConfigError> {
    read(json)
}
