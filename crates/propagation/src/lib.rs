//! Trace-context formats, and the policies of taking a context from a request and putting it back.
//!
//! In the order of a request: [`Arrived`] holds the known headers, [`Propagation::extract`] chooses
//! one context, [`Propagation::decide`] continues, starts or restarts the trace, and
//! [`Propagation::inject`] lists the headers that must change so that every format has the same
//! context. Nothing here calls a host. For a request, memory is allocated only in the request's
//! arena.
//!
//! A configuration is written in `config.rs` and compiled in `propagation.rs`. The formats are
//! listed in `format/table.rs`.

#![forbid(unsafe_code)]

mod arrived;
mod baggage;
mod baggage_source;
mod choose;
mod config;
mod context;
mod counter;
mod decide;
mod destination;
mod direction;
mod extract;
mod field;
pub mod format;
mod hex;
mod id;
mod id_generator;
mod inject;
mod managed;
mod names;
mod overrides;
mod per_format;
mod propagation;
mod repeats;
#[cfg(feature = "schema")]
mod schema;
mod server_timing;
mod summary;
mod trace_flags;
mod traceparent;
mod tracer;
pub mod tracestate;
mod trust;
mod vendor;

pub use arrived::{Arrived, OnRepeated};
pub use baggage_source::BaggageSource;
pub use config::{
    IncomingConfig, IncomingMode, InjectConfig, OnConflict, OnMissing, OverrideConfig, Placement,
    TraceContextConfig, WhenConfig,
};
pub use context::{Outgoing, SamplingState, TraceContext};
pub use counter::{Counter, Tally, only_metric};
pub use decide::{Participation, TraceDecision};
pub use destination::{DestinationPolicy, MAX_CLEAR};
pub use direction::Direction;
pub use extract::{Incoming, Read};
pub use field::{Field, FieldSet};
pub use format::{B3TraceIdBits, OnDefer};
pub use id::{SpanId, TraceId};
pub use id_generator::IdGenerator;
pub use per_format::PerFormat;
pub use propagation::Propagation;
pub use repeats::refuse_repeats;
pub use server_timing::{SERVER_TIMING, TRACERESPONSE, server_timing};
pub use trace_flags::TraceFlags;
pub use traceparent::Traceparent;
pub use trust::Peer;
pub use vendor::{FAMILY_NAMES, Family, Vendor, families};
