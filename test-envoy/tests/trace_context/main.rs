//! `trace_context`: which context is read, which is believed, and what leaves in which format.

mod bad_input;
mod baggage;
mod configuration;
mod early_mutation;
mod edge;
mod edge_headers;
mod matrix;
mod migration;
mod overrides;
mod own_fields;
mod policies;
mod preserve;
mod repeated_traceparent;
mod security;
mod trace_without_span;
mod upstream_placement;
mod vectors;
mod vendor_headers;
mod w3c_conformance;
