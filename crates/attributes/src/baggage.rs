//! The `baggage` header (W3C Baggage, section 3).

use arrayvec::ArrayVec;
use meshtrace_headers::Headers;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::attributes::{Arena, Attribute};
use crate::config::MAX_ATTRIBUTES;
use crate::{Counter, Tally};

/// Section 3.3.2: what every receiver takes, at least.
const MAX_MEMBERS: usize = 64;
const MAX_BYTES: usize = 8192;

/// Section 3.3.1.3: everything else stands in a value as it is. The percent sign is escaped too, as
/// it starts an escape.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'%');

/// One member of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub(crate) key: &'a [u8],
    /// Percent-encoded, without its properties.
    pub(crate) value: &'a [u8],
    /// All of it.
    text: &'a [u8],
}

/// The members of all lines; what is no member is left out.
pub(crate) fn members<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = Member<'a>> {
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .filter_map(|text| {
            let text = text.trim_ascii();
            let pair = text.split(|byte| *byte == b';').next()?;
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            Some(Member {
                key: pair.get(..equals)?.trim_ascii(),
                value: pair.get(equals + 1..)?.trim_ascii(),
                text,
            })
        })
}

/// The request's `baggage` with the attributes in it, each in place of a member of its key.
///
/// `None` when there is nothing to write. What a caller sent stays, and what has no room is counted
/// and left out: at most 64 members and 8192 bytes.
pub(crate) fn with<'a>(
    attributes: &[Attribute<'a>],
    headers: Headers<'a>,
    arena: &'a Arena,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let is_ours = |key: &[u8]| attributes.iter().any(|ours| ours.key.as_bytes() == key);
    let kept = || members(headers.lines(b"baggage")).filter(|member| !is_ours(member.key));

    let mut count = kept().count();
    let mut bytes: usize = kept().map(|member| member.text.len() + 1).sum();
    let mut added = ArrayVec::<_, MAX_ATTRIBUTES>::new();
    for attribute in attributes {
        let value = percent_encode(attribute.value.as_bytes(), ESCAPED);
        let length = attribute.key.len() + 2 + value.clone().map(str::len).sum::<usize>();
        if count < MAX_MEMBERS && bytes + length <= MAX_BYTES + 1 {
            count += 1;
            bytes += length;
            added.extend(core::iter::once((attribute.key, value)).take(added.remaining_capacity()));
        } else {
            tally.count(Counter::BaggageFull);
        }
    }
    if added.is_empty() {
        return None;
    }

    let Ok(room) = arena.try_alloc_slice_fill_copy(bytes, 0_u8) else {
        tally.count(Counter::BaggageFull);
        return None;
    };
    let mut places = room.iter_mut();
    let mut write = |text: &[u8]| places.by_ref().zip(text).for_each(|(to, byte)| *to = *byte);
    for member in kept() {
        write(member.text);
        write(b",");
    }
    for (key, value) in added {
        write(key.as_bytes());
        write(b"=");
        value.for_each(|piece| write(piece.as_bytes()));
        write(b",");
    }
    room.strip_suffix(b",")
}
