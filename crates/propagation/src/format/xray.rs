//! AWS X-Ray: `x-amzn-trace-id: Root=1-{8}-{24};Parent={16};Sampled={0|1|?}`.

use meshtrace_headers::Value;

use super::{Extracted, only_header};
use crate::hex::Case;
use crate::{Arrived, Field, Outgoing, Sampling, SpanId, TraceContext, TraceId};

#[inline(never)]
pub(super) fn parse(arrived: &Arrived<'_>) -> Extracted {
    let Some(text) = arrived.value(Field::XAmznTraceId) else {
        return Extracted::Absent;
    };
    match fields(text) {
        // A load balancer sends `Root` alone.
        Some((trace_id, span_id, sampling)) => Extracted::from_ids(trace_id, span_id, sampling),
        None => Extracted::Malformed,
    }
}

/// The fields in any order, white space around them, and others between them.
fn fields(text: &[u8]) -> Option<(TraceId, Option<SpanId>, Sampling)> {
    let (mut trace_id, mut span_id, mut sampling) = (None, None, None);
    for field in text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
        if field.is_empty() {
            continue;
        }
        let equals = field.iter().position(|byte| *byte == b'=')?;
        let (key, value) = field.split_at_checked(equals)?;
        let value = value.strip_prefix(b"=")?.trim_ascii();
        let repeated = match key.trim_ascii() {
            b"Root" => trace_id.replace(root(value)?).is_some(),
            b"Parent" => span_id
                .replace(SpanId::from_hex(value, Case::Any)?)
                .is_some(),
            b"Sampled" => sampling.replace(sampled(value)?).is_some(),
            _ => false,
        };
        if repeated {
            return None;
        }
    }
    Some((trace_id?, span_id, sampling.unwrap_or(Sampling::Deferred)))
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

fn sampled(text: &[u8]) -> Option<Sampling> {
    match text {
        b"0" => Some(Sampling::NotSampled),
        b"1" => Some(Sampling::Sampled),
        // The caller asks for a decision.
        b"?" => Some(Sampling::Deferred),
        _ => None,
    }
}

#[inline(never)]
pub(super) fn emit<'a>(
    outgoing: &Outgoing,
    arrived: &Arrived<'a>,
    mut put: impl FnMut(Field, Option<Value<'a>>),
) {
    let tells = |context: &TraceContext| parse(arrived).tells(context);
    let field = Field::XAmznTraceId;
    put(field, only_header(field, outgoing, arrived, tells, write));
}

fn write(context: &TraceContext) -> Option<Value<'static>> {
    let digits = context.trace_id.to_hex();
    let (time, number) = digits.split_first_chunk::<8>()?;
    let sampled: &[u8] = match context.sampling.decision() {
        None => b"",
        Some(false) => b";Sampled=0",
        Some(true) => b";Sampled=1",
    };
    Value::concat(&[
        b"Root=1-",
        time,
        b"-",
        number,
        b";Parent=",
        &context.span_id.to_hex(),
        sampled,
    ])
}
