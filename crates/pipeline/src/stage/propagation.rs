//! The stage `trace_context`: writes the context for the next hop.

use meshtrace_envoy::attribute::{self, AttributePath};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Headers, Value};
use meshtrace_propagation::{
    Counter, Field, FieldSet, Incoming, Outgoing, Peer, Propagation, TraceDecision,
};

use crate::callbacks::direction_of;
use crate::stage::sampling::ParsedTracestate;
use crate::{Lookup, Outcome, Request};

/// Writes the context for the next hop. Records the id of a trace that is not continued as filter
/// state, for access logs. Returns the headers that carry the context.
#[inline(never)]
pub(crate) fn inject<'a>(
    propagation: &'a Propagation,
    incoming: &Incoming<'a>,
    decision: &TraceDecision,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> FieldSet {
    let (edits, tally) = (&mut outcome.headers, &mut outcome.tallies.propagation);
    let policy = propagation.policy_for(&request.headers, request.cluster);
    // Where `baggage` had no room for an attribute, a client's value must not take its place.
    let is_full = outcome
        .tallies
        .attributes
        .has(meshtrace_attributes::Counter::BaggageFull);
    match is_full {
        true => propagation.count_baggage_left_out(incoming, policy, tally),
        false => propagation.join_baggage(incoming, policy, request.arena, edits, tally),
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

/// Whether the context of a caller counts whose request this filter sees at its end alone.
#[cold]
pub(crate) fn believes_late(
    propagation: &Propagation,
    headers: &Headers<'_>,
    lookup: &dyn Lookup,
) -> bool {
    let ask = |path: AttributePath, is_needed: bool| {
        is_needed.then(|| lookup.property(path.property)).flatten()
    };
    let address = ask(attribute::SOURCE_ADDRESS, propagation.needs_address());
    let direction = ask(attribute::LISTENER_DIRECTION, propagation.needs_direction());
    let peer = Peer {
        address: address.as_deref(),
        direction: direction_of(direction.as_deref()),
        own: None,
    };
    propagation.believes(headers, peer)
}

/// Removes the threshold from a `tracestate` where it contradicts the sampled flag. This can occur
/// because the flag in `traceparent` may be the decision of another format.
pub(crate) fn erase_threshold<'a>(
    propagation: &Propagation,
    incoming: &Incoming<'a>,
    decision: &TraceDecision,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) {
    let Outgoing::Context(context) = &decision.outgoing else {
        return;
    };
    let (trace_id, sampled) = (context.trace_id, propagation.w3c_sampled(context.sampling));
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
    let state = ParsedTracestate::new(&members);
    let threshold = state.parent(trace_id, sampled).consistent_threshold();
    let tally = &mut outcome.tallies.sampling;
    match state.with_threshold(threshold, request.arena, tally) {
        None => {}
        Some([]) => outcome.headers.remove(Field::Tracestate.name()),
        Some(text) => {
            let value = Value::Borrowed(text);
            outcome.headers.replace(Field::Tracestate.name(), value);
        }
    }
}
