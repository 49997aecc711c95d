//! What comes of a rule and of a decision that came in.

use crate::config::ParentPolicy;
use crate::probability::{Randomness, Threshold};

/// What a rule says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// It is dropped.
    Drop,
    /// It is kept, with the threshold by which it was, where that is known.
    Keep(Option<Threshold>),
}

/// The decision that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// `th` of its `tracestate`.
    pub threshold: Option<Threshold>,
    /// The trace's.
    pub randomness: Randomness,
}

impl Parent {
    /// `th`, unless it contradicts the decision: "the sampled flag is expected to be set if and
    /// only if T is at most R".
    #[must_use]
    pub fn consistent_threshold(&self) -> Option<Threshold> {
        self.threshold
            .filter(|threshold| threshold.keeps(self.randomness) == self.sampled)
    }
}

/// Whether a trace is recorded, and the threshold that `tracestate` is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// `None` where the probability is not known.
    pub threshold: Option<Threshold>,
}

impl Decision {
    /// What is told of a trace of which nothing is changed, right or wrong.
    #[must_use]
    pub fn untouched(parent: Parent) -> Self {
        Self {
            sampled: parent.sampled,
            threshold: parent.threshold,
        }
    }

    /// What is told of a trace whose decision stands, whoever made it.
    #[must_use]
    pub fn stands(parent: Parent) -> Self {
        Self {
            sampled: parent.sampled,
            threshold: parent.consistent_threshold(),
        }
    }

    /// What is told of a trace that is kept whatever its decision was.
    #[must_use]
    pub fn forced(parent: Parent) -> Self {
        Self {
            sampled: true,
            threshold: parent.consistent_threshold().filter(|_| parent.sampled),
        }
    }

    /// What is told of a trace whose decision came in, given what the rules say about it.
    #[must_use]
    pub fn of(parent: Parent, policy: ParentPolicy, verdict: Verdict) -> Self {
        let stands = Self::stands(parent);
        match (policy, verdict) {
            (ParentPolicy::Respect, _) | (_, Verdict::Unchanged) => stands,
            // Kept when either keeps it: of two thresholds the lower one.
            (ParentPolicy::RespectSampled, Verdict::Keep(ours)) if parent.sampled => Self {
                sampled: true,
                threshold: both(stands.threshold, ours, Threshold::min),
            },
            (ParentPolicy::RespectSampled, Verdict::Drop) if parent.sampled => stands,
            (ParentPolicy::RespectDropped, _) if !parent.sampled => stands,
            // Kept when both keep it: of two thresholds the higher one.
            (ParentPolicy::RespectDropped, Verdict::Keep(ours)) => Self {
                sampled: true,
                threshold: both(stands.threshold, ours, Threshold::max),
            },
            (_, Verdict::Keep(threshold)) => Self {
                sampled: true,
                threshold,
            },
            (_, Verdict::Drop) => Self {
                sampled: false,
                threshold: None,
            },
        }
    }
}

fn both(
    one: Option<Threshold>,
    other: Option<Threshold>,
    choose: fn(Threshold, Threshold) -> Threshold,
) -> Option<Threshold> {
    Some(choose(one?, other?))
}
