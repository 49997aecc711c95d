//! What is counted about reporting spans.

meshtrace_counters::counters! {
    "meshtrace.report.",
    /// Spans that a collector took.
    Exported = "exported",
    /// Spans that a collector refused in an answer that took others (OTLP, "Partial Success").
    Rejected = "rejected",
    /// Spans dropped because the queue was full.
    DroppedQueueFull = "dropped.queue_full",
    /// Spans dropped because a collector refused them for good.
    DroppedRefused = "dropped.refused",
    /// Spans dropped because a collector found a call with this span alone too large.
    DroppedTooLarge = "dropped.too_large",
    /// Spans dropped because no collector took them in time.
    DroppedExpired = "dropped.expired",
    /// Spans dropped because Envoy knows no cluster of the configured name.
    DroppedUnknownCluster = "dropped.unknown_cluster",
    /// Export calls that were made, and those that failed at once (a cluster without endpoints).
    Calls = "calls",
    /// Export calls that failed in a way that is tried again.
    Retries = "retries",
    /// Successful answers whose body is not OTLP.
    MalformedAnswers = "malformed_answers",
    /// Calls that a collector found too large, and that are made again in parts.
    Split = "split",
    /// Requests that are not reported: the trace is not sampled, and `keep` does not report them.
    NotSampled = "not_sampled",
    /// Requests that were reported although the trace was not sampled.
    Kept = "kept",
    /// Requests that `keep` would have reported, but there were too many in that second.
    KeepLimited = "keep_limited",
    /// Reported requests that came in with a trace.
    IncomingJoined = "incoming.joined",
    /// Reported requests that came in without a trace, so that one begins here.
    IncomingStarted = "incoming.started",
    /// Reported requests that the workload sent with a trace.
    OutgoingJoined = "outgoing.joined",
    /// Reported requests that the workload sent without a trace, so that one begins here.
    OutgoingStarted = "outgoing.started",
    /// Reported requests whose end was asked for value by value, because some had none.
    LookedUpSingly = "looked_up_singly",
    /// Requests whose span lost an attribute because there was no room for it.
    Truncated = "truncated",
}

impl Counter {
    /// Where a reported request came from, and whether it had a trace.
    #[must_use]
    pub const fn origin(is_outgoing: bool, has_parent: bool) -> Self {
        match (is_outgoing, has_parent) {
            (false, true) => Self::IncomingJoined,
            (false, false) => Self::IncomingStarted,
            (true, true) => Self::OutgoingJoined,
            (true, false) => Self::OutgoingStarted,
        }
    }
}

/// The counters that one request moves.
pub type Tally = meshtrace_counters::Tally<Counter>;
