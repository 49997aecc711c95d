//! The ids that lead from a line of the access log to the span that the proxy exports.
//!
//! The host gives a filter no data about that span. Its ids can be known only from the request's
//! headers: from those that came in ([`Arrival`]), from those of a step before the filter that
//! copied the proxy's own ids, and at the end of the request from those that the tracer has
//! written. [`AccessLogIds`] combines these. An id that cannot be known is absent, never guessed.

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
mod summary;
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
