//! The ids of one span, and its flags.

use meshtrace_propagation::format::Format;
use meshtrace_propagation::{SpanId, TraceContext, TraceFlags, TraceId};

/// The ids of the span that the proxy exports for a request, as far as they can be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The span's trace; without a tracer, the caller's trace.
    pub trace_id: Option<TraceId>,
    /// The span of the request itself, not of an attempt to an upstream.
    pub span_id: Option<SpanId>,
    /// The parent of that span; without a tracer, the caller's span.
    pub parent_span_id: Option<SpanId>,
    /// The flags of the trace as W3C writes them.
    pub flags: Option<TraceFlags>,
    /// The format in which the trace came in; for a trace that began here, the format in which it
    /// went out.
    pub format: Option<Format>,
}

impl Ids {
    /// The ids of a span that this proxy's filter opened itself. `context` identifies the span, and
    /// `format` is the format in which the trace came in.
    #[must_use]
    pub fn of_own_span(
        context: &TraceContext,
        parent_span_id: Option<SpanId>,
        format: Option<Format>,
    ) -> Self {
        Self {
            trace_id: Some(context.trace_id),
            span_id: Some(context.span_id),
            parent_span_id,
            flags: TraceFlags::of(context),
            format,
        }
    }
}
