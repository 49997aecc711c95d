//! What is counted about propagation.

use crate::Direction;
use crate::format::Format;

meshtrace_counters::counters! {
    "meshtrace.trace_context.",
    /// The context was taken from `traceparent`.
    ExtractedTracecontext = "extracted.tracecontext",
    /// The context was taken from `b3`.
    ExtractedB3 = "extracted.b3",
    /// The context was taken from `x-b3-*`.
    ExtractedB3Multi = "extracted.b3multi",
    /// The context was taken from `uber-trace-id`.
    ExtractedJaeger = "extracted.jaeger",
    /// The context was taken from `x-amzn-trace-id`.
    ExtractedXray = "extracted.xray",
    /// The context was taken from `x-cloud-trace-context`.
    ExtractedGcp = "extracted.gcp",
    /// The context was taken from `x-datadog-*`.
    ExtractedDatadog = "extracted.datadog",
    /// The context was taken from `ot-tracer-*`.
    ExtractedOttrace = "extracted.ottrace",
    /// The context was taken from `grpc-trace-bin`.
    ExtractedGrpcTraceBin = "extracted.grpc_trace_bin",
    /// A B3 header carried a decision and no ids.
    SamplingOnly = "sampling_only",
    /// The request carried no usable context.
    Missing = "missing",
    /// The request carried a trace id without a span, and no context.
    Incomplete = "incomplete",
    /// The chosen context left the sampling decision open.
    Deferred = "deferred",
    /// A span was started here because no context came in.
    Generated = "generated",
    /// An untrusted caller's trace was replaced by a new one.
    Restarted = "restarted",
    /// An untrusted caller's context was stripped.
    Ignored = "ignored",
    /// `traceparent` was not valid and was not forwarded.
    MalformedTraceparent = "malformed.traceparent",
    /// `tracestate` was not valid, or had no valid `traceparent`, and was not forwarded.
    MalformedTracestate = "malformed.tracestate",
    /// `b3` was not valid and was not forwarded.
    MalformedB3 = "malformed.b3",
    /// The `x-b3-*` headers were not valid and were not forwarded.
    MalformedB3Multi = "malformed.b3multi",
    /// `uber-trace-id` was not valid and was not forwarded.
    MalformedJaeger = "malformed.jaeger",
    /// `x-amzn-trace-id` was not valid and was not forwarded.
    MalformedXray = "malformed.xray",
    /// `x-cloud-trace-context` was not valid and was not forwarded.
    MalformedGcp = "malformed.gcp",
    /// The `x-datadog-*` headers were not valid and were not forwarded.
    MalformedDatadog = "malformed.datadog",
    /// The `ot-tracer-*` headers were not valid and were not forwarded.
    MalformedOttrace = "malformed.ottrace",
    /// `grpc-trace-bin` was not valid and was not forwarded.
    MalformedGrpcTraceBin = "malformed.grpc_trace_bin",
    /// Two formats named different traces.
    ConflictTraceId = "conflicts.trace_id",
    /// Two formats named different spans of one trace.
    ConflictSpanId = "conflicts.span_id",
    /// Two formats named one span and opposite sampling decisions.
    ConflictSampled = "conflicts.sampled",
    /// Baggage of another format was joined into `baggage`.
    BaggageJoined = "baggage.joined",
    /// A baggage entry could not be joined, as its key is none in W3C, or a member of `baggage` was
    /// not well-formed and was left out when the header was written.
    BaggageMalformed = "baggage.malformed",
    /// A baggage entry was not joined, as `baggage` is full.
    BaggageFull = "baggage.full",
    /// More header edits were needed than a request has room for.
    EditsDropped = "edits_dropped",
}

/// The name, in Envoy, of the counter of requests with a context in `format` alone that came in on
/// a listener of that `direction`: who has not yet moved to another format.
#[must_use]
pub fn only_metric(format: Format, direction: Direction) -> String {
    let (format, direction) = (format.in_metrics(), direction.in_metrics());
    format!("meshtrace.trace_context.only.{format}.{direction}")
}

/// What is counted about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counted: meshtrace_counters::Tally<Counter>,
    only: Option<Format>,
}

impl Tally {
    /// Counts `counter` for this request.
    pub fn count(&mut self, counter: Counter) {
        self.counted.count(counter);
    }

    /// Whether `counter` was counted.
    #[must_use]
    pub fn has(self, counter: Counter) -> bool {
        self.counted.has(counter)
    }

    /// The counters that were counted.
    pub fn iter(self) -> impl Iterator<Item = Counter> {
        self.counted.iter()
    }

    /// One bit a counter, in the order of [`meshtrace_counters::Counter::ALL`].
    #[must_use]
    pub fn bits(self) -> u64 {
        self.counted.bits()
    }

    /// Counts that a context arrived in `format` and in no other.
    pub(crate) fn count_only(&mut self, format: Format) {
        self.only = Some(format);
    }

    /// The format, other than W3C's, in which alone a context arrived.
    #[must_use]
    pub fn only(self) -> Option<Format> {
        self.only
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshtrace_counters::Counter as _;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        for (i, metric) in Counter::METRICS.iter().enumerate() {
            assert!(!Counter::METRICS[i + 1..].contains(metric), "{metric}");
        }
    }
}
