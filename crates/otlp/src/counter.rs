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
    /// Spans dropped because no collector took them in time.
    DroppedExpired = "dropped.expired",
    /// Spans dropped because Envoy knows no cluster of the configured name.
    DroppedUnknownCluster = "dropped.unknown_cluster",
    /// Export calls that were made, and those that failed at once (a cluster without endpoints).
    Calls = "calls",
    /// Export calls that failed in a way that is tried again.
    Retries = "retries",
    /// Answers of success that are no OTLP.
    MalformedAnswers = "malformed_answers",
    /// Requests that were reported although the head decision was "no".
    Kept = "kept",
    /// Requests that would have been, had there not been too many in that second.
    KeepLimited = "keep_limited",
    /// Reported requests whose end was asked for value by value, because some had none.
    LookedUpSingly = "looked_up_singly",
    /// Requests whose span lost an attribute for want of room.
    Truncated = "truncated",
}

/// The counters that one request moves.
pub type Tally = meshtrace_counters::Tally<Counter>;
