//! Compares the reading of W3C Trace Context with a second, simple reading of its grammar.

use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::tracestate as members;

use crate::{formats, lines};

/// Reads `traceparent` in both ways. The input has lines of the form `name: value`.
pub(crate) fn traceparent_is_read_as_its_grammar_says(data: &[u8]) {
    let sent = lines::of_fields(Format::Tracecontext.fields(), data);
    let lines: Vec<_> = sent
        .iter()
        .filter(|(name, _)| name == b"traceparent")
        .map(|(_, value)| value.trim_ascii())
        .collect();
    let expected = match lines[..] {
        [only] => traceparent(&String::from_utf8_lossy(only)),
        _ => None,
    };
    let read = match formats::read(Format::Tracecontext, &sent, Reading::default()) {
        Extracted::Context(context) => Some((
            context.trace_id.to_hex().to_vec(),
            context.span_id.to_hex().to_vec(),
            context.sampling.decision() == Some(true),
            context.random,
        )),
        _ => None,
    };
    assert_eq!(read, expected, "{lines:?}");
}

/// Trace id, parent id, sampled, random (sections 3.2.2 and 3.2.4).
fn traceparent(text: &str) -> Option<(Vec<u8>, Vec<u8>, bool, bool)> {
    let fields: Vec<_> = text.split('-').collect();
    let [version, trace_id, parent_id, flags, ref more @ ..] = fields[..] else {
        return None;
    };
    let is_hex = |text: &str, length| {
        let digits = text.bytes().all(|b| b"0123456789abcdef".contains(&b));
        digits && text.len() == length
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.contains(|c| c != '0');
    let valid = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || more.is_empty())
        && is_id(trace_id, 32)
        && is_id(parent_id, 16)
        && is_hex(flags, 2);
    let flags = u8::from_str_radix(flags, 16).ok();
    valid.then_some(())?;
    let flags = flags?;
    let (trace_id, parent_id) = (trace_id.into(), parent_id.into());
    Some((trace_id, parent_id, flags & 1 != 0, flags & 2 != 0))
}

/// `tracestate`: each line of the bytes is one of its lines.
pub fn tracestate(data: &[u8]) {
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let parsed = members::parse(lines.iter().copied());
    let found: Option<Vec<_>> = parsed
        .as_ref()
        .map(|members| members.iter().map(|m| (m.key, m.value)).collect());

    // RFC 9110, section 5.3: several lines are the same as one list.
    let joined = lines.join(&b","[..]);
    assert_eq!(members::parse([joined.as_slice()].into_iter()), parsed);
    assert_eq!(found, list(&joined));
}

/// The members of a list. Of equal keys the first counts (section 3.3.1).
fn list(text: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut members: Vec<(&[u8], &[u8])> = Vec::new();
    let mut count = 0;
    for member in text.split(|byte| *byte == b',') {
        let blank = |text: &[u8]| text.iter().all(|byte| b" \t".contains(byte));
        if blank(member) {
            continue;
        }
        count += 1;
        let start = member.iter().take_while(|b| b" \t".contains(b)).count();
        let end = member
            .iter()
            .rev()
            .take_while(|b| b" \t".contains(b))
            .count();
        let member = &member[start..member.len() - end];
        let equals = member.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        let keyed = matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
            && key.len() <= 256
            && key
                .iter()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'));
        let valued = !value.is_empty()
            && value.len() <= 256
            && value
                .iter()
                .all(|b| matches!(b, 0x20..=0x2b | 0x2d..=0x3c | 0x3e..=0x7e));
        if !keyed || !valued {
            return None;
        }
        if members.iter().all(|(known, _)| *known != key) {
            members.push((key, value));
        }
    }
    (count <= 32).then_some(members)
}
