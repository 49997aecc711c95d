//! The order in which Istio applies the EnvoyFilters of one proxy.
//!
//! Istio applies them by `priority`, the lowest first. EnvoyFilters of one priority are applied by
//! their creation time, which nobody chooses. Lists are appended to, so the mutation with the
//! lowest number runs first. `INSERT_FIRST` puts a filter in front of the filters before it, so the
//! filter with the highest number runs first.

/// Removes the headers that clients send for tracers, so that nothing behind it reads them.
pub const EDGE: i32 = 10;
/// Converts the context that arrived into the tracer's own format.
pub const CONTEXT: i32 = 20;
/// Reads the parent in the tracer's own format, so it runs behind [`CONTEXT`].
pub const SAMPLING: i32 = 30;
/// The filter that sets the ids for the access log.
pub const ACCESS_LOG: i32 = 40;
/// Filters in the router, which run behind the tracer.
pub const UPSTREAM: i32 = 50;
/// In front of every other filter, so that all of them see one context, also [`ACCESS_LOG`].
pub const DOWNSTREAM: i32 = 60;
