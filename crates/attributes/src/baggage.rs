//! Attributes as members of the `baggage` header.

use meshtrace_baggage::{Baggage, NAME, encode};
use meshtrace_headers::{Edits, Headers};

use crate::attributes::{Arena, Attribute};
use crate::{Counter, Tally};

/// The request's `baggage`, as the stages before this one left it, with the attributes in it, each
/// in place of a member of its key.
///
/// `None` when there is nothing to write. What a caller sent stays, but for what is no member; what
/// has no room is counted and left out.
pub(crate) fn with<'a>(
    attributes: &[Attribute<'_>],
    headers: Headers<'_>,
    edits: &Edits<'_>,
    arena: &'a Arena,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let is_ours = |key: &[u8]| attributes.iter().any(|ours| ours.key.as_bytes() == key);
    let mut baggage = Baggage::new();
    let kept = baggage.keep(edits.lines(NAME, headers), is_ours);
    let mut added = false;
    for attribute in attributes {
        let value = encode(attribute.value.as_bytes());
        if kept.is_some() && baggage.add(attribute.key.as_bytes(), value).is_some() {
            added = true;
        } else {
            tally.count(Counter::BaggageFull);
        }
    }
    if !added {
        return None;
    }
    if kept.is_some_and(|malformed| malformed > 0) {
        tally.count(Counter::BaggageMalformed);
    }
    let text = arena.try_alloc_slice_copy(baggage.text());
    if text.is_err() {
        tally.count(Counter::BaggageFull);
    }
    text.ok().map(|text| &*text)
}
