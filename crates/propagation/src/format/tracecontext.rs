//! W3C Trace Context, Levels 1 and 2: `traceparent`, and what becomes of `tracestate`.

use meshtrace_headers::{Arena, Value};

use super::extracted::Extracted;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::{self, Case};
use crate::{
    Arrived, Field, Outgoing, SpanId, TraceContext, TraceFlags, TraceId, Traceparent, tracestate,
};

/// `00-` 32 `-` 16 `-` 2: the length of version 00, and the least of any later version.
const LENGTH: usize = 55;
/// Where both ids are, in every version.
const IDS: core::ops::Range<usize> = 3..52;

pub(super) const PROPERTIES: Properties = Properties {
    lists: &[Field::Tracestate],
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::Traceparent).is_none() {
        return Extracted::Absent;
    }
    match context(arrived) {
        Some(context) => Extracted::Context(context),
        None => Extracted::Malformed,
    }
}

fn context(arrived: &Arrived<'_>) -> Option<TraceContext> {
    traceparent(text(arrived)?).map(|(_, context)| context)
}

/// Returns the value that counts. Section 3.2 allows exactly one `traceparent`. Several are
/// accepted, where the configuration accepts them, if they have one trace id.
fn text<'a>(arrived: &Arrived<'a>) -> Option<&'a [u8]> {
    let trace_of = |text: &[u8]| traceparent(text).map(|(_, context)| context.trace_id);
    arrived.one_trace(Field::Traceparent, PROPERTIES.cuts_ids, &trace_of)
}

/// Version and context of a `traceparent` (sections 3.2.2 and 3.2.4).
#[inline(never)]
fn traceparent(text: &[u8]) -> Option<(u8, TraceContext)> {
    let (known, future) = text.split_first_chunk::<LENGTH>()?;
    let [v0, v1, b'-', rest @ ..] = known else {
        return None;
    };
    let (trace_id, rest) = rest.split_first_chunk::<32>()?;
    let [b'-', rest @ ..] = rest else { return None };
    let (span_id, rest) = rest.split_first_chunk::<16>()?;
    let [b'-', flags @ ..] = rest else {
        return None;
    };

    let version = hex::decode_byte(&[*v0, *v1], Case::Lower)?;
    match (version, future) {
        (0xff, _) => return None,
        (0x00, []) => {}
        (0x00, _) => return None,
        (_, [] | [b'-', ..]) => {}
        _ => return None,
    }

    let flags = TraceFlags::from_hex(flags)?;
    let context = TraceContext {
        trace_id: TraceId::from_hex128(trace_id, Case::Lower)?,
        span_id: SpanId::from_hex(span_id, Case::Lower)?,
        sampling: flags.sampling(),
        random: flags.is_random(),
        b3_parent: None,
    };
    Some((version, context))
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    // A decision without ids has no form in W3C: no trace may be invented from it.
    let Outgoing::Context(context) = outgoing else {
        put(Field::Traceparent, None);
        put(Field::Tracestate, None);
        return;
    };

    let written = write(context, writing);
    // Only a text with the same ids can say the same, so only such a text is read. The text that
    // counts is the first one of its line.
    let has_ids = |text: &&[u8]| same_ids(text, written.as_ref());
    let line = arrived.value(Field::Traceparent).filter(has_ids);
    let text = line.and_then(|_| text(arrived)).filter(has_ids);
    let traceparent = match text.and_then(traceparent) {
        // The header stays as it is, with its unknown flags: a change of flags needs a new parent
        // id (section 3.4).
        Some((0x00, same)) if says_the_same(&same, context, writing) => text.map(Value::Borrowed),
        _ => written,
    };
    put(Field::Traceparent, traceparent);

    if members_of(context.trace_id, arrived).is_none() {
        put(Field::Tracestate, None);
    }
}

/// The `tracestate` that is sent on with the trace `id`. It belongs to its trace, and an invalid
/// one never invalidates `traceparent`.
pub(crate) fn members_of<'a>(
    id: TraceId,
    arrived: &Arrived<'a>,
) -> Option<tracestate::Members<'a>> {
    arrived.raw(Field::Tracestate)?;
    if context(arrived)?.trace_id != id {
        return None;
    }
    tracestate::parse(arrived.lines(Field::Tracestate))
}

/// Whether the text has the same ids as the `written` one.
fn same_ids(text: &[u8], written: Option<&Value<'_>>) -> bool {
    let written = written.map(Value::as_bytes);
    written.and_then(|written| written.get(IDS)) == text.get(IDS)
}

fn says_the_same(incoming: &TraceContext, outgoing: &TraceContext, writing: Writing) -> bool {
    incoming.is_same_span(outgoing)
        && incoming.sampling.decision() == Some(writing.decision(outgoing.sampling))
}

fn write(context: &TraceContext, writing: Writing) -> Option<Value<'static>> {
    let flags = TraceFlags::new(writing.decision(context.sampling), context.random);
    let text = Traceparent::new(context.trace_id, context.span_id, flags).text();
    Value::concat(&[&text])
}
