//! `tracestate`: the list of vendor members that travels with a trace (W3C Trace Context, section
//! 3.3).

use arrayvec::ArrayVec;

/// Section 3.3.1.1: "There can be a maximum of 32 list-members in a list."
pub const MAX_MEMBERS: usize = 32;
/// The longest key and value (sections 3.3.1.3.1 and 3.3.1.3.2), in characters.
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 256;

/// One vendor's member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, which identifies the vendor.
    pub key: &'a [u8],
    /// The vendor's value, which is opaque; leading spaces belong to it.
    pub value: &'a [u8],
}

/// The members of a valid `tracestate`, in order. Of members with equal keys only the first is
/// kept.
pub type Members<'a> = ArrayVec<Member<'a>, MAX_MEMBERS>;

/// Reads all `lines` of a request's `tracestate`, which are one list (RFC 9110, section 5.3).
///
/// `None` when any part of it is not valid: then the whole of it is discarded, and `traceparent`
/// stays. No lines, and empty members, are valid.
pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Members<'a>> {
    let mut members = Members::new();
    let mut count = 0;
    for text in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        let text = trim_ows(text);
        if text.is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_MEMBERS {
            return None;
        }
        let member = member(text)?;
        if members.iter().all(|known| known.key != member.key) {
            members.try_push(member).ok()?;
        }
    }
    Some(members)
}

/// Returns the list in which the member `key` has the `value`, in front as a changed member must
/// be. Without a `value`, the list does not have that member (section 3.5). Where there are 32
/// others, the last one is dropped.
///
/// The list is in parts; concatenated, they are the header's text. A part is empty where no comma
/// is needed.
pub fn with_member<'m>(
    members: &'m [Member<'m>],
    key: &'m [u8],
    value: Option<&'m [u8]>,
) -> impl Iterator<Item = &'m [u8]> {
    let own = value.map(|value| Member { key, value });
    let others = members.iter().filter(move |member| member.key != key);
    line(own.into_iter().chain(others.copied()).take(MAX_MEMBERS))
}

/// Returns the list in one line, in parts as those of [`with_member`].
pub fn one_line<'m>(members: &'m [Member<'m>]) -> impl Iterator<Item = &'m [u8]> {
    line(members.iter().copied())
}

/// Whether `members` have a threshold, which only a sampler writes (OpenTelemetry, "TraceState:
/// Probability Sampling": `th`).
#[cold]
pub(crate) fn has_threshold(members: &[Member<'_>]) -> bool {
    members.iter().any(|member| {
        let mut parts = member.value.split(|byte| *byte == b';');
        member.key == b"ot" && parts.any(|part| part.starts_with(b"th:"))
    })
}

fn line<'m>(members: impl Iterator<Item = Member<'m>>) -> impl Iterator<Item = &'m [u8]> {
    members.enumerate().flat_map(|(i, member)| {
        let comma: &[u8] = if i == 0 { b"" } else { b"," };
        [comma, member.key, b"=", member.value]
    })
}

fn member(text: &[u8]) -> Option<Member<'_>> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = text.split_at_checked(equals)?;
    let (_, value) = value.split_first()?;
    (is_key(key) && is_value(value)).then_some(Member { key, value })
}

/// Whether `key` fits Level 2's grammar, which accepts every key of Level 1:
/// `[a-z0-9][a-z0-9_*/@-]{0,255}`.
fn is_key(key: &[u8]) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= MAX_KEY
        && key.first().is_some_and(|first| is_alphanumeric(*first))
        && key
            .iter()
            .all(|byte| is_alphanumeric(*byte) || b"_-*/@".contains(byte))
}

/// Whether `value` is printable ASCII without `,` and `=`. A trailing space was trimmed as white
/// space around it.
fn is_value(value: &[u8]) -> bool {
    (1..=MAX_VALUE).contains(&value.len())
        && value
            .iter()
            .all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'=')
}

fn trim_ows(text: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(|byte| !is_ows(byte)) else {
        return b"";
    };
    let end = text
        .iter()
        .rposition(|byte| !is_ows(byte))
        .map_or(0, |last| last + 1);
    text.get(first..end).unwrap_or_default()
}
