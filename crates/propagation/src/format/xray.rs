//! AWS X-Ray: `x-amzn-trace-id: Root=1-{8}-{24};Parent={16};Sampled={0|1|?}`.

use bumpalo::collections::Vec;
use meshtrace_headers::{Arena, Value, is_token};

use super::extracted::Extracted;
use super::only_header::only_header;
use super::options::{Reading, Writing};
use super::properties::Properties;
use crate::hex::Case;
use crate::{Arrived, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

/// The longest header that is written, in bytes: more than AWS's own have.
const MAX_BYTES: usize = 512;

pub(super) const PROPERTIES: Properties = Properties {
    can_defer: true,
    ..Properties::NONE
};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>, _reading: Reading) -> Extracted {
    if arrived.raw(Field::XAmznTraceId).is_none() {
        return Extracted::Absent;
    }
    match text(arrived).and_then(Known::read) {
        Some(known) => known.extracted(),
        None => Extracted::Malformed,
    }
}

/// Returns the value that counts.
fn text<'a>(arrived: &Arrived<'a>) -> Option<&'a [u8]> {
    let trace_of = |text: &[u8]| Known::read(text).map(|known| known.trace_id);
    arrived.one_trace(Field::XAmznTraceId, PROPERTIES.cuts_ids, &trace_of)
}

/// The fields that are read.
#[derive(Clone, Copy, Debug)]
struct Known {
    trace_id: TraceId,
    /// `None` where only `Root` came, as from a load balancer.
    span_id: Option<SpanId>,
    sampling: SamplingState,
    /// Whether every field can be forwarded as it is.
    well_formed: bool,
}

impl Known {
    /// Reads the fields in any order, with white space around them and with others between them.
    #[inline(never)]
    fn read(text: &[u8]) -> Option<Self> {
        let (mut trace_id, mut span_id, mut sampling) = (None, None, None);
        let mut well_formed = true;
        for field in fields(text) {
            let Some((key, value)) = key_and_value(field) else {
                well_formed = false;
                continue;
            };
            let repeated = match key {
                b"Root" => trace_id.replace(root(value)?).is_some(),
                b"Parent" => span_id
                    .replace(SpanId::from_hex(value, Case::Any)?)
                    .is_some(),
                b"Sampled" => {
                    let known = sampled(value);
                    well_formed &= known.is_some();
                    sampling
                        .replace(known.unwrap_or(SamplingState::Deferred))
                        .is_some()
                }
                _ => {
                    well_formed &= is_well_formed(key, value);
                    false
                }
            };
            if repeated {
                return None;
            }
        }
        Some(Self {
            trace_id: trace_id?,
            span_id,
            sampling: sampling.unwrap_or(SamplingState::Deferred),
            well_formed,
        })
    }

    fn extracted(&self) -> Extracted {
        Extracted::from_ids(self.trace_id, self.span_id, self.sampling)
    }
}

/// The fields that are not empty, without the white space around them.
fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let fields = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    fields.filter(|field| !field.is_empty())
}

fn key_and_value(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = field.iter().position(|byte| *byte == b'=')?;
    let (key, value) = field.split_at_checked(equals)?;
    let value = value.strip_prefix(b"=")?;
    Some((key.trim_ascii(), value.trim_ascii()))
}

/// Whether a field that is not read can be forwarded: it needs a name and a value, and only bytes
/// that a header may have. A comma would make two headers of one.
fn is_well_formed(key: &[u8], value: &[u8]) -> bool {
    let is_visible = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b',';
    is_token(key) && !value.is_empty() && value.iter().all(is_visible)
}

/// Version 1: eight digits of a time, 24 of a number.
fn root(text: &[u8]) -> Option<TraceId> {
    let (time, rest) = text.strip_prefix(b"1-")?.split_first_chunk::<8>()?;
    let number: &[u8; 24] = rest.strip_prefix(b"-")?.try_into().ok()?;
    let mut digits = [0; 32];
    let parts = time.iter().chain(number);
    digits
        .iter_mut()
        .zip(parts)
        .for_each(|(to, from)| *to = *from);
    TraceId::from_hex128(&digits, Case::Any)
}

fn sampled(text: &[u8]) -> Option<SamplingState> {
    match text {
        b"0" => Some(SamplingState::NotSampled),
        b"1" => Some(SamplingState::Sampled),
        // The caller requests a decision. Another word is no decision, and does not invalidate the
        // trace.
        b"?" => Some(SamplingState::Deferred),
        _ => None,
    }
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    _writing: Writing,
    arena: &'a Arena,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let field = Field::XAmznTraceId;
    let text = text(arrived);
    let known = text.and_then(Known::read);
    let says = |context: &TraceContext| {
        known.is_some_and(|known| known.well_formed && known.extracted().says(context))
    };
    let write = |context: &TraceContext| {
        let same_trace = known.is_some_and(|known| known.trace_id == context.trace_id);
        let others = text.filter(|_| same_trace);
        write(context, others.unwrap_or_default(), arena)
    };
    put(field, only_header(outgoing, text, says, write));
}

/// Writes the known fields and, after them, the other fields of the `arrived` header of the same
/// trace, in their order: as many whole fields as there is room for. One of them is `Lineage`,
/// which counts the calls: AWS Lambda finds loops with it.
fn write<'a>(context: &TraceContext, arrived: &[u8], arena: &'a Arena) -> Option<Value<'a>> {
    let digits = context.trace_id.to_hex();
    let (time, number) = digits.split_first_chunk::<8>()?;
    let sampled: &[u8] = match context.sampling.decision() {
        None => b"",
        Some(false) => b";Sampled=0",
        Some(true) => b";Sampled=1",
    };
    let span_id = context.span_id.to_hex();
    let parts: [&[u8]; 6] = [b"Root=1-", time, b"-", number, b";Parent=", &span_id];
    let others = || {
        fields(arrived)
            .filter_map(key_and_value)
            .filter(|(key, value)| {
                !matches!(*key, b"Root" | b"Parent" | b"Sampled") && is_well_formed(key, value)
            })
    };
    if others().next().is_none() {
        let [root, time, dash, number, parent, span_id] = parts;
        return Value::concat(&[root, time, dash, number, parent, span_id, sampled]);
    }
    let mut text = Vec::new_in(arena);
    text.try_reserve_exact(MAX_BYTES).ok()?;
    for part in parts.into_iter().chain([sampled]) {
        text.extend_from_slice(part);
    }
    for (key, value) in others() {
        let length = 1 + key.len() + 1 + value.len();
        if text.len() + length <= MAX_BYTES {
            for part in [b";", key, b"=", value] {
                text.extend_from_slice(part);
            }
        }
    }
    Some(Value::Borrowed(text.into_bump_slice()))
}
