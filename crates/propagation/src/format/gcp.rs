//! Google Cloud Trace: `x-cloud-trace-context: {trace id}/{span id in decimal};o={options}`.

use meshtrace_headers::{Arena, Value};

use super::decimal;
use super::extracted::Extracted;
use super::only_header::only_header;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::Case;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

/// The bit of the options that means "traced".
const SAMPLED: u64 = 1;

pub(super) const PROPERTIES: Properties = Properties {
    can_defer: true,
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::XCloudTraceContext).is_none() {
        return Extracted::Absent;
    }
    match text(arrived).and_then(fields) {
        Some((trace_id, span_id, sampling)) => Extracted::from_ids(trace_id, span_id, sampling),
        None => Extracted::Malformed,
    }
}

/// Returns the value that counts.
fn text<'a>(arrived: &Arrived<'a>) -> Option<&'a [u8]> {
    let trace_of = |text: &[u8]| fields(text).map(|(trace_id, ..)| trace_id);
    arrived.one_trace(Field::XCloudTraceContext, PROPERTIES.cuts_ids, &trace_of)
}

/// The span and the options may be absent. A span of 0 is no span.
#[inline(never)]
fn fields(text: &[u8]) -> Option<(TraceId, Option<SpanId>, SamplingState)> {
    let (trace_id, rest) = text.split_first_chunk::<32>()?;
    let trace_id = TraceId::from_hex128(trace_id, Case::Any)?;
    let semicolon = rest.iter().position(|byte| *byte == b';');
    let (span_id, options) = rest.split_at_checked(semicolon.unwrap_or(rest.len()))?;
    let span_id = match span_id {
        [] => None,
        [b'/', digits @ ..] => SpanId::new(decimal::decode(digits)?),
        _ => return None,
    };
    let sampling = match options {
        [] => SamplingState::Deferred,
        [b';', b'o', b'=', options @ ..] => sampling(options)?,
        _ => return None,
    };
    Some((trace_id, span_id, sampling))
}

fn sampling(options: &[u8]) -> Option<SamplingState> {
    match options {
        [b'0', _, ..] => None,
        options if decimal::decode(options)? & SAMPLED == 0 => Some(SamplingState::NotSampled),
        _ => Some(SamplingState::Sampled),
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
    let field = Field::XCloudTraceContext;
    let text = text(arrived);
    let says = |context: &TraceContext| {
        text.and_then(fields)
            .is_some_and(|(id, span_id, sampling)| {
                Extracted::from_ids(id, span_id, sampling).says(context)
            })
    };
    let write = |context: &TraceContext| write(context);
    put(field, only_header(outgoing, text, says, write));
}

fn write(context: &TraceContext) -> Option<Value<'static>> {
    let options: &[u8] = match context.sampling.decision() {
        None => b"",
        Some(false) => b";o=0",
        Some(true) => b";o=1",
    };
    Value::concat(&[
        &context.trace_id.to_hex(),
        b"/",
        itoa::Buffer::new().format(context.span_id.get()).as_bytes(),
        options,
    ])
}
