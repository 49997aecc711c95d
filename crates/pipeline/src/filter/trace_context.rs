//! `trace_context`: one context, in every format.

use meshtrace_config::ConfigError;
use meshtrace_envoy::filter_state;
use meshtrace_headers::Value;
use meshtrace_propagation::{
    Counter, Decision, Field, FieldSet, IdGenerator, Incoming, Outgoing, Propagation,
};

use crate::by_filter_state::{self, say_all};
use crate::stage::sampling::State;
use crate::{ByFilterState, Callback, Composition, Environment, Needs, Outcome, Request, Stage};

/// The `trace_context` filter.
#[derive(Clone, Debug)]
pub struct TraceContext {
    propagation: Propagation,
    by_filter_state: Option<ByFilterState>,
}

impl Composition for TraceContext {
    const NAME: &'static str = "trace_context";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders];
    const STAGES: &'static [Stage] = &[Stage::Propagation];
    type RequestState = ();

    fn from_json(json: &[u8], _environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_plugin_config::trace_context(json)
            .and_then(|config| {
                let propagation = Propagation::new(&config)?;
                let asked = config.request_headers;
                let managed =
                    by_filter_state::of_propagation(&propagation, asked, config.placement)?;
                Ok(Self {
                    by_filter_state: ByFilterState::new(asked, &managed, &[])?,
                    propagation,
                })
            })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            address: self.propagation.needs_address(),
            direction: self.propagation.needs_direction(),
            cluster: self.propagation.needs_cluster(),
            own_context: self.propagation.needs_own_context(),
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn caution(&self) -> Option<&'static str> {
        self.propagation.caution()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        let (propagation, tally) = (&self.propagation, &mut outcome.tallies.propagation);
        let incoming = propagation.extract(request.headers, request.peer, tally);
        let decision = propagation.decide(&incoming, ids, tally);
        tell(propagation, &incoming, &decision, request, outcome);
        erase_threshold(propagation, &incoming, &decision, request, outcome);
        if !say_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.propagation.count(Counter::EditsDropped);
        }
    }
}

/// Tells the next hop, and keeps the trace that is not continued where access logs find it. Returns
/// the headers that the next hop is told the context by.
pub(crate) fn tell<'a>(
    propagation: &'a Propagation,
    incoming: &Incoming<'a>,
    decision: &Decision,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> FieldSet {
    let (edits, tally) = (&mut outcome.headers, &mut outcome.tallies.propagation);
    let policy = propagation.policy_for(&request.headers, request.cluster);
    // An attribute that had no room in the list is not joined from a client's header either.
    let is_full = outcome
        .tallies
        .attributes
        .has(meshtrace_attributes::Counter::BaggageFull);
    if !is_full {
        propagation.join_baggage(incoming, policy, request.arena, edits, tally);
    }
    let injected = propagation.inject(incoming, &decision.outgoing, policy, edits, tally);
    if let Outgoing::Context(context) = &decision.outgoing
        && propagation.needs_own_context()
    {
        outcome.own_context = Some(context.to_bytes());
    }
    if let Some(id) = decision.previous_trace_id {
        match request.arena.try_alloc(id.to_hex()) {
            Ok(digits) => outcome
                .properties
                .set(filter_state::PREVIOUS_TRACE_ID.as_bytes(), digits),
            Err(_) => tally.count(Counter::EditsDropped),
        }
    }
    injected
}

/// Takes the threshold out of a `tracestate` that it would contradict: the flag that W3C is told may
/// be another format's decision.
pub(crate) fn erase_threshold<'a>(
    propagation: &Propagation,
    incoming: &Incoming<'a>,
    decision: &Decision,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) {
    let Outgoing::Context(context) = &decision.outgoing else {
        return;
    };
    let (trace_id, sampled) = (context.trace_id, propagation.tells_w3c(context.sampling));
    let changed = incoming
        .w3c_decision(trace_id)
        .is_some_and(|own| own != sampled);
    let policy = propagation.policy_for(&request.headers, request.cluster);
    if !changed || policy.clears(Field::Tracestate) {
        return;
    }
    let Some(members) = incoming.tracestate(trace_id) else {
        return;
    };
    let state = State::of(&members);
    let threshold = state.parent(trace_id, sampled).consistent_threshold();
    let tally = &mut outcome.tallies.sampling;
    match state.telling(threshold, request.arena, tally) {
        None => {}
        Some([]) => outcome.headers.remove(Field::Tracestate.name()),
        Some(text) => {
            let value = Value::Borrowed(text);
            outcome.headers.replace(Field::Tracestate.name(), value);
        }
    }
}
