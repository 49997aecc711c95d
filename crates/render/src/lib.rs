//! Renders Envoy configuration from the filters' own configuration.
//!
//! [`early_mutation`] is the part of `trace_context` that a filter cannot do: Envoy's tracer
//! extracts before any HTTP filter runs, so what it is to continue must be in its own format before
//! that. `early_header_mutation_extensions` of the HTTP connection manager run early enough.
//!
//! [`access_log_fields`] and what stands beside it are the access log that `access_log_trace` is
//! for, and [`expose_ids`] is the step that tells it the proxy's own ids.

#![forbid(unsafe_code)]

mod access_log;
mod early;

pub use access_log::{
    EnvoyMinor, IdsFrom, access_log, access_log_fields, expose_ids, istio_envoy_filter,
    istio_provider, istio_telemetry,
};
pub use early::{EarlyMutation, Limit, Tracer, early_mutation};
