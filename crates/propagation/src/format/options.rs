//! How formats are read and written where a configuration has a choice.

use serde::Deserialize;

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
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u64")]
pub enum B3TraceIdBits {
    /// 32 digits.
    #[default]
    Bits128,
    /// The right-most 16 digits, for receivers that take no more. The left half is lost.
    Bits64,
}

impl TryFrom<u64> for B3TraceIdBits {
    type Error = String;

    fn try_from(bits: u64) -> Result<Self, String> {
        match bits {
            128 => Ok(Self::Bits128),
            64 => Ok(Self::Bits64),
            _ => Err(format!("invalid value: {bits}, expected 128 or 64")),
        }
    }
}
