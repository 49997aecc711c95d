//! What is counted about propagation.

use crate::Direction;
use crate::format::Format;
use crate::format::table::formats;

macro_rules! counters {
    ($(
        $(#[$doc:meta])*
        $format:ident {
            file: $file:ident,
            name: $name:literal,
            headers: { $($field:ident = $header:literal),* },
            shown: $shown:literal,
            extracted: $extracted:ident = $extracted_metric:literal,
            malformed: $malformed:ident = $malformed_metric:literal,
            only: $only:literal,
        }
    )*) => {
        meshtrace_counters::counters! {
            "meshtrace.trace_context.",
            $(
                #[doc = concat!("The context was taken from ", $shown, ".")]
                $extracted = $extracted_metric,
            )*
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
            $(
                #[doc = concat!("What came in ", $shown, " was not valid and was not forwarded.")]
                $malformed = $malformed_metric,
            )*
            /// `tracestate` was not valid, or had no valid `traceparent`, and was not forwarded.
            MalformedTracestate = "malformed.tracestate",
            /// Two formats named different traces.
            ConflictTraceId = "conflicts.trace_id",
            /// Two formats named different spans of one trace.
            ConflictSpanId = "conflicts.span_id",
            /// Two formats named one span and opposite sampling decisions.
            ConflictSampled = "conflicts.sampled",
            /// Baggage of another format was joined into `baggage`.
            BaggageJoined = "baggage.joined",
            /// A baggage entry could not be joined, as its key is none in W3C, or a member of
            /// `baggage` was not well-formed and was left out when the header was written.
            BaggageMalformed = "baggage.malformed",
            /// A baggage entry was not joined, as `baggage` is full.
            BaggageFull = "baggage.full",
            /// More header edits were needed than a request has room for.
            EditsDropped = "edits_dropped",
        }

        impl Counter {
            /// The context was taken from `format`.
            #[must_use]
            pub const fn extracted(format: Format) -> Self {
                match format {
                    $(Format::$format => Self::$extracted,)*
                }
            }

            /// What came in `format` was not valid and was not forwarded.
            #[must_use]
            pub const fn malformed(format: Format) -> Self {
                match format {
                    $(Format::$format => Self::$malformed,)*
                }
            }
        }

        /// The name, in Envoy, of the counter of requests that came in on a listener of that
        /// `direction` with a context only in `format`. It shows the callers that have not yet
        /// moved to another format.
        #[must_use]
        pub fn only_metric(format: Format, direction: Direction) -> String {
            let only = match format {
                $(Format::$format => concat!("meshtrace.trace_context.", $only, "."),)*
            };
            only.to_owned() + direction.in_metrics()
        }
    };
}

formats!(counters);

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

    /// One bit per counter, in the order of [`meshtrace_counters::Counter::ALL`].
    #[must_use]
    pub fn bits(self) -> u64 {
        self.counted.bits()
    }

    /// Counts that a context arrived in `format` and in no other.
    pub(crate) fn count_only(&mut self, format: Format) {
        self.only = Some(format);
    }

    /// The only format in which a context arrived, where that is not W3C's.
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
