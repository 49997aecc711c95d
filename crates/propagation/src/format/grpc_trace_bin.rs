//! OpenCensus over gRPC: `grpc-trace-bin`, 29 bytes in base64.
//!
//! The bytes are version 0 and then three fields, each after its number: 0 the trace id, 1 the span
//! id, 2 the options.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use meshtrace_headers::{Arena, Value};

use super::extracted::Extracted;
use super::only_header::only_header;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

/// In gRPC, binary headers must be read with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The length of 29 bytes in base64, padded, and of the buffer that decoding it needs.
const TEXT: usize = 40;
const BUFFER: usize = TEXT / 4 * 3;
/// The bit of the options that means "sampled".
const SAMPLED: u8 = 1;

pub(super) const PROPERTIES: Properties = Properties::NONE;

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::GrpcTraceBin).is_none() {
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
    arrived.one_trace(Field::GrpcTraceBin, PROPERTIES.cuts_ids, &trace_of)
}

#[inline(never)]
fn context(text: &[u8]) -> Option<TraceContext> {
    let mut buffer = [0; BUFFER];
    let length = BASE64.decode_slice(text, &mut buffer).ok()?;
    let [0, 0, rest @ ..] = buffer.get(..length)? else {
        return None;
    };
    let (trace_id, rest) = rest.split_first_chunk()?;
    let [1, rest @ ..] = rest else { return None };
    let (span_id, rest) = rest.split_first_chunk()?;
    let [2, options] = rest else { return None };
    let sampling = if options & SAMPLED == 0 {
        SamplingState::NotSampled
    } else {
        SamplingState::Sampled
    };
    Some(TraceContext::new(
        TraceId::new(u128::from_be_bytes(*trace_id))?,
        SpanId::new(u64::from_be_bytes(*span_id))?,
        sampling,
    ))
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let sampled = |context: &TraceContext| writing.decision(context.sampling);
    let text = text(arrived);
    let says = |outgoing: &TraceContext| {
        text.and_then(context).is_some_and(|same| {
            same.is_same_span(outgoing) && same.sampling.decision() == Some(sampled(outgoing))
        })
    };
    let write = |context: &TraceContext| write(context, sampled(context));
    let field = Field::GrpcTraceBin;
    put(field, only_header(outgoing, text, says, write));
}

fn write(context: &TraceContext, sampled: bool) -> Option<Value<'static>> {
    let options = if sampled { SAMPLED } else { 0 };
    let mut bytes = arrayvec::ArrayVec::<u8, BUFFER>::new();
    for part in [
        &[0, 0][..],
        &context.trace_id.to_bytes(),
        &[1],
        &context.span_id.get().to_be_bytes(),
        &[2, options],
    ] {
        bytes.try_extend_from_slice(part).ok()?;
    }
    let mut text = [0; TEXT];
    let length = BASE64.encode_slice(&bytes, &mut text).ok()?;
    Value::concat(&[text.get(..length)?])
}
