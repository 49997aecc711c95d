//! Attributes as members of the `baggage` header.

use meshtrace_baggage::{Baggage, NAME, encode, members};
use meshtrace_headers::Headers;

use crate::attributes::{Arena, Attribute};
use crate::{Counter, Tally};

/// The request's `baggage` with the attributes in it, each in place of a member of its key.
///
/// `None` when there is nothing to write. What a caller sent stays, and what has no room is counted
/// and left out.
pub(crate) fn with<'a>(
    attributes: &[Attribute<'_>],
    headers: Headers<'_>,
    arena: &'a Arena,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let is_ours = |key: &[u8]| attributes.iter().any(|ours| ours.key.as_bytes() == key);
    let mut kept = members(headers.lines(NAME)).filter(|member| !is_ours(member.key));

    let mut baggage = Baggage::new();
    let has_room = kept
        .try_for_each(|member| baggage.keep(member.text))
        .is_some();
    let mut added = false;
    for attribute in attributes {
        let value = encode(attribute.value.as_bytes());
        if has_room && baggage.add(attribute.key.as_bytes(), value).is_some() {
            added = true;
        } else {
            tally.count(Counter::BaggageFull);
        }
    }
    if !added {
        return None;
    }
    let text = arena.try_alloc_slice_copy(baggage.text());
    if text.is_err() {
        tally.count(Counter::BaggageFull);
    }
    text.ok().map(|text| &*text)
}
