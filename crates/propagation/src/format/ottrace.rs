//! OpenTracing basic tracers: `ot-tracer-traceid`, `-spanid`, `-sampled`.

use meshtrace_headers::Value;

use super::Extracted;
use crate::hex::Case;
use crate::{Arrived, Field, Outgoing, Sampling, SpanId, TraceContext, TraceId};

pub(super) const FIELDS: &[Field] = &[
    Field::OtTracerTraceId,
    Field::OtTracerSpanId,
    Field::OtTracerSampled,
];

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>) -> Extracted {
    if FIELDS.iter().all(|field| arrived.raw(*field).is_none()) {
        return Extracted::Absent;
    }
    match context(arrived) {
        Some(context) => Extracted::Context(context),
        None => Extracted::Malformed,
    }
}

fn context(arrived: &Arrived<'_>) -> Option<TraceContext> {
    let trace_id = arrived.value(Field::OtTracerTraceId)?;
    let trace_id = match trace_id.len() {
        16 => TraceId::from_hex64(trace_id, Case::Any)?,
        _ => TraceId::from_hex128(trace_id, Case::Any)?,
    };
    let span_id = SpanId::from_hex(arrived.value(Field::OtTracerSpanId)?, Case::Any)?;
    let sampling = match arrived.value(Field::OtTracerSampled) {
        None => Sampling::Deferred,
        Some(b"true" | b"1") => Sampling::Sampled,
        Some(b"false" | b"0") => Sampling::NotSampled,
        Some(_) => return None,
    };
    Some(TraceContext::new(trace_id, span_id, sampling))
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let context = match outgoing {
        Outgoing::Context(context) => context,
        // A decision without ids has no form here.
        Outgoing::Nothing | Outgoing::Sampling(_) => {
            return FIELDS.iter().for_each(|field| put(*field, None));
        }
    };
    if parse(arrived).tells(context) {
        let raw = |field| arrived.raw(field).map(Value::Borrowed);
        return FIELDS.iter().for_each(|field| put(*field, raw(*field)));
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
