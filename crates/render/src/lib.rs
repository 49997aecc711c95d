//! Renders Envoy configuration from the filters' own configuration.
//!
//! [`early_mutation`] is the part of `trace_context` that a filter cannot do: Envoy's tracer
//! extracts before any HTTP filter runs, so what it is to continue must be in its own format before
//! that. `early_header_mutation_extensions` of the HTTP connection manager run early enough.
//!
//! [`sampling_settings`] is what `route_sampling` needs around it, so that its decision is the one
//! that the tracer follows.

#![forbid(unsafe_code)]

mod cel;
mod early;
mod sampling;
mod script;

pub use early::{EarlyMutation, Limit, Tracer, early_mutation};
pub use sampling::{RouteTracing, SamplingSettings, sampling_settings};
