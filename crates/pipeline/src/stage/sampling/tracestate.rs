//! `tracestate` and its member `ot`, in which OpenTelemetry's samplers write probabilities for each
//! other.

use meshtrace_headers::Arena;
use meshtrace_propagation::{TraceId, tracestate};
use meshtrace_sampling::{Counter, OtelState, Parent, Randomness, Tally, Threshold};

use super::randomness_of;
use crate::callbacks::concat;

/// The `tracestate` of a trace, and its member `ot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParsedTracestate<'s> {
    members: &'s [tracestate::Member<'s>],
    ot: OtelState<'s>,
}

impl<'s> ParsedTracestate<'s> {
    pub(crate) fn new(members: &'s [tracestate::Member<'s>]) -> Self {
        let own = members.iter().find(|member| member.key == OtelState::KEY);
        Self {
            members,
            ot: own.map_or_else(OtelState::default, |member| OtelState::parse(member.value)),
        }
    }

    /// The randomness of the trace `id`.
    pub(crate) fn randomness(&self, id: TraceId) -> Randomness {
        self.ot.randomness.unwrap_or_else(|| randomness_of(id))
    }

    /// The decision that came in with the trace `id`.
    pub(crate) fn parent(&self, id: TraceId, sampled: bool) -> Parent {
        Parent {
            sampled,
            threshold: self.ot.threshold,
            randomness: self.randomness(id),
        }
    }

    /// Returns the list with `threshold` as its `th`; `None` where it has that threshold already.
    /// The list is empty where no member is left.
    pub(crate) fn with_threshold<'a>(
        &self,
        threshold: Option<Threshold>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Option<&'a [u8]> {
        if self.ot.threshold == threshold {
            return None;
        }
        if threshold.is_none() {
            tally.count(Counter::ThresholdErased);
        }
        let value = self.ot.with_threshold(threshold);
        let value = (!value.is_empty()).then_some(value.as_slice());
        let parts = tracestate::with_member(self.members, OtelState::KEY, value);
        build(parts, arena, tally)
    }
}

/// Concatenates `parts` in the request's arena.
pub(crate) fn build<'a, 'p>(
    parts: impl IntoIterator<Item = &'p [u8]>,
    arena: &'a Arena,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let text = concat(arena, parts);
    if text.is_none() {
        tally.count(Counter::EditsDropped);
    }
    text
}
