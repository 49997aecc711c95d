//! The content of one format in a request.

use crate::{SamplingState, SpanId, TraceContext, TraceId};

/// The content of one format in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extracted {
    /// None of its headers came, or none that has a meaning.
    #[default]
    Absent,
    /// A decision and no ids (B3: `b3: 0`).
    Sampling(SamplingState),
    /// A valid context.
    Context(TraceContext),
    /// A trace id without a span id. It is well-formed, but not every format can carry it.
    Incomplete {
        /// The trace, in which a span may be started.
        trace_id: TraceId,
        /// The decision that came with it.
        sampling: SamplingState,
    },
    /// Headers that the format's specification refuses.
    Malformed,
}

impl Extracted {
    /// Makes the content of a format whose span id may be absent.
    pub(super) fn from_ids(
        trace_id: TraceId,
        span_id: Option<SpanId>,
        sampling: SamplingState,
    ) -> Self {
        match span_id {
            Some(span_id) => Self::Context(TraceContext::new(trace_id, span_id, sampling)),
            None => Self::Incomplete { trace_id, sampling },
        }
    }

    /// Whether this is `outgoing`, for a format that has no debug flag.
    pub(super) fn says(&self, outgoing: &TraceContext) -> bool {
        match self {
            Self::Context(context) => {
                context.is_same_span(outgoing)
                    && context.sampling.decision() == outgoing.sampling.decision()
            }
            Self::Absent | Self::Sampling(_) | Self::Incomplete { .. } | Self::Malformed => false,
        }
    }
}
