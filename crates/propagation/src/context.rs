//! The context of a trace at one hop.

use crate::{SpanId, TraceId};

/// What the caller decided about recording this trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Nothing yet: the next hop decides.
    Deferred,
    /// Not recorded.
    NotSampled,
    /// Recorded.
    Sampled,
    /// Recorded at every hop, whatever its own rate (B3 and Jaeger; implies sampled).
    Debug,
}

impl Sampling {
    /// The decision, where there is one.
    #[must_use]
    pub fn decision(self) -> Option<bool> {
        match self {
            Self::Deferred => None,
            Self::NotSampled => Some(false),
            Self::Sampled | Self::Debug => Some(true),
        }
    }
}

/// The identity of the calling span, and the decision that goes with its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The calling span: W3C's `parent-id`, B3's `SpanId`.
    pub span_id: SpanId,
    /// The caller's decision.
    pub sampling: Sampling,
    /// The right-most 7 bytes of the trace id are known to be random (W3C Level 2, section
    /// 3.2.2.5.2).
    pub random: bool,
    /// B3's `ParentSpanId`, the caller's own parent: kept only to write B3 back as it came.
    pub b3_parent: Option<SpanId>,
}

impl TraceContext {
    /// A context of which nothing more is known.
    pub(crate) const fn new(trace_id: TraceId, span_id: SpanId, sampling: Sampling) -> Self {
        Self {
            trace_id,
            span_id,
            sampling,
            random: false,
            b3_parent: None,
        }
    }

    /// Whether both name one span of one trace.
    #[must_use]
    pub fn is_same_span(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.span_id == other.span_id
    }
}
