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
    /// The length of the text, in bytes.
    pub const LENGTH: usize = 55;

    /// The text for this span.
    #[must_use]
    pub fn new(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> Self {
        Self {
            trace_id: trace_id.to_hex(),
            span_id: span_id.to_hex(),
            flags: flags.to_hex(),
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> [u8; Self::LENGTH] {
        let mut text = *b"00-________________________________-________________-__";
        if let Some((trace_id, rest)) = text
            .get_mut(3..)
            .and_then(<[u8]>::split_first_chunk_mut::<32>)
            && let Some((span_id, flags)) = rest
                .get_mut(1..)
                .and_then(<[u8]>::split_first_chunk_mut::<16>)
            && let Some(flags) = flags.last_chunk_mut::<2>()
        {
            (*trace_id, *span_id, *flags) = (self.trace_id, self.span_id, *self.flags);
        }
        text
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
