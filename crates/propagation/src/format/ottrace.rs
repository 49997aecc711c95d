//! OpenTracing basic tracers: `ot-tracer-traceid`, `-spanid`, `-sampled`.

use meshtrace_headers::{Arena, Value};

use super::extracted::Extracted;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::Case;
use crate::vendor;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

const FIELDS: &[Field] = &[
    Field::OtTracerTraceId,
    Field::OtTracerSpanId,
    Field::OtTracerSampled,
];

pub(super) const PROPERTIES: Properties = Properties {
    can_defer: true,
    cuts_ids: true,
    companions: Some(vendor::OTTRACE),
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if FIELDS.iter().all(|field| arrived.raw(*field).is_none()) {
        return Extracted::Absent;
    }
    match context(arrived) {
        Some(context) => Extracted::Context(context),
        None => Extracted::Malformed,
    }
}

fn context(arrived: &Arrived<'_>) -> Option<TraceContext> {
    let text = arrived.one_trace(Field::OtTracerTraceId, PROPERTIES.cuts_ids, &TraceId::parse)?;
    let trace_id = TraceId::parse(text)?;
    let is_span = |text: &[u8]| SpanId::from_hex(text, Case::Any).is_some();
    let span_id = arrived.first_id(Field::OtTracerSpanId, &is_span)?;
    let span_id = SpanId::from_hex(span_id, Case::Any)?;
    let sampled = arrived.first_item(Field::OtTracerSampled);
    Some(TraceContext::new(trace_id, span_id, sampling(sampled)))
}

/// An unknown word is no decision, and does not invalidate the trace.
fn sampling(sampled: Option<&[u8]>) -> SamplingState {
    match sampled {
        Some(b"true" | b"1") => SamplingState::Sampled,
        Some(b"false" | b"0") => SamplingState::NotSampled,
        _ => SamplingState::Deferred,
    }
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    _writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let context = match outgoing {
        Outgoing::Context(context) => context,
        // This format cannot carry a decision without ids.
        Outgoing::Nothing | Outgoing::Sampling(_) => {
            return FIELDS.iter().for_each(|field| put(*field, None));
        }
    };
    if is_same(context, arrived) {
        let raw = |field| arrived.raw(field).map(Value::Borrowed);
        put(Field::OtTracerTraceId, raw(Field::OtTracerTraceId));
        put(Field::OtTracerSpanId, raw(Field::OtTracerSpanId));
        let is_decided = context.sampling != SamplingState::Deferred;
        let sampled = raw(Field::OtTracerSampled).filter(|_| is_decided);
        return put(Field::OtTracerSampled, sampled);
    }
    // These tracers' own ids have 64 bits.
    let trace_id = if context.trace_id.high() == 0 {
        Value::concat(&[&context.trace_id.low_to_hex()])
    } else {
        Value::concat(&[&context.trace_id.to_hex()])
    };
    let sampled: Option<&[u8]> = match context.sampling.decision() {
        None => None,
        Some(false) => Some(b"false"),
        Some(true) => Some(b"true"),
    };
    put(Field::OtTracerTraceId, trace_id);
    put(
        Field::OtTracerSpanId,
        Value::concat(&[&context.span_id.to_hex()]),
    );
    put(Field::OtTracerSampled, sampled.map(Value::Borrowed));
}

/// Whether the headers that arrived have the content of `outgoing` already, each header in one
/// value.
fn is_same(outgoing: &TraceContext, arrived: &Arrived<'_>) -> bool {
    let value = |field| arrived.value(field).unwrap_or_default();
    TraceId::parse(value(Field::OtTracerTraceId)) == Some(outgoing.trace_id)
        && SpanId::from_hex(value(Field::OtTracerSpanId), Case::Any) == Some(outgoing.span_id)
        && sampling(arrived.value(Field::OtTracerSampled)).decision()
            == outgoing.sampling.decision()
}
