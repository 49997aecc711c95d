//! Hexadecimal text of ids.

/// Which hexadecimal letters a format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// `a`-`f` only, as W3C Trace Context demands (section 3.2.2.3).
    Lower,
    /// Upper case too: formats that only say "hexadecimal", and lenient reading of B3.
    Any,
}

/// Reads exactly `N` hexadecimal digits, at most 16, as a big-endian number.
pub(crate) fn decode<const N: usize>(text: &[u8], case: Case) -> Option<u64> {
    const { assert!(N <= 16, "a u64 has 16 digits") };

    let digits: &[u8; N] = text.try_into().ok()?;
    number(digits, case)
}

/// Reads 1 to 16 hexadecimal digits, as if padded on the left with zeros.
pub(crate) fn decode_padded(text: &[u8], case: Case) -> Option<u64> {
    if (1..=16).contains(&text.len()) {
        number(text, case)
    } else {
        None
    }
}

fn number(digits: &[u8], case: Case) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, &digit| {
        Some(number << 4 | u64::from(value(digit, case)?))
    })
}

fn value(digit: u8, case: Case) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' if case == Case::Any => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The 16 lower-case digits of `number`.
pub(crate) fn encode(number: u64) -> [u8; 16] {
    let bytes = number.to_be_bytes();
    let mut digits = [0; 16];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = encode_byte(byte);
    }
    digits
}

/// The two lower-case digits of `byte`.
pub(crate) fn encode_byte(byte: u8) -> [u8; 2] {
    [digit(byte >> 4), digit(byte & 0xf)]
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_is_encoded_is_decoded() {
        for number in [0, 1, 0x00f0_67aa_0ba9_02b7, u64::MAX] {
            let text = encode(number);
            assert_eq!(decode::<16>(&text, Case::Lower), Some(number));
            assert_eq!(text, format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn only_digits_of_the_right_case_and_number_are_read() {
        assert_eq!(decode::<2>(b"0f", Case::Lower), Some(15));
        assert_eq!(decode::<2>(b"0F", Case::Lower), None);
        assert_eq!(decode::<2>(b"0F", Case::Any), Some(15));
        assert_eq!(decode_padded(b"f", Case::Lower), Some(15));
        assert_eq!(decode_padded(b"", Case::Lower), None);
        assert_eq!(decode_padded(b"00000000000000001", Case::Lower), None);
        for text in [&b"+1"[..], b" 1", b"1", b"001", b"", b"g0", b"\xff\xfe"] {
            assert_eq!(decode::<2>(text, Case::Any), None, "{text:?}");
        }
    }
}
