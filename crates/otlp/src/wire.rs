//! Protobuf's wire format, as far as a span needs it (Protocol Buffers, "Encoding").

/// The wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// The length of `number` as a varint, in bytes.
pub(crate) const fn varint_len(number: u64) -> usize {
    match number {
        0 => 1,
        number => (70 - number.leading_zeros() as usize) / 7,
    }
}

/// The length of a field of `content` bytes whose number is below 16.
pub(crate) const fn field_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// The length of the length-delimited field at the start of `bytes`, whose number is below 16; 0
/// where there is none.
pub(crate) fn first_field_len(bytes: &[u8]) -> usize {
    let mut content = 0;
    for (place, byte) in bytes.iter().enumerate().skip(1).take(4) {
        content |= usize::from(byte & 0x7f) << (7 * (place - 1));
        if byte & 0x80 == 0 {
            return place + 1 + content;
        }
    }
    0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven bits of a number are a byte"
)]
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

/// The tag of a length-delimited field.
#[expect(clippy::cast_possible_truncation, reason = "it is checked")]
pub(crate) const fn short_tag<const FIELD: u32>() -> u8 {
    const { assert!(FIELD < 16, "the tag has one byte") };
    (FIELD << 3 | LENGTH) as u8
}

/// The tag of a field that is a varint.
#[expect(clippy::cast_possible_truncation, reason = "it is checked")]
pub(crate) const fn number_tag<const FIELD: u32>() -> u8 {
    const { assert!(FIELD < 16, "the tag has one byte") };
    (FIELD << 3 | VARINT) as u8
}

/// Writes the head of a field. The `content` bytes follow it. It is inlined where the size of the
/// module does not count.
#[cfg_attr(not(target_arch = "wasm32"), inline)]
pub(crate) fn length_head(out: &mut Vec<u8>, field: u32, content: usize) {
    let tag = field << 3 | LENGTH;
    // Nearly every field of a span is so short that its head has two bytes.
    if let (Ok(tag @ ..0x80), Ok(content @ ..0x80)) = (u8::try_from(tag), u8::try_from(content)) {
        out.extend_from_slice(&[tag, content]);
    } else {
        varint(out, tag.into());
        varint(out, content as u64);
    }
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    length_head(out, field, content.len());
    out.extend_from_slice(content);
}

pub(crate) fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, VARINT);
    varint(out, number);
}

pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, number: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_field_has_the_length_that_is_foretold() {
        for content in [0, 1, 127, 128, 16_383, 16_384, 200_000] {
            let mut out = Vec::new();
            bytes(&mut out, 2, &vec![7; content]);
            assert_eq!(first_field_len(&out), out.len());
            assert_eq!(field_len(content), out.len());
        }
        assert_eq!(first_field_len(&[]), 0);
    }

    #[test]
    fn a_varint_has_the_length_that_is_foretold() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
            assert_eq!(
                prost::encoding::decode_varint(&mut out.as_slice()),
                Ok(number)
            );
        }
    }
}
