//! Renders Envoy and Istio configuration from the filters' own configuration.
//!
//! - [`Setup::render`] is all of it: the filters themselves, several of them composed, and everything
//!   around them. The other functions are its parts.
//! - [`early_mutation`] is the part of `trace_context` that a filter cannot do. Envoy's tracer
//!   extracts the context before any HTTP filter runs, so the context must be in the tracer's own
//!   format before that. `early_header_mutation_extensions` of the HTTP connection manager run
//!   early enough.
//! - [`envoy_tags`] and [`istio_tags`] are the part of `span_attributes` that a filter cannot do:
//!   only a custom tag of the proxy's tracing configuration puts a value on a span.
//! - [`access_log_fields`] and the functions beside it render the access log for
//!   `access_log_trace`. [`expose_ids`] is the step that copies the proxy's own ids for the filter.
//! - [`sampling_settings`] renders the settings with which the tracer follows the decision of
//!   `route_sampling`.
//! - [`route_configuration`] writes the headers of a filter that edits no header
//!   (`request_headers: "filter_state"`).

#![forbid(unsafe_code)]

mod access_log;
mod cel;
mod early;
mod log_fields;
pub mod priority;
mod request_headers;
mod setup;
mod tags;
mod version;
mod yaml;

pub use access_log::{
    IdsFrom, access_log, access_log_fields, access_log_fields_as, expose_ids, istio_envoy_filter,
    istio_provider, istio_telemetry,
};
pub use early::{EarlyMutation, Limit, ManagerSettings, Tracer, early_mutation};
pub use log_fields::LogFields;
pub use request_headers::{route_configuration, route_configuration_patch};
pub use setup::{
    Filter, FilterSetup, Host, Kind, Piece, ProxyTracer, Refused, Rendering, Role, Setup,
};
pub use tags::{EnvoyTags, IstioTags, TagLimit, envoy_tags, istio_tags};
pub use version::{EnvoyVersion, IstioVersion};
mod sampling;
mod script;

pub use sampling::{RouteTracing, SamplingSettings, sampling_settings};
