//! The header block of a request, made from the headers that the configuration names.
//!
//! Envoy gives a tracer single headers by name, but the stages read a block. So blocks are made of
//! the headers that they need, in the layout that `meshtrace_headers::Headers` reads. There are two:
//! one with the headers that decide about a request, and one with those that only describe its
//! spans. The second one is made where a span may be reported.

use meshtrace_propagation::Field;

use crate::call::Carrier;

/// The names of the headers that a configuration needs, in the order of the blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    deciding: Vec<Box<[u8]>>,
    describing: Vec<Box<[u8]>>,
    /// The headers of which one line leaves, whatever comes: ids and decisions.
    single: Vec<Box<[u8]>>,
}

/// Lists: a proxy may send each in several lines.
const LISTS: [&[u8]; 2] = [b"tracestate", b"baggage"];

/// The headers that describe every span, besides those that [`write_known`] writes.
const DESCRIBING: [&[u8]; 5] = [
    b":scheme",
    b"user-agent",
    b"x-request-id",
    b"content-type",
    b"upgrade",
];
/// The headers that every request has, and for which Envoy has a function each.
const KNOWN: [&[u8]; 3] = [b":method", b":path", b":authority"];

impl Names {
    /// The names that every configuration needs, the `managed` ones, which the stages read and write,
    /// and those that they only `read`. Each name is there once.
    pub(crate) fn new(managed: Vec<Box<[u8]>>, read: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        let mut single = managed.clone();
        single.retain(|name| Field::from_name(name).is_some() && !LISTS.contains(&&**name));
        let mut names = Self {
            single,
            ..Self::default()
        };
        for name in managed.into_iter().chain(read) {
            if !names.deciding.contains(&name) && !KNOWN.contains(&&*name) {
                names.deciding.push(name);
            }
        }
        let describing = DESCRIBING.iter().map(|name| Box::from(*name));
        names.describing = describing
            .filter(|name| !names.deciding.contains(name))
            .collect();
        names
    }

    /// Whether one line of the header `name` leaves, whatever comes.
    pub(crate) fn is_single(&self, name: &[u8]) -> bool {
        self.single.iter().any(|single| **single == *name)
    }

    /// Reads the headers that decide about a request into `block`. The old content of `block` is
    /// lost.
    pub(crate) fn read_deciding(&self, carrier: &Carrier, block: &mut Vec<u8>) {
        let known =
            KNOWN
                .into_iter()
                .zip([carrier.method(), carrier.target(), carrier.authority()]);
        let lines = known
            .filter_map(|(name, value)| Some((name, value?)))
            .chain(lines(&self.deciding, carrier));
        write(lines, KNOWN.len() + self.deciding.len(), block);
    }

    /// As [`read_deciding`](Self::read_deciding), for the headers that only describe a span.
    pub(crate) fn read_describing(&self, carrier: &Carrier, block: &mut Vec<u8>) {
        write(
            lines(&self.describing, carrier),
            self.describing.len(),
            block,
        );
    }
}

fn lines<'l>(
    names: &'l [Box<[u8]>],
    carrier: &'l Carrier,
) -> impl Iterator<Item = (&'l [u8], &'l [u8])> {
    names
        .iter()
        .filter_map(|name| Some((&**name, carrier.get(name)?)))
}

/// Writes at most `most` of the `lines` as a header block.
fn write<'l>(lines: impl Iterator<Item = (&'l [u8], &'l [u8])>, most: usize, block: &mut Vec<u8>) {
    const COUNT: usize = 4;
    const LENGTHS: usize = 8;

    block.clear();
    // The lengths stand before the texts. There is room for the lengths of all lines at first, and
    // the part that is not needed is removed at the end.
    let reserved = COUNT + most * LENGTHS;
    block.resize(reserved, 0);
    let mut count = 0_u32;
    for (name, value) in lines.take(most) {
        let (Ok(name_length), Ok(value_length)) =
            (u32::try_from(name.len()), u32::try_from(value.len()))
        else {
            continue;
        };
        let start = COUNT + count as usize * LENGTHS;
        let lengths = u64::from(value_length) << 32 | u64::from(name_length);
        if let Some(place) = block.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *place = lengths.to_le_bytes();
        }
        block.reserve(name.len() + value.len() + 2);
        for text in [name, value] {
            block.extend_from_slice(text);
            block.push(0);
        }
        count += 1;
    }
    if let Some(place) = block.first_chunk_mut() {
        *place = count.to_le_bytes();
    }
    block.drain(COUNT + count as usize * LENGTHS..reserved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshtrace_headers::Headers;

    #[test]
    fn a_block_is_read_back_as_it_was_written() {
        let lines: [(&[u8], &[u8]); 3] = [(b"b3", b"0"), (b"x", b""), (b"y", b"\xff\0")];
        let mut block = b"something else".to_vec();
        write(lines.into_iter(), 20, &mut block);
        assert_eq!(block, meshtrace_headers::encode(&lines));
        let read: Vec<_> = Headers::parse(&block).unwrap().iter().collect();
        assert_eq!(read, lines);
        write([].into_iter(), 20, &mut block);
        assert_eq!(Headers::parse(&block).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_name_is_asked_for_once() {
        let names = [b"b3", &b":path"[..], b"b3", b"user-agent"].map(Into::into);
        let Names {
            deciding,
            describing,
            single,
        } = Names::new(
            vec![b"tracestate".as_slice().into(), b"b3".as_slice().into()],
            names,
        );
        assert_eq!(single, [Box::from(&b"b3"[..])]);
        let expected = [b"tracestate", &b"b3"[..], b"user-agent"];
        assert_eq!(deciding, expected.map(Box::from));
        assert_eq!(describing.len(), DESCRIBING.len() - 1);
    }
}
