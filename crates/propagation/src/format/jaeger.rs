//! Jaeger: `uber-trace-id: {trace-id}:{span-id}:{parent-span-id}:{flags}`.

use meshtrace_headers::{Arena, Value};

use super::extracted::Extracted;
use super::only_header::only_header;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::{self, Case};
use crate::vendor;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

const SAMPLED: u64 = 0b01;
const DEBUG: u64 = 0b10;

pub(super) const PROPERTIES: Properties = Properties {
    cuts_ids: true,
    companions: Some(vendor::JAEGER),
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::UberTraceId).is_none() {
        return Extracted::Absent;
    }
    match text(arrived).and_then(context) {
        Some(context) => Extracted::Context(context),
        None => Extracted::Malformed,
    }
}

/// Returns the value that counts.
fn text<'a>(arrived: &Arrived<'a>) -> Option<&'a [u8]> {
    let trace_of = |text: &[u8]| context(text).map(|context| context.trace_id);
    arrived.one_trace(Field::UberTraceId, PROPERTIES.cuts_ids, &trace_of)
}

#[inline(never)]
fn context(text: &[u8]) -> Option<TraceContext> {
    let (trace_id, rest) = split(text)?;
    let (span_id, rest) = split(rest)?;
    // "Deprecated, most clients ignore on the receiving side".
    let (_parent, flags) = split(rest)?;
    let flags = hex::decode_padded(flags, Case::Any)?;
    let sampling = match (flags & SAMPLED != 0, flags & DEBUG != 0) {
        // The debug flag "should only be set when the sampled flag is set".
        (false, _) => SamplingState::NotSampled,
        (true, false) => SamplingState::Sampled,
        (true, true) => SamplingState::Debug,
    };
    Some(TraceContext::new(
        TraceId::from_hex_padded(trace_id, Case::Any)?,
        SpanId::from_hex_padded(span_id, Case::Any)?,
        sampling,
    ))
}

/// Splits at the first colon, which some clients send URL-encoded.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| matches!(byte, b':' | b'%'))?;
    let (field, rest) = text.split_at_checked(colon)?;
    match rest {
        [b':', rest @ ..] | [b'%', b'3', b'A' | b'a', rest @ ..] => Some((field, rest)),
        _ => None,
    }
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let sampling = |context: &TraceContext| match context.sampling {
        SamplingState::Deferred => writing.on_defer.sampling(),
        sampling => sampling,
    };
    let text = text(arrived);
    let says = |outgoing: &TraceContext| {
        text.and_then(context)
            .is_some_and(|same| same.is_same_span(outgoing) && same.sampling == sampling(outgoing))
    };
    let write = |context: &TraceContext| write(context, sampling(context));
    let field = Field::UberTraceId;
    put(field, only_header(outgoing, text, says, write));
}

fn write(context: &TraceContext, sampling: SamplingState) -> Option<Value<'static>> {
    let flags = match sampling {
        SamplingState::Deferred | SamplingState::NotSampled => b"0",
        SamplingState::Sampled => b"1",
        SamplingState::Debug => b"3",
    };
    Value::concat(&[
        &context.trace_id.to_hex(),
        b":",
        &context.span_id.to_hex(),
        b":0:",
        flags,
    ])
}
