//! The ids that lead from a line of the access log to the span that the proxy exports.
//!
//! The host tells a filter nothing of that span. What can be known of it stands in the request's
//! headers: in those that came in ([`Arrival`]), in those of a step before the filter that copied
//! the proxy's own ids, and at the end of the request in those that the tracer has written.
//! [`AccessLogIds`] puts these together. An id that cannot be known is absent, never guessed.

#![forbid(unsafe_code)]

mod access_log_ids;
mod arrival;
mod config;
mod counter;
mod decide;
mod ids;
#[cfg(feature = "schema")]
mod schema;
mod shape;
mod text;
mod write;

pub use access_log_ids::AccessLogIds;
pub use arrival::Arrival;
pub use config::{
    AccessLogTraceConfig, IdsConfig, ResponseHeaderConfig, ShapeConfig, Source, TracerConfig,
};
pub use counter::{Counter, Tally};
pub use ids::Ids;
pub use shape::Shape;
pub use text::IdText;
pub use write::HeaderLine;
