//! Datadog: `x-datadog-trace-id`, `-parent-id`, `-sampling-priority`, `-origin`, `-tags`.
//!
//! Ids are decimal numbers of 64 bits; the left half of a trace id is a tag, `_dd.p.tid`.

use arrayvec::ArrayVec;
use meshtrace_headers::{Arena, Value};

use super::decimal;
use super::extracted::Extracted;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::{self, Case};
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

pub(super) const PROPERTIES: Properties = Properties {
    can_defer: true,
    cuts_ids: true,
    lists: &[Field::XDatadogTags, Field::XDatadogOrigin],
    ..Properties::NONE
};

const FIELDS: &[Field] = &[
    Field::XDatadogTraceId,
    Field::XDatadogParentId,
    Field::XDatadogSamplingPriority,
    Field::XDatadogOrigin,
    Field::XDatadogTags,
];

/// The tag of the left half of a trace id, in 16 lower-case hexadecimal digits.
const TID: &[u8] = b"_dd.p.tid=";

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::XDatadogTraceId).is_none() {
        // Without a trace id the other headers have no meaning.
        let any = FIELDS.iter().any(|field| arrived.raw(*field).is_some());
        return if any {
            Extracted::Malformed
        } else {
            Extracted::Absent
        };
    }
    let has_parent = arrived.raw(Field::XDatadogParentId).is_some();
    // A parent of 0 is no parent: Datadog's synthetic tests begin their traces with it.
    match (trace_id(arrived), parent_id(arrived)) {
        (None, _) => Extracted::Malformed,
        (_, None) if has_parent => Extracted::Malformed,
        (Some((_, id)), parent) => {
            let span_id = parent.and_then(|(_, id)| SpanId::new(id));
            let priority = arrived.first_item(Field::XDatadogSamplingPriority);
            Extracted::from_ids(id, span_id, sampling(priority))
        }
    }
}

/// The value of `x-datadog-trace-id` that counts, and the id.
fn trace_id<'a>(arrived: &Arrived<'a>) -> Option<(&'a [u8], TraceId)> {
    let trace_of = |text: &[u8]| trace_id_of(text, arrived);
    let text = arrived.one_trace(Field::XDatadogTraceId, PROPERTIES.cuts_ids, &trace_of)?;
    Some((text, trace_of(text)?))
}

/// The value of `x-datadog-parent-id` that counts, and the number.
fn parent_id<'a>(arrived: &Arrived<'a>) -> Option<(&'a [u8], u64)> {
    let is_number = |text: &[u8]| decimal::decode(text).is_some();
    let text = arrived.first_id(Field::XDatadogParentId, &is_number)?;
    Some((text, decimal::decode(text)?))
}

#[inline(never)]
fn trace_id_of(text: &[u8], arrived: &Arrived<'_>) -> Option<TraceId> {
    // For Datadog, a right half of zeros is no id, whatever the tag is.
    let low = decimal::decode(text).filter(|low| *low != 0)?;
    let high = Tags::read(arrived).high;
    TraceId::new(u128::from(high) << 64 | u128::from(low))
}

/// An unknown priority is no decision, and does not invalidate the trace.
fn sampling(priority: Option<&[u8]>) -> SamplingState {
    match priority {
        Some(b"-1" | b"0") => SamplingState::NotSampled,
        Some(b"1" | b"2") => SamplingState::Sampled,
        _ => SamplingState::Deferred,
    }
}

/// `x-datadog-tags`: `key=value`, separated by commas.
#[derive(Clone, Copy, Debug)]
struct Tags<'a> {
    text: Option<&'a [u8]>,
    /// The value of `_dd.p.tid`; zero without a valid one.
    high: u64,
    well_formed: bool,
}

impl<'a> Tags<'a> {
    fn read(arrived: &Arrived<'a>) -> Self {
        let mut tags = Self {
            text: arrived.value(Field::XDatadogTags),
            high: 0,
            well_formed: true,
        };
        let mut found = false;
        for tag in tags.iter() {
            match tag.strip_prefix(TID) {
                None => tags.well_formed &= is_tag(tag),
                Some(digits) => match hex::decode(digits, Case::Lower) {
                    Some(high) if !found => (tags.high, found) = (high, true),
                    _ => tags.well_formed = false,
                },
            }
        }
        tags
    }

    /// The tags, without the white space around each. Any tag may come to be at an end of the
    /// header, where white space is lost.
    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text
            .into_iter()
            .flat_map(|text| text.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// Writes the left half `high` as a tag. After it come the other tags, which belong to the
    /// trace: as many whole tags as there is room for.
    fn with_high<'v>(&self, high: u64, keeps_others: bool) -> Option<Value<'v>> {
        let mut text = ArrayVec::new();
        if high != 0 {
            text.try_extend_from_slice(TID).ok()?;
            text.try_extend_from_slice(&hex::encode(high)).ok()?;
        }
        let others = self
            .iter()
            .filter(|tag| keeps_others && is_tag(tag) && !tag.starts_with(TID));
        for tag in others {
            let comma: &[u8] = if text.is_empty() { b"" } else { b"," };
            if comma.len() + tag.len() <= text.remaining_capacity() {
                text.try_extend_from_slice(comma).ok()?;
                text.try_extend_from_slice(tag).ok()?;
            }
        }
        (!text.is_empty()).then_some(Value::Inline(text))
    }
}

/// A key and a value, neither of them empty.
fn is_tag(tag: &[u8]) -> bool {
    let equals = tag.iter().position(|byte| *byte == b'=');
    equals.is_some_and(|equals| equals > 0 && equals + 1 < tag.len())
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    _writing: Writing,
    _arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    // Datadog has no form for a decision without ids, nor for a trace id that ends in zeros.
    let context = match outgoing {
        Outgoing::Context(context) if context.trace_id.low() != 0 => context,
        _ => return FIELDS.iter().for_each(|field| put(*field, None)),
    };
    let same_low = trace_id(arrived).filter(|(_, id)| id.low() == context.trace_id.low());
    // A left half that is not known does not differ from any other.
    let same_trace =
        same_low.is_some_and(|(_, id)| [0, context.trace_id.high()].contains(&id.high()));
    let trace_id = match same_low {
        Some((text, _)) => Some(Value::Borrowed(text)),
        None => number(context.trace_id.low()),
    };
    let parent_id = match parent_id(arrived) {
        Some((text, id)) if id == context.span_id.get() => Some(Value::Borrowed(text)),
        _ => number(context.span_id.get()),
    };
    put(Field::XDatadogTraceId, trace_id);
    put(Field::XDatadogParentId, parent_id);
    put(
        Field::XDatadogSamplingPriority,
        priority(context, arrived, same_trace),
    );
    // The origin and the tags belong to their trace, and must not be sent with another one.
    if !same_trace {
        put(Field::XDatadogOrigin, None);
    }
    let tags = Tags::read(arrived);
    let high = context.trace_id.high();
    let value = if same_trace && tags.well_formed && tags.high == high {
        arrived.raw(Field::XDatadogTags).map(Value::Borrowed)
    } else {
        tags.with_high(high, same_trace)
    };
    put(Field::XDatadogTags, value);
}

/// A user's own priority, -1 or 2, is kept where it has the same decision.
fn priority<'a>(
    context: &TraceContext,
    arrived: &Arrived<'a>,
    same_trace: bool,
) -> Option<Value<'a>> {
    let decision = context.sampling.decision()?;
    let own = arrived.first_item(Field::XDatadogSamplingPriority);
    if same_trace && sampling(own).decision() == Some(decision) {
        return own.map(Value::Borrowed);
    }
    Some(Value::Borrowed(if decision { b"1" } else { b"0" }))
}

fn number<'a>(number: u64) -> Option<Value<'a>> {
    Value::concat(&[itoa::Buffer::new().format(number).as_bytes()])
}
