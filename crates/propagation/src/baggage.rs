//! Baggage of other formats, joined into W3C's `baggage`.

use arrayvec::ArrayVec;
use bumpalo::Bump;
use meshtrace_headers::{Edits, Headers, Value, is_token};
use serde::Deserialize;

use crate::config::{IncomingMode, Propagation};
use crate::egress::Egress;
use crate::extract::Incoming;
use crate::format::Format;
use crate::{Counter, Tally};

/// W3C Baggage, section 3.3.2: at least this many members are to be propagated.
const MAX_MEMBERS: usize = 64;
/// The same section, in bytes of the whole header.
const MAX_BYTES: usize = 8192;

const BAGGAGE: &[u8] = b"baggage";

/// A format that sends baggage in one header an entry.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BaggageSource {
    /// `uberctx-*`, URL-encoded (Jaeger client libraries, "Propagation Format").
    Jaeger,
    /// `ot-baggage-*`, as it is (OpenTracing basic tracers).
    Ottrace,
}

impl BaggageSource {
    const ALL: [Self; 2] = [Self::Jaeger, Self::Ottrace];

    /// What its headers' names begin with; the entry's key follows.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Jaeger => b"uberctx-",
            Self::Ottrace => b"ot-baggage-",
        }
    }

    const fn format(self) -> Format {
        match self {
            Self::Jaeger => Format::Jaeger,
            Self::Ottrace => Format::Ottrace,
        }
    }
}

impl Propagation {
    /// Joins the baggage that came in other formats into `baggage`. Members that came in it stay to
    /// the letter and come first; of equal keys, the first counts. The text is kept in `arena`.
    pub fn join_baggage<'a>(
        &self,
        incoming: &Incoming<'a>,
        egress: &Egress,
        arena: &'a Bump,
        edits: &mut Edits<'a>,
        tally: &mut Tally,
    ) {
        let headers = incoming.arrived.headers();
        let any = self.baggage_from.iter().any(|source| {
            let mut names = headers.iter().map(|(name, _)| name);
            names.any(|name| name.starts_with(source.prefix()))
        });
        let is_wanted = incoming.mode != IncomingMode::Ignore && !egress.clear.names(BAGGAGE);
        if !any || !is_wanted {
            return;
        }
        let Some(baggage) = self.joined(headers, tally) else {
            return;
        };
        match arena.try_alloc_slice_copy(&baggage.text) {
            Ok(text) => {
                tally.count(Counter::BaggageJoined);
                edits.replace(BAGGAGE, Value::Borrowed(text));
            }
            Err(_) => tally.count(Counter::EditsDropped),
        }
    }

    /// What came in `baggage`, and what of the rest has room; `None` where that adds nothing.
    #[cold]
    fn joined(&self, headers: &Headers<'_>, tally: &mut Tally) -> Option<Baggage> {
        let Some(mut baggage) = Baggage::read(headers.lines(BAGGAGE)) else {
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
                } else if baggage.contains(key) {
                    // What is there already is not overwritten.
                } else if baggage.push(key, value.trim_ascii(), *source).is_some() {
                    joined = true;
                } else {
                    tally.count(Counter::BaggageFull);
                }
            }
        }
        joined.then_some(baggage)
    }
}

impl Egress {
    /// The baggage of a format goes with the format.
    pub(crate) fn clear_baggage<'a>(&self, incoming: &Incoming<'a>, edits: &mut Edits<'a>) {
        for source in BaggageSource::ALL {
            if !self.clear.formats.contains(source.format()) {
                continue;
            }
            for (name, _) in incoming.arrived.headers() {
                let is_new = || edits.iter().all(|edit| edit.name != name);
                if name.starts_with(source.prefix()) && is_new() {
                    edits.remove(name);
                }
            }
        }
    }
}

/// The `baggage` that is to leave.
struct Baggage {
    text: ArrayVec<u8, MAX_BYTES>,
    members: usize,
}

impl Baggage {
    /// Takes over what came, of which several lines are one list (RFC 9110, section 5.3); `None`
    /// when that leaves no room.
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut text = ArrayVec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            if !text.is_empty() {
                text.try_push(b',').ok()?;
            }
            text.try_extend_from_slice(line).ok()?;
        }
        let members = members(&text).count();
        Some(Self { text, members })
    }

    /// Names of HTTP/2 are lower-case, whatever case the entry's key had.
    fn contains(&self, key: &[u8]) -> bool {
        members(&self.text).any(|member| {
            let end = |byte: &u8| matches!(byte, b'=' | b';');
            let known = member.split(end).next().unwrap_or_default();
            known.trim_ascii().eq_ignore_ascii_case(key)
        })
    }

    /// Adds a whole member, or nothing and `None` where there is no room.
    fn push(&mut self, key: &[u8], value: &[u8], source: BaggageSource) -> Option<()> {
        if self.members >= MAX_MEMBERS {
            return None;
        }
        let before = self.text.len();
        if self.try_push(key, value, source).is_none() {
            self.text.truncate(before);
            return None;
        }
        self.members += 1;
        Some(())
    }

    fn try_push(&mut self, key: &[u8], value: &[u8], source: BaggageSource) -> Option<()> {
        let text = &mut self.text;
        if !text.is_empty() {
            text.try_push(b',').ok()?;
        }
        text.try_extend_from_slice(key).ok()?;
        text.try_push(b'=').ok()?;
        let mut rest = value;
        while let [byte, after @ ..] = rest {
            match (source, rest) {
                (BaggageSource::Jaeger, [b'%', high, low, ..])
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    text.try_push(b'%').ok()?;
                }
                // A form's space: the clients of Java and Go write it so, and `%2B` for a plus.
                (BaggageSource::Jaeger, [b'+', ..]) => {
                    text.try_extend_from_slice(b"%20").ok()?;
                }
                _ if is_baggage_octet(*byte) && *byte != b'%' => text.try_push(*byte).ok()?,
                _ => text.try_extend_from_slice(&percent_encoded(*byte)).ok()?,
            }
            rest = after;
        }
        Some(())
    }
}

/// The members that are not empty.
fn members(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// `baggage-octet` (W3C Baggage, section 3.3.1).
fn is_baggage_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

fn percent_encoded(byte: u8) -> [u8; 3] {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    };
    [b'%', digit(byte >> 4), digit(byte & 0xf)]
}
