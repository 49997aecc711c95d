//! Baggage of other formats, joined into W3C's `baggage`.

use meshtrace_baggage::{Baggage, NAME, encode, members};
use meshtrace_headers::{Arena, Edits, Headers, Value, is_token};

use crate::baggage_source::BaggageSource;
use crate::config::IncomingMode;
use crate::destination::DestinationPolicy;
use crate::extract::Incoming;
use crate::propagation::Propagation;
use crate::{Counter, Tally};

impl Propagation {
    /// Joins the baggage that came in other formats into `baggage`, as the stages before this one
    /// left it. The members of `baggage` come first and are not changed; of equal keys, the first
    /// counts. The text is kept in `arena`.
    #[inline(never)]
    pub fn join_baggage<'a>(
        &self,
        incoming: &Incoming<'a>,
        policy: &DestinationPolicy,
        arena: &'a Arena,
        edits: &mut Edits<'a>,
        tally: &mut Tally,
    ) {
        let headers = incoming.arrived.headers();
        if !self.has_baggage_to_join(incoming, policy) {
            return;
        }
        let Some(baggage) = self.joined(headers, edits, tally) else {
            return;
        };
        match arena.try_alloc_slice_copy(baggage.text()) {
            Ok(text) => {
                tally.count(Counter::BaggageJoined);
                edits.replace(NAME, Value::Borrowed(text));
            }
            Err(_) => tally.count(Counter::EditsDropped),
        }
    }

    /// Counts a request whose baggage of other formats is not joined, as a stage before this one had
    /// no room in `baggage`.
    pub fn count_baggage_left_out(
        &self,
        incoming: &Incoming<'_>,
        policy: &DestinationPolicy,
        tally: &mut Tally,
    ) {
        if self.has_baggage_to_join(incoming, policy) {
            tally.count(Counter::BaggageFull);
        }
    }

    fn has_baggage_to_join(&self, incoming: &Incoming<'_>, policy: &DestinationPolicy) -> bool {
        let any = self.baggage_from.iter().any(|source| {
            let mut names = incoming.arrived.headers().iter().map(|(name, _)| name);
            names.any(|name| name.starts_with(source.prefix()))
        });
        any && incoming.mode != IncomingMode::Ignore && !policy.clear.names(NAME)
    }

    /// Returns the content of `baggage` and the other entries that have room; `None` where there is
    /// nothing to add.
    #[cold]
    fn joined(
        &self,
        headers: &Headers<'_>,
        edits: &Edits<'_>,
        tally: &mut Tally,
    ) -> Option<Baggage> {
        let mut baggage = Baggage::new();
        let Some(malformed) = baggage.keep(edits.lines(NAME, *headers), |_| false) else {
            tally.count(Counter::BaggageFull);
            return None;
        };
        let mut joined = false;
        for source in &self.baggage_from {
            for (name, value) in headers {
                let Some(key) = name.strip_prefix(source.prefix()) else {
                    continue;
                };
                if !is_token(key) {
                    tally.count(Counter::BaggageMalformed);
                } else if contains(&baggage, key) {
                    // An entry whose key is there already does not overwrite the member.
                } else if add(*source, &mut baggage, key, value.trim_ascii()).is_some() {
                    joined = true;
                } else {
                    tally.count(Counter::BaggageFull);
                }
            }
        }
        if joined && malformed > 0 {
            tally.count(Counter::BaggageMalformed);
        }
        joined.then_some(baggage)
    }
}

/// Adds an entry of `source` as a whole member; `None` where there is no room.
fn add(source: BaggageSource, baggage: &mut Baggage, key: &[u8], value: &[u8]) -> Option<()> {
    match source {
        BaggageSource::Jaeger => baggage.add(key, url_encoded(value)),
        BaggageSource::Ottrace => baggage.add(key, encode(value)),
    }
}

/// Compares keys without regard to case: names in HTTP/2 are lower-case, whatever case the entry's
/// key had.
fn contains(baggage: &Baggage, key: &[u8]) -> bool {
    members([baggage.text()]).any(|member| member.key.eq_ignore_ascii_case(key))
}

/// Converts a URL-encoded value to a value of W3C Baggage, in pieces.
fn url_encoded(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    core::iter::from_fn(move || {
        let length = match rest {
            [] => return None,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            _ => 1,
        };
        let (piece, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(piece)
    })
    .flat_map(|piece| {
        let (whole, plain) = match piece {
            // A plus is the space of an HTML form: the clients of Java and Go write a space as `+`,
            // and a plus as `%2B`.
            b"+" => (&b"%20"[..], &b""[..]),
            [b'%', _, ..] => (piece, &b""[..]),
            _ => (&b""[..], piece),
        };
        core::iter::once(whole).chain(encode(plain))
    })
}
