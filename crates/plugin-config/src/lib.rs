//! The configurations of the plugins, read from JSON.
//!
//! Each stage's crate defines the types of its configuration. The code that reads them is compiled
//! in this crate, and optimised for size: it runs once, and V8 compiles all of it in every proxy.

#![forbid(unsafe_code)]

pub mod native;

use meshtrace_access_log::AccessLogTraceConfig;
use meshtrace_attributes::SpanAttributesConfig;
use meshtrace_config::{ConfigError, RequestHeaders, object, read};
use meshtrace_otlp::ReportConfig;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_sampling::SamplingConfig;

/// The configuration of `mesh_tracing.wasm`. A stage that is absent is off; `{}` turns it on with
/// its defaults.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct MeshTracingConfig {
    /// The trace context, in every format.
    pub trace_context: Option<TraceContextConfig>,
    /// The rules that decide which traces are sampled.
    pub sampling: Option<SamplingConfig>,
    /// The business attributes, which are on the spans of `report` too.
    pub span_attributes: Option<SpanAttributesConfig>,
    /// The ids of the span, for the access log.
    pub access_log: Option<AccessLogTraceConfig>,
    /// The export of this proxy's own spans over OTLP.
    pub report: Option<ReportConfig>,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

impl MeshTracingConfig {
    /// Whether `span_attributes` has an attribute with this key.
    #[must_use]
    pub fn names_attribute(&self, key: &str) -> bool {
        let attributes = self
            .span_attributes
            .iter()
            .flat_map(|stage| &stage.attributes);
        attributes.into_iter().any(|attribute| attribute.key == key)
    }
}

object!(MeshTracingConfig {
    trace_context,
    sampling,
    span_attributes,
    access_log,
    report,
    request_headers,
});

/// Reads the configuration of `trace_context.wasm`.
///
/// # Errors
/// The same as of [`read`].
pub fn trace_context(json: &[u8]) -> Result<TraceContextConfig, ConfigError> {
    read(json)
}

/// Reads the configuration of `span_attributes.wasm`.
///
/// # Errors
/// The same as of [`read`].
pub fn span_attributes(json: &[u8]) -> Result<SpanAttributesConfig, ConfigError> {
    read(json)
}

/// Reads the configuration of `access_log_trace.wasm`.
///
/// # Errors
/// The same as of [`read`].
pub fn access_log_trace(json: &[u8]) -> Result<AccessLogTraceConfig, ConfigError> {
    read(json)
}

/// Reads the configuration of `route_sampling.wasm`.
///
/// # Errors
/// The same as of [`read`].
pub fn route_sampling(json: &[u8]) -> Result<SamplingConfig, ConfigError> {
    read(json)
}

/// Reads the configuration of `mesh_tracing.wasm`.
///
/// # Errors
/// The same as of [`read`].
pub fn mesh_tracing(json: &[u8]) -> Result<MeshTracingConfig, ConfigError> {
    read(json)
}
