//! The header block of a request, made from the headers that the configuration names.
//!
//! Envoy gives a tracer single headers by name, but the stages read a block. So a block is made of
//! the headers that they need, in the layout that `meshtrace_headers::Headers` reads. The headers
//! that decide about a request come first. Those that only describe its spans are added where a span
//! may be reported.

use meshtrace_headers::Headers;
use meshtrace_otlp::conventions::{Described, Request};
use meshtrace_propagation::Field;

use crate::call::Carrier;

/// The names of the headers that a configuration needs, in the order of the block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// The first ones are those of which one line leaves, whatever comes: ids and decisions.
    deciding: Vec<Name>,
    /// How many those are.
    single: usize,
    /// Whether [`KNOWN`] decide too. Otherwise they only describe.
    known_decide: bool,
    describing: Vec<Name>,
}

/// The name of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// The name, and the NUL that follows it in a block.
    terminated: Box<[u8]>,
    /// What the header describes.
    describes: Option<Described>,
}

impl Name {
    fn new(name: &[u8]) -> Self {
        let mut all = Described::ALL.into_iter();
        Self {
            terminated: [name, b"\0"].concat().into(),
            describes: all.find(|described| described.name() == name),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.terminated.split_last().map_or(&[], |(_, name)| name)
    }
}

/// Lists: a proxy may send each in several lines.
const LISTS: [&[u8]; 2] = [b"tracestate", b"baggage"];

/// The headers that describe every span, besides [`KNOWN`].
const DESCRIBING: [Described; 5] = [
    Described::Scheme,
    Described::UserAgent,
    Described::RequestId,
    Described::ContentType,
    Described::Upgrade,
];
/// The headers that every request has, and for which Envoy has a function each.
const KNOWN: [&[u8]; 3] = [
    Described::Method.name(),
    Described::Target.name(),
    Described::Authority.name(),
];

/// The headers of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    lengths: Vec<[u8; 8]>,
    text: Vec<u8>,
    /// The number of first lines of which one line leaves, whatever comes.
    single: usize,
    /// The number of first lines that decide about the request.
    deciding: usize,
    /// The values of [`Described::ALL`], as ranges of `text`.
    described: [Place; Described::ALL.len()],
}

/// A range of bytes. No value begins at 0, where the first name is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    length: u32,
}

impl Names {
    /// The names that every configuration needs, the `managed` ones, which the stages read and write,
    /// and those that they only `read`. Each name is there once. `known_decide` is whether a stage
    /// reads [`KNOWN`] although none of them is in `read`.
    pub(crate) fn new(managed: Vec<Box<[u8]>>, read: Vec<Box<[u8]>>, known_decide: bool) -> Self {
        let is_single = |name: &[u8]| Field::from_name(name).is_some() && !LISTS.contains(&name);
        let (single, others): (Vec<_>, Vec<_>) =
            managed.into_iter().partition(|name| is_single(name));
        let mut names = Self {
            known_decide,
            ..Self::default()
        };
        single.iter().for_each(|name| names.add(name));
        names.single = names.deciding.len();
        others.iter().chain(&read).for_each(|name| names.add(name));
        for described in DESCRIBING {
            let mut deciding = names.deciding.iter();
            if !deciding.any(|name| name.describes == Some(described)) {
                names.describing.push(Name::new(described.name()));
            }
        }
        names
    }

    fn add(&mut self, name: &[u8]) {
        if KNOWN.contains(&name) {
            self.known_decide = true;
        } else if !self.deciding.iter().any(|known| known.bytes() == name) {
            self.deciding.push(Name::new(name));
        }
    }

    /// Reads the headers that decide about a request into `block`. The old content of `block` is
    /// lost.
    pub(crate) fn read_deciding(&self, carrier: &Carrier, block: &mut Block) {
        block.clear();
        let (single, others) = self
            .deciding
            .split_at_checked(self.single)
            .unwrap_or_default();
        block.add(single, carrier);
        block.single = block.lengths.len();
        if self.known_decide {
            block.add_known(carrier);
        }
        block.add(others, carrier);
        block.deciding = block.lengths.len();
    }

    /// Adds the headers that only describe a span to `block`, which has those that decide.
    pub(crate) fn read_describing(&self, carrier: &Carrier, block: &mut Block) {
        if !self.known_decide {
            block.add_known(carrier);
        }
        block.add(&self.describing, carrier);
    }
}

impl Block {
    /// The headers that decide about the request.
    pub(crate) fn headers(&self) -> Headers<'_> {
        let deciding = self.lengths.get(..self.deciding).unwrap_or_default();
        Headers::of_parts(deciding, &self.text)
    }

    /// Those of which one line leaves, whatever comes.
    pub(crate) fn single(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers().iter().take(self.single)
    }

    /// The request as its headers describe it.
    pub(crate) fn request(&self) -> Request<'_> {
        Request::of_values(|described| {
            let Place { start, length } = *self.described.get(described as usize)?;
            let rest = self.text.get(start as usize..).filter(|_| start != 0)?;
            rest.get(..length as usize)
        })
    }

    pub(crate) fn clear(&mut self) {
        self.lengths.clear();
        self.text.clear();
        self.single = 0;
        self.deciding = 0;
        self.described = Default::default();
    }

    /// The memory that the block holds, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.text.capacity() + size_of::<[u8; 8]>() * self.lengths.capacity()
    }

    fn add(&mut self, names: &[Name], carrier: &Carrier) {
        for name in names {
            if let Some(value) = carrier.get(name.bytes()) {
                self.push(&name.terminated, value, name.describes);
            }
        }
    }

    fn add_known(&mut self, carrier: &Carrier) {
        if let Some(value) = carrier.method() {
            self.push(b":method\0", value, Some(Described::Method));
        }
        if let Some(value) = carrier.target() {
            self.push(b":path\0", value, Some(Described::Target));
        }
        if let Some(value) = carrier.authority() {
            self.push(b":authority\0", value, Some(Described::Authority));
        }
    }

    /// Adds a line. The `name` ends with a NUL.
    fn push(&mut self, name: &[u8], value: &[u8], describes: Option<Described>) {
        let start = self.text.len() + name.len();
        let (Ok(start), Ok(length), Ok(of_name)) = (
            u32::try_from(start),
            u32::try_from(value.len()),
            u32::try_from(name.len().saturating_sub(1)),
        ) else {
            return;
        };
        if let Some(place) = describes.and_then(|which| self.described.get_mut(which as usize)) {
            *place = Place { start, length };
        }
        let lengths = u64::from(length) << 32 | u64::from(of_name);
        self.lengths.push(lengths.to_le_bytes());
        self.text.reserve(name.len() + value.len() + 1);
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.text.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &[(&[u8], &[u8])]) -> Block {
        let mut block = Block::default();
        for (name, value) in lines {
            let name = Name::new(name);
            block.push(&name.terminated, value, name.describes);
        }
        block.deciding = lines.len();
        block
    }

    #[test]
    fn a_block_is_read_back_as_it_was_written() {
        let lines: [(&[u8], &[u8]); 3] = [(b"b3", b"0"), (b"x", b""), (b"y", b"\xff\0")];
        let mut block = block(&lines);
        assert_eq!(block.headers().iter().collect::<Vec<_>>(), lines);
        block.single = 1;
        assert_eq!(block.single().collect::<Vec<_>>(), [lines[0]]);
        // What only describes decides about nothing.
        block.deciding = 2;
        assert_eq!(block.headers().iter().collect::<Vec<_>>(), lines[..2]);
        block.clear();
        assert_eq!(
            (block.headers().iter().count(), block.single().count()),
            (0, 0)
        );
    }

    #[test]
    fn a_request_is_described_as_by_its_lines() {
        let lines: [(&[u8], &[u8]); 9] = [
            (b":authority", b"shop"),
            (b"b3", b"0"),
            (b":method", b"CONNECT"),
            (b"content-type", b"application/grpc"),
            (b"upgrade", b""),
            (b":path", b"/a?b"),
            (b"user-agent", b"x"),
            (b":scheme", b"http"),
            (b"x-request-id", b"1"),
        ];
        for count in 0..=lines.len() {
            let (lines, mut block) = (&lines[..count], block(&lines[..count]));
            let expected = Request::of_lines(lines.iter().copied());
            assert_eq!(format!("{:?}", block.request()), format!("{expected:?}"));
            block.clear();
            let nothing = Request::default();
            assert_eq!(format!("{:?}", block.request()), format!("{nothing:?}"));
        }
    }

    #[test]
    fn a_name_is_asked_for_once() {
        let managed = || {
            [&b"tracestate"[..], b"b3", b"x-id"]
                .map(Into::into)
                .to_vec()
        };
        let bytes = |names: &[Name]| {
            let names = names.iter().map(|name| name.bytes().to_vec());
            names.collect::<Vec<_>>()
        };
        let read = [b"b3", &b"user-agent"[..]].map(Into::into).to_vec();
        let names = Names::new(managed(), read, false);
        assert_eq!(names.single, 1);
        let expected = [&b"b3"[..], b"tracestate", b"x-id", b"user-agent"];
        assert_eq!(bytes(&names.deciding), expected);
        assert_eq!(names.describing.len(), DESCRIBING.len() - 1);
        assert!(!names.known_decide);
        // A rule may name them as it names other headers.
        let names = Names::new(managed(), [b":path".as_slice().into()].to_vec(), false);
        assert!(names.known_decide);
        assert_eq!(bytes(&names.deciding), expected[..3]);
    }
}
