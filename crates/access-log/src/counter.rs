//! What is counted about the ids of the access log.

meshtrace_counters::counters! {
    "meshtrace.access_log.",
    /// The trace id was the proxy's own, from the header of `ids`.
    SourceIds = "source.ids",
    /// The trace id was taken from what the tracer has written.
    SourceInjected = "source.injected",
    /// The trace id was the caller's.
    SourceIncoming = "source.incoming",
    /// Nothing tells the trace id.
    SourceNone = "source.none",
    /// The trace id is known, and nothing tells the span id.
    SpanIdUnknown = "span_id_unknown",
    /// The filter saw only the end of the request: an answer was made before it.
    EndOnly = "end_only",
    /// A header of `ids` was there and held no id, or came in more than one line.
    IdsMalformed = "ids_malformed",
    /// What was written in different formats names different traces or spans.
    Ambiguous = "ambiguous",
    /// There was no room for a value.
    Dropped = "dropped",
}

/// The counters that one request moves.
pub type Tally = meshtrace_counters::Tally<Counter>;
