//! The sampling decision about a trace: what a rule decides, and the decision that came in.

use crate::config::ParentPolicy;
use crate::probability::{Randomness, Threshold};

/// What a rule decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleDecision {
    /// The rule leaves the decision as it is.
    Unchanged,
    /// The trace is dropped.
    Drop,
    /// The trace is kept, by this threshold where it is known.
    Keep(Option<Threshold>),
}

/// The decision that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// The sampling threshold: `th` of the request's `tracestate`.
    pub threshold: Option<Threshold>,
    /// The randomness of the trace.
    pub randomness: Randomness,
}

impl Parent {
    /// The threshold `th`, or `None` where it contradicts the decision: "the sampled flag is
    /// expected to be set if and only if T is at most R".
    #[must_use]
    pub fn consistent_threshold(&self) -> Option<Threshold> {
        self.threshold
            .filter(|threshold| threshold.keeps(self.randomness) == self.sampled)
    }
}

/// Whether a trace is recorded, and the threshold that goes into `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingDecision {
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// The sampling threshold; `None` where the sampling probability is not known.
    pub threshold: Option<Threshold>,
}

impl SamplingDecision {
    /// The decision of the parent as it came in, even if its threshold contradicts it.
    #[must_use]
    pub fn untouched(parent: Parent) -> Self {
        Self {
            sampled: parent.sampled,
            threshold: parent.threshold,
        }
    }

    /// The decision of the parent is kept.
    #[must_use]
    pub fn stands(parent: Parent) -> Self {
        Self {
            sampled: parent.sampled,
            threshold: parent.consistent_threshold(),
        }
    }

    /// The trace is kept, whatever the parent decided.
    #[must_use]
    pub fn forced(parent: Parent) -> Self {
        Self {
            sampled: true,
            threshold: parent.consistent_threshold().filter(|_| parent.sampled),
        }
    }

    /// The decision about a trace with a parent, given what the rules decide.
    #[must_use]
    pub fn of(parent: Parent, policy: ParentPolicy, rule: RuleDecision) -> Self {
        let stands = Self::stands(parent);
        match (policy, rule) {
            (ParentPolicy::Respect, _) | (_, RuleDecision::Unchanged) => stands,
            // Kept when either keeps it: of two thresholds the lower one.
            (ParentPolicy::RespectSampled, RuleDecision::Keep(ours)) if parent.sampled => Self {
                sampled: true,
                threshold: both(stands.threshold, ours, Threshold::min),
            },
            (ParentPolicy::RespectSampled, RuleDecision::Drop) if parent.sampled => stands,
            (ParentPolicy::RespectDropped, _) if !parent.sampled => stands,
            // Kept when both keep it: of two thresholds the higher one.
            (ParentPolicy::RespectDropped, RuleDecision::Keep(ours)) => Self {
                sampled: true,
                threshold: both(stands.threshold, ours, Threshold::max),
            },
            (_, RuleDecision::Keep(threshold)) => Self {
                sampled: true,
                threshold,
            },
            (_, RuleDecision::Drop) => Self {
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
