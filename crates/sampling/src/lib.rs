//! Sampling: rules by route, consistent probability, rate limits.
//!
//! [`RuleSampler`] is a compiled configuration. [`RuleSampler::choose`] finds the rule of a
//! request, [`RuleSampler::should_sample`] returns the decision of that rule, and a
//! [`SamplingDecision`] joins it with the decision that came in. Nothing here calls a host or
//! allocates memory for a request. What only the host has (the time, the bucket that the workers
//! share) comes from closures.

#![forbid(unsafe_code)]

mod bucket;
mod conditions;
mod config;
mod counter;
mod decision;
mod force;
mod keys;
mod matcher;
mod probability;
mod rule_sampler;
mod sample;
#[cfg(feature = "schema")]
mod schema;
mod summary;

pub use bucket::{Bucket, BucketState, Take};
pub use config::{
    ClusterConfig, ForceConfig, HeaderConfig, IdsConfig, MatchConfig, ParentPolicy, PathConfig,
    RuleConfig, SampleConfig, SamplingConfig,
};
pub use counter::{Counter, Tally};
pub use decision::{Parent, RuleDecision, SamplingDecision};
pub use force::Forcing;
pub use matcher::RequestView;
pub use probability::{OtelState, Randomness, Threshold};
pub use rule_sampler::{Chosen, RuleSampler};
