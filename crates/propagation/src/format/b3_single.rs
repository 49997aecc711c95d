//! B3 in one header: `b3: {TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}`.

use meshtrace_headers::{Arena, Value};

use super::b3::{self, TraceIdText};
use super::extracted::Extracted;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext};

pub(super) const PROPERTIES: Properties = Properties {
    can_defer: true,
    cuts_ids: true,
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, reading: Reading) -> Extracted {
    if arrived.raw(Field::B3).is_none() {
        return Extracted::Absent;
    }
    let is_decision = |text: &[u8]| sampling_state(text).is_some();
    let decision = arrived.first_id(Field::B3, &is_decision);
    if let Some(sampling) = decision.and_then(sampling_state) {
        return Extracted::Sampling(sampling);
    }
    let trace_of = |text: &[u8]| context(text, reading).map(|context| context.trace_id);
    let text = arrived.one_trace(Field::B3, PROPERTIES.cuts_ids, &trace_of);
    match text.and_then(|text| context(text, reading)) {
        Some(context) => Extracted::Context(context),
        None => Extracted::Malformed,
    }
}

#[inline(never)]
fn context(text: &[u8], reading: Reading) -> Option<TraceContext> {
    let (trace_id, rest) = match text.split_first_chunk::<32>() {
        Some((digits, [b'-', rest @ ..])) => (&digits[..], rest),
        _ => match text.split_first_chunk::<16>()? {
            (digits, [b'-', rest @ ..]) => (&digits[..], rest),
            _ => return None,
        },
    };
    let (span_id, rest) = rest.split_first_chunk::<16>()?;
    let (sampling, b3_parent) = match rest {
        [] => (SamplingState::Deferred, None),
        [b'-', state] => (sampling_state(&[*state])?, None),
        [b'-', state, b'-', parent @ ..] => {
            (sampling_state(&[*state])?, b3::parent_id(parent, reading)?)
        }
        // The grammar has no parent without a state, but old tracers send one.
        [b'-', parent @ ..] if !reading.b3_strict => {
            (SamplingState::Deferred, b3::parent_id(parent, reading)?)
        }
        _ => return None,
    };
    Some(TraceContext {
        trace_id: b3::trace_id(trace_id, reading)?,
        span_id: b3::span_id(span_id, reading)?,
        sampling,
        random: false,
        b3_parent,
    })
}

fn sampling_state(text: &[u8]) -> Option<SamplingState> {
    match text {
        b"0" => Some(SamplingState::NotSampled),
        b"1" => Some(SamplingState::Sampled),
        b"d" => Some(SamplingState::Debug),
        _ => None,
    }
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'_>,
    writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let value = match outgoing {
        Outgoing::Nothing => None,
        Outgoing::Sampling(sampling) => Value::concat(&[state(*sampling)]),
        Outgoing::Context(context) => write(context, arrived, writing),
    };
    put(Field::B3, value);
}

fn write(
    context: &TraceContext,
    arrived: &Arrived<'_>,
    writing: Writing,
) -> Option<Value<'static>> {
    let arrived_id = arrived
        .value(Field::B3)
        .and_then(|text| text.split(|byte| *byte == b'-').next());
    let trace_id = TraceIdText::new(context, arrived_id, writing);
    let span_id = context.span_id.to_hex();
    // The grammar allows a parent only after a state.
    let decided = context.sampling != SamplingState::Deferred;
    let parent = context.b3_parent.filter(|_| decided).map(SpanId::to_hex);

    let mut parts: [&[u8]; 7] = [trace_id.as_bytes(), b"-", &span_id, b"", b"", b"", b""];
    let [_, _, _, dash, sampling, parent_dash, parent_id] = &mut parts;
    if decided {
        *dash = b"-";
        *sampling = state(context.sampling);
    }
    if let Some(parent) = &parent {
        *parent_dash = b"-";
        *parent_id = parent;
    }
    Value::concat(&parts)
}

fn state(sampling: SamplingState) -> &'static [u8] {
    match sampling {
        SamplingState::Deferred => b"",
        SamplingState::NotSampled => b"0",
        SamplingState::Sampled => b"1",
        SamplingState::Debug => b"d",
    }
}
