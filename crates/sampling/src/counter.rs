//! The counters of sampling, besides the rules' own counters.

meshtrace_counters::counters! {
    "meshtrace.route_sampling.",
    /// The caller's decision was positive and stood.
    ParentSampled = "parent.sampled",
    /// The caller's decision was negative and stood.
    ParentDropped = "parent.dropped",
    /// The caller left the decision open: this proxy's tracer took it by its own settings, or,
    /// where this filter is the tracer, the rules did.
    ParentDeferred = "parent.deferred",
    /// The caller's decision was changed for the next hop.
    ParentChanged = "parent.changed",
    /// The request was kept by `force`.
    Forced = "force.sampled",
    /// The request had the header of `force`, with another value.
    ForceRefused = "force.refused",
    /// The request had the header of `force`, which is off because its key is not in the
    /// environment.
    ForceOff = "force.off",
    /// A token could not be taken: the host failed, or other workers were faster every time.
    BucketFailed = "per_second.failed",
    /// `th` in `tracestate` contradicted the decision and was erased.
    ThresholdErased = "threshold.erased",
    /// The request needed more header edits, or more memory, than there is room for.
    EditsDropped = "edits_dropped",
}

/// The counters of sampling that one request moves. Each moves at most once.
pub type Tally = meshtrace_counters::Tally<Counter>;
