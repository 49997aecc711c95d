//! The context of a trace at one hop.

use crate::{SpanId, TraceId};

/// The caller's decision about recording the trace (B3, "Sampling State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingState {
    /// No decision yet: the next hop decides.
    Deferred,
    /// Not recorded.
    NotSampled,
    /// Recorded.
    Sampled,
    /// Recorded at every hop, whatever its own rate (B3 and Jaeger; implies sampled).
    Debug,
}

impl SamplingState {
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

/// The identity of the calling span, and the decision about its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The calling span: W3C's `parent-id`, B3's `SpanId`.
    pub span_id: SpanId,
    /// The caller's decision.
    pub sampling: SamplingState,
    /// Whether the right-most 7 bytes of the trace id are known to be random (W3C Level 2, section
    /// 3.2.2.5.2).
    pub random: bool,
    /// B3's `ParentSpanId`, the caller's own parent. It is kept only to write B3 back as it came.
    pub b3_parent: Option<SpanId>,
}

impl TraceContext {
    /// A context with these values. Nothing more is known of it.
    pub(crate) const fn new(trace_id: TraceId, span_id: SpanId, sampling: SamplingState) -> Self {
        Self {
            trace_id,
            span_id,
            sampling,
            random: false,
            b3_parent: None,
        }
    }

    /// The length of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 25;

    /// Writes the context without B3's parent, for this proxy's own use. No header has this form.
    #[must_use]
    #[inline(never)]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let sampling: u8 = match self.sampling {
            SamplingState::Deferred => 0,
            SamplingState::NotSampled => 1,
            SamplingState::Sampled => 2,
            SamplingState::Debug => 3,
        };
        let flags = sampling | u8::from(self.random) << 2;
        let mut bytes = [flags; Self::BYTES];
        if let Some((trace_id, rest)) = bytes.split_first_chunk_mut() {
            *trace_id = self.trace_id.to_bytes();
            if let Some(span_id) = rest.first_chunk_mut() {
                *span_id = self.span_id.to_bytes();
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let [flags] = rest else { return None };
        let sampling = match flags & 0b11 {
            0 => SamplingState::Deferred,
            1 => SamplingState::NotSampled,
            2 => SamplingState::Sampled,
            _ => SamplingState::Debug,
        };
        Some(Self {
            random: flags & 0b100 != 0,
            ..Self::new(
                TraceId::new(u128::from_be_bytes(*trace_id))?,
                SpanId::new(u64::from_be_bytes(*span_id))?,
                sampling,
            )
        })
    }

    /// Whether both name one span of one trace.
    #[must_use]
    pub fn is_same_span(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.span_id == other.span_id
    }
}

/// The context that the next hop gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing.
    Nothing,
    /// A decision without ids (B3 only).
    Sampling(SamplingState),
    /// This context.
    Context(TraceContext),
}

impl Outgoing {
    pub(crate) fn sampling(&self) -> SamplingState {
        match self {
            Self::Nothing => SamplingState::Deferred,
            Self::Sampling(sampling) => *sampling,
            Self::Context(context) => context.sampling,
        }
    }
}
