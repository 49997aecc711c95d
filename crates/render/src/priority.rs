//! In which order Istio applies the EnvoyFilters, where a proxy has several.
//!
//! Istio applies them by `priority`, the lowest first, and those of one priority by their creation
//! time, which nobody chooses. Lists are appended to, so the lowest number is the first mutation;
//! `INSERT_FIRST` puts a filter in front of those before, so there the highest number is the first.

/// Removes what clients send to tracers, so that nothing behind it reads it.
pub const EDGE: i32 = 10;
/// Makes the tracer's own format of what arrived.
pub const CONTEXT: i32 = 20;
/// Reads the parent in the tracer's own format, so it stands behind [`CONTEXT`].
pub const SAMPLING: i32 = 30;
/// The filter that tells the access log the ids.
pub const ACCESS_LOG: i32 = 40;
/// Behind the tracer, in the router.
pub const UPSTREAM: i32 = 50;
/// In front of every other filter, so that they see one context: [`ACCESS_LOG`] too.
pub const DOWNSTREAM: i32 = 60;
