//! This hop in its trace: its identity, its decision, and the `tracestate` that is sent on.

use meshtrace_headers::{Arena, Value};
use meshtrace_propagation::{
    Field, FieldSet, Incoming, Outgoing, Participation, Propagation, SamplingState, SpanId,
    TraceContext, TraceDecision, tracestate,
};
use meshtrace_sampling::{Chosen, SamplingDecision, Tally};

use crate::stage::report::{Details, Identity};
use crate::stage::sampling::{ParsedTracestate, Sampled, build};
use crate::{Outcome, Request};

/// W3C's `tracestate` as it is sent on with the request.
#[derive(Clone, Copy, Debug, Default)]
struct OutgoingTracestate<'a> {
    /// Empty where no `tracestate` is sent on, and where the text is not needed.
    text: &'a [u8],
    /// Whether it is to be written in place of what came in.
    is_new: bool,
}

impl<'a> OutgoingTracestate<'a> {
    fn new(
        incoming: &Incoming<'_>,
        members: Option<&tracestate::Members<'_>>,
        state: &ParsedTracestate<'_>,
        sampled: Sampled,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Self {
        let decision = sampled.decision;
        if let Some(text) = state.with_threshold(decision.threshold, arena, tally) {
            return Self { text, is_new: true };
        }
        // Many applications copy only the first line of a header to their own calls.
        let is_repeated = incoming.arrived().is_repeated(Field::Tracestate);
        let Some(members) = members.filter(|_| decision.sampled || is_repeated) else {
            return Self::default();
        };
        let text = build(tracestate::one_line(members), arena, tally);
        text.map_or_else(Self::default, |text| Self {
            text,
            is_new: is_repeated,
        })
    }
}

/// This hop in its trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    pub(super) participation: Participation,
    pub(super) sampled: bool,
    /// Whether the request is not reported even where it fails.
    pub(super) never: bool,
    /// The rule that the request fits, where the rules were searched.
    pub(super) chosen: Option<Chosen>,
    tracestate: OutgoingTracestate<'a>,
}

impl<'a> Hop<'a> {
    pub(super) fn new(
        participation: Participation,
        sampled: Sampled,
        never: bool,
        tracestate: (&ParsedTracestate<'_>, Option<&tracestate::Members<'_>>),
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Self {
        let (state, members) = tracestate;
        Self {
            participation,
            sampled: sampled.decision.sampled,
            never,
            chosen: sampled.chosen,
            tracestate: OutgoingTracestate::new(incoming, members, state, sampled, arena, tally),
        }
    }

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

    /// Returns the same hop with `text` as its `tracestate`, so that it can outlive the request's
    /// arena.
    pub(super) fn with_tracestate(self, text: &[u8]) -> Hop<'_> {
        let Self {
            participation,
            sampled,
            never,
            chosen,
            tracestate: OutgoingTracestate { is_new, .. },
        } = self;
        Hop {
            participation,
            sampled,
            never,
            chosen,
            tracestate: OutgoingTracestate { text, is_new },
        }
    }

    /// Returns the hop of the same request when it comes a second time: its span `own` is a child of
    /// `caller`. The `tracestate` came with it.
    pub(super) fn again(self, caller: SpanId, own: SpanId) -> Self {
        let Self {
            mut participation,
            mut tracestate,
            ..
        } = self;
        participation.context.span_id = own;
        participation.context.b3_parent = Some(caller);
        participation.parent = Some(caller);
        participation.previous_trace_id = None;
        tracestate.is_new = false;
        Self {
            participation,
            tracestate,
            ..self
        }
    }

    /// Returns the same hop for a call that is not sampled whatever was decided.
    pub(super) fn not_sampled(
        self,
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        outcome: &mut Outcome<'_>,
    ) -> Self {
        let members = incoming.tracestate(self.participation.context.trace_id);
        let state = ParsedTracestate::new(members.as_deref().unwrap_or_default());
        let sampled = Sampled {
            decision: SamplingDecision {
                sampled: false,
                threshold: None,
            },
            chosen: self.chosen,
        };
        let tally = &mut outcome.tallies.sampling;
        Self {
            sampled: false,
            tracestate: OutgoingTracestate::new(
                incoming,
                members.as_ref(),
                &state,
                sampled,
                arena,
                tally,
            ),
            ..self
        }
    }

    /// W3C's `tracestate` of the span; empty where there is none.
    pub(super) fn tracestate(&self) -> &'a [u8] {
        self.tracestate.text
    }

    /// The data of the span besides the data from its request's headers.
    pub(super) fn details<'d>(&'d self, route: Option<&'d [u8]>) -> Details<'d> {
        Details {
            route,
            tracestate: self.tracestate.text,
        }
    }

    fn sampling(&self) -> SamplingState {
        match (self.participation.context.sampling, self.sampled) {
            (SamplingState::Debug, true) => SamplingState::Debug,
            (_, true) => SamplingState::Sampled,
            (_, false) => SamplingState::NotSampled,
        }
    }

    /// The context that is injected for the next hop: the span that calls it, and the decision.
    pub(super) fn injected(&self, identity: &Identity) -> TraceContext {
        let (span_id, b3_parent) = identity.injected();
        TraceContext {
            span_id,
            b3_parent,
            ..self.own_context()
        }
    }

    /// The data that is injected for the next hop.
    pub(super) fn decision(&self, identity: &Identity) -> TraceDecision {
        TraceDecision {
            outgoing: Outgoing::Context(self.injected(identity)),
            previous_trace_id: self.participation.previous_trace_id,
        }
    }

    /// The context of the request's own span.
    pub(super) fn own_context(&self) -> TraceContext {
        TraceContext {
            sampling: self.sampling(),
            ..self.participation.context
        }
    }

    /// Writes `tracestate` in one line where it has changed and `traceparent` is among the headers
    /// that were `injected`.
    pub(super) fn write_tracestate(
        &self,
        propagation: &Propagation,
        injected: FieldSet,
        request: &Request<'_>,
        outcome: &mut Outcome<'a>,
    ) {
        let OutgoingTracestate { text, is_new } = self.tracestate;
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
