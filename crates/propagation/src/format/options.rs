//! How formats are read and written where a configuration has a choice.

use meshtrace_config::{Read, Value};

use crate::SamplingState;

/// How leniently formats are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// B3 exactly as specified: lower-case ids, decisions of one character, no fall-back from a
    /// malformed `b3` to `x-b3-*`.
    pub b3_strict: bool,
}

/// How formats are written where a context has more than one form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing {
    /// The decision to write in a format without a "deferred" state when the decision is open.
    pub on_defer: OnDefer,
    /// The width of a trace id in B3.
    pub b3_trace_id_bits: B3TraceIdBits,
}

impl Writing {
    /// The decision to write in a format that cannot leave it open.
    pub(crate) fn decision(self, sampling: SamplingState) -> bool {
        sampling
            .decision()
            .unwrap_or(self.on_defer == OnDefer::Sampled)
    }
}

/// The decision that a format without a "deferred" state says when none was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum OnDefer {
    /// Not sampled.
    #[default]
    Unsampled,
    /// Sampled.
    Sampled,
}

impl OnDefer {
    pub(crate) const fn sampling(self) -> SamplingState {
        match self {
            Self::Unsampled => SamplingState::NotSampled,
            Self::Sampled => SamplingState::Sampled,
        }
    }
}

/// The width of trace ids in B3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum B3TraceIdBits {
    /// 32 digits.
    #[default]
    Bits128,
    /// The right-most 16 digits, for receivers that take no more. The left half is lost.
    Bits64,
}

meshtrace_config::words!(OnDefer {
    Unsampled = "unsampled",
    Sampled = "sampled",
});

impl Read for B3TraceIdBits {
    fn read(value: Value<'_>) -> Self {
        match value.whole_number(u64::MAX) {
            Some(64) => return Self::Bits64,
            Some(128) | None => {}
            Some(_) => value.refuse_value("128 or 64"),
        }
        Self::Bits128
    }
}
