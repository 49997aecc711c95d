//! Ids that are written in decimal.

/// The digits of `u64::MAX`.
const MAX_DIGITS: usize = 20;

/// Reads only digits: no sign, no white space, no overflow.
pub(super) fn decode(text: &[u8]) -> Option<u64> {
    // `parse` takes a plus sign.
    if text.len() > MAX_DIGITS || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn only_a_number_of_64_bits_is_read() {
        assert_eq!(decode(b"0"), Some(0));
        assert_eq!(decode(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            &b""[..],
            b"+1",
            b"-1",
            b" 1",
            b"1a",
            b"\xff",
            b"18446744073709551616",
            b"000000000000000000001",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
