//! Hexadecimal text of ids.

/// Which hexadecimal letters a format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// `a`-`f` only, as W3C Trace Context demands (section 3.2.2.3).
    Lower,
    /// Upper case too: for formats whose specification has only "hexadecimal", and for lenient
    /// reading of B3.
    Any,
}

/// Reads exactly 16 hexadecimal digits as a big-endian number.
pub(crate) fn decode(text: &[u8], case: Case) -> Option<u64> {
    let digits: &[u8; 16] = text.try_into().ok()?;
    let (halves, _) = digits.as_chunks::<8>();
    let [high, low] = halves else { return None };
    Some(u64::from(eight(*high, case)?) << 32 | u64::from(eight(*low, case)?))
}

/// Reads exactly two hexadecimal digits.
pub(crate) fn decode_byte(text: &[u8], case: Case) -> Option<u8> {
    let digits: [u8; 2] = text.try_into().ok()?;
    let [.., byte] = eight(padded(&digits), case)?.to_be_bytes();
    Some(byte)
}

/// Reads 1 to 16 hexadecimal digits, as if padded on the left with zeros.
pub(crate) fn decode_padded(text: &[u8], case: Case) -> Option<u64> {
    if (1..=16).contains(&text.len()) {
        decode(&padded::<16>(text), case)
    } else {
        None
    }
}

/// `text`, of at most `N` digits, padded on the left with zeros.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut digits = [b'0'; N];
    let places = digits.iter_mut().rev();
    places
        .zip(text.iter().rev())
        .for_each(|(to, from)| *to = *from);
    digits
}

/// `byte` in each of the eight bytes of a number.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The number of ASCII characters between `9` and `a`.
const GAP: u64 = b'a' as u64 - b'9' as u64 - 1;

/// Reads the number of eight digits, each in a byte of one word. So an id is read in two steps, not
/// sixteen.
fn eight(digits: [u8; 8], case: Case) -> Option<u32> {
    let text = u64::from_be_bytes(digits);
    // In ASCII, letters have bit 6, and the low half of `a` to `f` and `A` to `F` has 1 to 6.
    let letters = text >> 6 & each(1);
    let values = (text & each(0x0f)) + letters * 9;
    let lower = match case {
        Case::Lower => text,
        Case::Any => text | letters << 5,
    };
    // A byte is a digit where its value is written as the same byte. The value 16 would be `g`.
    if values & each(0xf0) != 0 || ascii(values) != lower {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((fours | fours >> 16) & 0xffff_ffff).ok()
}

/// The lower-case digits of eight values from 0 to 16, each in a byte.
const fn ascii(values: u64) -> u64 {
    let letters = (values + each(6)) >> 4 & each(1);
    values + each(b'0') + letters * GAP
}

/// The 16 lower-case digits of `number`.
pub(crate) fn encode(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let halves = [number >> 32, number & 0xffff_ffff];
    for (eight, half) in digits.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
        let fours = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let pairs = (fours | fours << 8) & 0x00ff_00ff_00ff_00ff;
        let values = (pairs | pairs << 4) & each(0x0f);
        *eight = ascii(values).to_be_bytes();
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_is_encoded_is_decoded() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0x00f0_67aa_0ba9_02b7, u64::MAX] {
            let text = encode(number);
            assert_eq!(decode(&text, Case::Lower), Some(number));
            assert_eq!(text, format!("{number:016x}").as_bytes());
            let upper = text.to_ascii_uppercase();
            assert_eq!(decode(&upper, Case::Any), Some(number));
        }
        for byte in 0..=u8::MAX {
            let text = format!("{byte:02x}");
            assert_eq!(decode_byte(text.as_bytes(), Case::Lower), Some(byte));
        }
    }

    #[test]
    fn every_byte_in_every_place_is_a_digit_or_refused() {
        for place in 0..16 {
            for byte in 0..=u8::MAX {
                let mut text = [b'0'; 16];
                text[place] = byte;
                let digit = |radix| char::from(byte).to_digit(radix).map(u64::from);
                let number = digit(16).map(|digit| digit << (4 * (15 - place)));
                assert_eq!(decode(&text, Case::Any), number, "{byte} at {place}");
                let lower = number.filter(|_| !byte.is_ascii_uppercase());
                assert_eq!(decode(&text, Case::Lower), lower, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn only_digits_of_the_right_number_are_read() {
        assert_eq!(decode_byte(b"0f", Case::Lower), Some(15));
        assert_eq!(decode_byte(b"0F", Case::Lower), None);
        assert_eq!(decode_byte(b"0F", Case::Any), Some(15));
        assert_eq!(decode_padded(b"f", Case::Lower), Some(15));
        assert_eq!(
            decode_padded(b"4bf92f3577", Case::Lower),
            Some(0x4b_f92f_3577)
        );
        assert_eq!(decode_padded(b"", Case::Lower), None);
        assert_eq!(decode_padded(b"00000000000000001", Case::Lower), None);
        for text in [&b"+1"[..], b" 1", b"1", b"001", b"", b"g0", b"\xff\xfe"] {
            assert_eq!(decode_byte(text, Case::Any), None, "{text:?}");
        }
        for text in [&b"000000000000001"[..], b"00000000000000001", b""] {
            assert_eq!(decode(text, Case::Any), None, "{text:?}");
        }
    }
}
