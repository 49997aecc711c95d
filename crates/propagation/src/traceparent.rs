//! The text of a `traceparent`.

use crate::{SpanId, TraceFlags, TraceId};

/// The text of a `traceparent` of version 00 (W3C Trace Context, section 3.2.2).
#[derive(Clone, Copy, Debug)]
pub struct Traceparent {
    trace_id: [u8; 32],
    span_id: [u8; 16],
    flags: &'static [u8; 2],
}

impl Traceparent {
    /// The text for this span.
    #[must_use]
    pub fn new(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> Self {
        Self {
            trace_id: trace_id.to_hex(),
            span_id: span_id.to_hex(),
            flags: flags.to_hex(),
        }
    }

    /// The text, in parts.
    #[must_use]
    pub const fn parts(&self) -> [&[u8]; 6] {
        [
            b"00-",
            &self.trace_id,
            b"-",
            &self.span_id,
            b"-",
            self.flags,
        ]
    }
}
