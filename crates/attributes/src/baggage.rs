//! Attributes as members of the `baggage` header.

use meshtrace_baggage::{Baggage, NAME, encode, members};
use meshtrace_headers::{Arena, Edits, Headers, Value};

use crate::attribute::Attribute;
use crate::{Counter, Tally};

/// Writes the attributes into the request's `baggage`, as the stages before this one left it. Each
/// attribute replaces the members of its key.
///
/// A member with an attribute's key is removed, whether or not there is room for the attribute: a
/// sender must not set the attributes of this proxy. An attribute without room is counted and left
/// out. The other members that a caller sent are kept, except elements that are no members, and
/// members without room where the header must be written.
pub(crate) fn write<'a>(
    attributes: &[Attribute<'_>],
    headers: Headers<'_>,
    edits: &mut Edits<'a>,
    arena: &'a Arena,
    tally: &mut Tally,
) {
    let is_ours = |key: &[u8]| attributes.iter().any(|ours| ours.key.as_bytes() == key);
    let must_write = members(edits.lines(NAME, headers)).any(|member| is_ours(member.key));
    let mut baggage = Baggage::new();
    let kept = baggage.keep(edits.lines(NAME, headers), is_ours);
    if kept.is_none() && must_write {
        tally.count(Counter::BaggageFull);
    }
    let mut added = false;
    for attribute in attributes {
        let value = encode(attribute.value.as_bytes());
        let may_add = kept.is_some() || must_write;
        if may_add && baggage.add(attribute.key.as_bytes(), value).is_some() {
            added = true;
        } else {
            tally.count(Counter::BaggageFull);
        }
    }
    if !added && !must_write {
        return;
    }
    if kept.is_some_and(|malformed| malformed > 0) {
        tally.count(Counter::BaggageMalformed);
    }
    match arena.try_alloc_slice_copy(baggage.text()) {
        // Without a member left, this removes the header.
        Ok(text) => edits.replace(NAME, Value::Borrowed(text)),
        Err(_) => {
            tally.count(Counter::BaggageFull);
            if must_write {
                edits.remove(NAME);
            }
        }
    }
}
