//! The header block of a request, made from the headers that the configuration names.
//!
//! Envoy gives a tracer single headers by name, but the stages read a block. So a block is made of
//! the headers that they need, in the layout that `meshtrace_headers::Headers` reads.

use crate::call::Carrier;

/// The names of the headers that a configuration needs, in the order of a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Vec<Box<[u8]>>);

/// The headers that every configuration needs: those that describe every span, and those that the
/// stages always read.
const ALWAYS: [&[u8]; 8] = [
    b":method",
    b":path",
    b":authority",
    b":scheme",
    b"user-agent",
    b"x-request-id",
    b"content-type",
    b"upgrade",
];

impl Names {
    /// The names that every configuration needs, and the `further` ones. Each name is there once.
    pub(crate) fn new(further: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        let mut names: Vec<Box<[u8]>> = ALWAYS.iter().map(|name| (*name).into()).collect();
        for name in further {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self(names)
    }

    /// Reads the headers of `carrier` into `block`. The old content of `block` is lost.
    pub(crate) fn read(&self, carrier: &Carrier, block: &mut Vec<u8>) {
        let lines = self.0.iter().filter_map(|name| {
            let value = carrier.get(name)?;
            Some((&**name, value))
        });
        write(lines, self.0.len(), block);
    }
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
        let lengths = name_length.to_le_bytes().into_iter();
        let lengths = lengths.chain(value_length.to_le_bytes());
        for (place, byte) in block.iter_mut().skip(start).zip(lengths) {
            *place = byte;
        }
        for text in [name, value] {
            block.extend_from_slice(text);
            block.push(0);
        }
        count += 1;
    }
    for (place, byte) in block.iter_mut().zip(count.to_le_bytes()) {
        *place = byte;
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
        let names = Names::new([b"b3", &b":path"[..], b"b3"].map(Into::into));
        assert_eq!(names.0.len(), ALWAYS.len() + 1);
    }
}
