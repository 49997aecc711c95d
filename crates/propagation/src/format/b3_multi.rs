//! B3 in several headers: `x-b3-traceid`, `-spanid`, `-parentspanid`, `-sampled`, `-flags`.

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
    let ids = (
        arrived.raw(Field::XB3TraceId),
        arrived.raw(Field::XB3SpanId),
    );
    match (ids, sampling(arrived, reading)) {
        // Only one of the two ids is no context, even with a readable decision.
        ((Some(_), None) | (None, Some(_)), _) | (_, Err(Malformed)) => Extracted::Malformed,
        ((None, None), Ok(SamplingState::Deferred)) => {
            match arrived.value(Field::XB3ParentSpanId) {
                Some(_) => Extracted::Malformed,
                None => Extracted::Absent,
            }
        }
        ((None, None), Ok(sampling)) => Extracted::Sampling(sampling),
        ((Some(_), Some(_)), Ok(sampling)) => match context(sampling, arrived, reading) {
            Some(context) => Extracted::Context(context),
            None => Extracted::Malformed,
        },
    }
}

struct Malformed;

fn sampling(arrived: &Arrived<'_>, reading: Reading) -> Result<SamplingState, Malformed> {
    // "Debug is encoded as `X-B3-Flags: 1` … implies an accept decision"; other values have no
    // meaning.
    if arrived.first_item(Field::XB3Flags) == Some(b"1") {
        return Ok(SamplingState::Debug);
    }
    match arrived.first_item(Field::XB3Sampled) {
        None => Ok(SamplingState::Deferred),
        Some(b"1" | b"true") => Ok(SamplingState::Sampled),
        Some(b"0" | b"false") => Ok(SamplingState::NotSampled),
        Some(_) if reading.b3_strict => Err(Malformed),
        Some(_) => Ok(SamplingState::Deferred),
    }
}

fn context(
    sampling: SamplingState,
    arrived: &Arrived<'_>,
    reading: Reading,
) -> Option<TraceContext> {
    let is_parent = |text: &[u8]| b3::parent_id(text, reading).is_some();
    let b3_parent = match arrived.first_id(Field::XB3ParentSpanId, &is_parent) {
        Some(text) => b3::parent_id(text, reading).flatten(),
        None if reading.b3_strict && arrived.raw(Field::XB3ParentSpanId).is_some() => return None,
        None => None,
    };
    let is_span = |text: &[u8]| b3::span_id(text, reading).is_some();
    let span_id = arrived.first_id(Field::XB3SpanId, &is_span)?;
    let trace_of = |text: &[u8]| b3::trace_id(text, reading);
    let trace_id = arrived.one_trace(Field::XB3TraceId, PROPERTIES.cuts_ids, &trace_of)?;
    Some(TraceContext {
        trace_id: trace_of(trace_id)?,
        span_id: b3::span_id(span_id, reading)?,
        sampling,
        random: false,
        b3_parent,
    })
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'_>,
    writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let context = match outgoing {
        Outgoing::Context(context) => Some(context),
        Outgoing::Nothing | Outgoing::Sampling(_) => None,
    };
    let trace_id = context
        .map(|context| TraceIdText::new(context, arrived.first_item(Field::XB3TraceId), writing))
        .and_then(|text| Value::concat(&[text.as_bytes()]));
    let span = |id: SpanId| Value::concat(&[&id.to_hex()]);
    // "Debug implies an accept decision, so don't also send the X-B3-Sampled header."
    let (sampled, flags) = match outgoing.sampling() {
        SamplingState::Deferred => (None, None),
        SamplingState::NotSampled => (Some(Value::Borrowed(b"0")), None),
        SamplingState::Sampled => (Some(Value::Borrowed(b"1")), None),
        SamplingState::Debug => (None, Some(Value::Borrowed(b"1"))),
    };
    put(Field::XB3TraceId, trace_id);
    put(Field::XB3SpanId, context.map(|c| c.span_id).and_then(span));
    put(
        Field::XB3ParentSpanId,
        context.and_then(|c| c.b3_parent).and_then(span),
    );
    put(Field::XB3Sampled, sampled);
    put(Field::XB3Flags, flags);
}
