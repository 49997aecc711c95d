//! This hop in its trace: whether it is recorded, and what the next one is told.

use meshtrace_headers::Value;
use meshtrace_propagation::{
    Decision, Field, FieldSet, IdGenerator, Outgoing, Participation, Propagation, SamplingState,
    SpanId, TraceContext,
};
use meshtrace_sampling::{self as sampling, Chosen, Counter, Randomness, Threshold, Verdict};

use crate::stage::report::{Details, Identity};
use crate::stage::sampling::{self as rules, Asked, Rules, State};
use crate::{Outcome, Request};

/// What is decided about a request, and the rule where one was asked.
pub(super) fn judge(
    rules: &Rules,
    forced: bool,
    Participation {
        context, parent, ..
    }: &Participation,
    state: &State<'_>,
    asked: &Asked<'_>,
    ids: &IdGenerator,
    outcome: &mut Outcome<'_>,
) -> (sampling::Decision, Option<Chosen>) {
    if let Some(sampled) = context.sampling.decision() {
        let parent = state.parent(context.trace_id, sampled);
        let (decision, chosen) = rules.settle(parent, forced, asked, ids, outcome);
        rules::count_parent(parent, decision, &mut outcome.tallies.sampling);
        return (decision, chosen);
    }
    if parent.is_some() {
        let tally = &mut outcome.tallies.sampling;
        tally.count(Counter::ParentDeferred);
    }
    let randomness = state.randomness(context.trace_id);
    if forced {
        return (start(Verdict::Keep(None), randomness), None);
    }
    let (chosen, verdict) = rules.ask(asked, Some(randomness), ids, outcome);
    (start(verdict, randomness), Some(chosen))
}

/// What a rule decides about a trace of which nobody has decided yet; where it says nothing, one in
/// a hundred is kept.
pub(super) fn start(verdict: Verdict, randomness: Randomness) -> sampling::Decision {
    let by_ratio = Threshold::ONE_IN_A_HUNDRED;
    let (sampled, threshold) = match verdict {
        Verdict::Keep(threshold) => (true, threshold),
        Verdict::Unchanged if by_ratio.keeps(randomness) => (true, Some(by_ratio)),
        Verdict::Unchanged | Verdict::Drop => (false, None),
    };
    sampling::Decision { sampled, threshold }
}

/// What W3C's `tracestate` says when the request leaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TraceState<'a> {
    /// Empty where nothing goes on, and where nobody asks for it.
    pub(super) text: &'a [u8],
    /// It is to be written in place of what came in.
    pub(super) is_new: bool,
}

/// This hop in its trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    pub(super) participation: Participation,
    pub(super) sampled: bool,
    /// Not even a failure is reported.
    pub(super) never: bool,
    /// The rule, where it was looked for.
    pub(super) chosen: Option<Chosen>,
    pub(super) tracestate: TraceState<'a>,
}

impl<'a> Hop<'a> {
    /// The identity of this hop's spans, of which `client_id` is the CLIENT one.
    pub(super) fn identity(&self, client_id: Option<SpanId>) -> Identity {
        let Participation {
            context, parent, ..
        } = self.participation;
        Identity {
            trace_id: context.trace_id,
            span_id: context.span_id,
            client_id,
            parent,
            sampled: self.sampled,
            never: self.never,
        }
    }

    /// What the span says besides what its request's headers do.
    pub(super) fn details<'d>(&'d self, route: Option<&'d [u8]>) -> Details<'d> {
        Details {
            route,
            tracestate: self.tracestate.text,
        }
    }

    pub(super) fn sampling(&self) -> SamplingState {
        match (self.participation.context.sampling, self.sampled) {
            (SamplingState::Debug, true) => SamplingState::Debug,
            (_, true) => SamplingState::Sampled,
            (_, false) => SamplingState::NotSampled,
        }
    }

    /// What the next hop is told: the span that calls it, and what was decided.
    pub(super) fn decision(&self, identity: &Identity) -> Decision {
        let (span_id, b3_parent) = identity.injected();
        let sampling = self.sampling();
        Decision {
            outgoing: Outgoing::Context(TraceContext {
                span_id,
                b3_parent,
                sampling,
                ..self.participation.context
            }),
            previous_trace_id: self.participation.previous_trace_id,
        }
    }

    /// Writes the list in one line where it is another one, and `traceparent` is among the headers
    /// that were `injected`.
    pub(super) fn write_tracestate(
        &self,
        propagation: &Propagation,
        injected: FieldSet,
        request: &Request<'_>,
        outcome: &mut Outcome<'a>,
    ) {
        let TraceState { text, is_new } = self.tracestate;
        let policy = propagation.policy_for(&request.headers, request.cluster);
        if !is_new || !injected.contains(Field::Traceparent) || policy.clears(Field::Tracestate) {
            return;
        }
        let name = Field::Tracestate.name();
        match text {
            [] => outcome.headers.remove(name),
            text => outcome.headers.replace(name, Value::Borrowed(text)),
        }
    }
}
