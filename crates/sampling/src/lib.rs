//! Sampling: rules by route, consistent probability, rate limits.
//!
//! [`Sampling`] is a compiled configuration. [`Sampling::choose`] finds the rule of a request,
//! [`Sampling::verdict`] does what it says, and [`Decision`] is what comes of that and of a decision
//! that came in. Nothing here calls a host or allocates per request: what the host alone has (time,
//! the bucket that the workers share) is asked for by closures.

#![forbid(unsafe_code)]

mod bucket;
mod config;
mod counter;
mod decision;
mod force;
mod matcher;
mod probability;
mod sampling;
#[cfg(feature = "schema")]
mod schema;

pub use bucket::{Bucket, BucketState, Take};
pub use config::{
    ForceConfig, HeaderConfig, IdsConfig, MatchConfig, ParentPolicy, PathConfig, RuleConfig,
    SampleConfig, SamplingConfig,
};
pub use counter::{Counter, Tally};
pub use decision::{Decision, Parent, Verdict};
pub use force::Forcing;
pub use matcher::RequestView;
pub use probability::{OtelState, Randomness, Threshold};
pub use sampling::{Chosen, Sampling};
