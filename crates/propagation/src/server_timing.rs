//! The trace in the headers of a response.

use crate::traceparent::Traceparent;

/// The header of the drafts of W3C Trace Context Level 2 and 3: its value is a `traceparent`.
pub const TRACERESPONSE: &[u8] = b"traceresponse";

/// The header of the editor's draft of W3C Trace Context Level 3 since 2025-10-20.
pub const SERVER_TIMING: &[u8] = b"server-timing";

/// The value of [`SERVER_TIMING`], in parts: the metric `trace`. A `traceparent` is a token (RFC
/// 9110, section 5.6.2), so it needs no quotes.
#[must_use]
pub const fn server_timing(traceparent: &Traceparent) -> [&[u8]; 7] {
    let [version, trace_id, dash, span_id, other_dash, flags] = traceparent.parts();
    let metric = b"trace;desc=";
    [metric, version, trace_id, dash, span_id, other_dash, flags]
}
