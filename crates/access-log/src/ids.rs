//! The ids of one span, and its flags.

use meshtrace_propagation::format::Format;
use meshtrace_propagation::{SamplingState, SpanId, TraceContext, TraceId};

/// The ids of the span that the proxy exports for a request, as far as they can be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Its trace; without a tracer, the caller's.
    pub trace_id: Option<TraceId>,
    /// The span of the request itself, not of an attempt to an upstream.
    pub span_id: Option<SpanId>,
    /// The parent of that span; without a tracer, the caller's span.
    pub parent_span_id: Option<SpanId>,
    /// The flags of the trace as W3C writes them.
    pub flags: Option<Flags>,
    /// The format in which the trace came in; of one that began here, in which it went out.
    pub format: Option<Format>,
}

impl Ids {
    /// Those of a span that this proxy's filter opened itself: `context` is what identifies it,
    /// `format` the one in which the trace came in.
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
            flags: Flags::of(context),
            format,
        }
    }
}

/// The flags of a trace, as W3C writes them (Trace Context Level 2, section 3.2.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    const SAMPLED: u8 = 0b01;
    const RANDOM: u8 = 0b10;

    /// `None` where the decision is open.
    pub(crate) fn of(context: &TraceContext) -> Option<Self> {
        let sampled = match context.sampling {
            SamplingState::Deferred => return None,
            SamplingState::NotSampled => 0,
            SamplingState::Sampled | SamplingState::Debug => Self::SAMPLED,
        };
        let random = if context.random { Self::RANDOM } else { 0 };
        Some(Self(sampled | random))
    }

    /// The flag `sampled`, or none.
    pub(crate) fn of_decision(sampled: bool) -> Self {
        Self(u8::from(sampled))
    }

    /// Two hexadecimal digits.
    #[must_use]
    pub const fn to_hex(self) -> &'static [u8; 2] {
        match self.0 {
            0 => b"00",
            Self::SAMPLED => b"01",
            Self::RANDOM => b"02",
            _ => b"03",
        }
    }
}
