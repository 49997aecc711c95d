//! Searches of short texts. Most values have between ten and a hundred bytes.

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Whether a byte of `word` is below `limit`, which is 128 at most.
const fn has_below(word: u64, limit: u8) -> bool {
    // The high bit of a byte of the difference is set where the byte is below the limit, or where a
    // byte before it is.
    word.wrapping_sub(each(limit)) & !word & each(0x80) != 0
}

/// Whether `is_it` holds for no eight bytes of `text`, which are looked at in one step. The last ones
/// may come twice, and a text that is shorter is filled up with the letter `a`. `false` also where the
/// size of the module counts: there the caller has to look at each byte.
#[inline]
fn has_no_word(text: &[u8], is_it: impl Fn(u64) -> bool) -> bool {
    if cfg!(target_arch = "wasm32") {
        return false;
    }
    let mut filled = [b'a'; 8];
    let last = text.last_chunk().unwrap_or_else(|| {
        for (to, from) in filled.iter_mut().zip(text) {
            *to = *from;
        }
        &filled
    });
    let (words, _) = text.as_chunks::<8>();
    for word in words {
        if is_it(u64::from_ne_bytes(*word)) {
            return false;
        }
    }
    !is_it(u64::from_ne_bytes(*last))
}

/// Whether `byte`, which is no letter, is known not to be in `text`. `false` says nothing.
#[must_use]
#[inline]
pub fn is_without(text: &[u8], byte: u8) -> bool {
    has_no_word(text, |word| has_below(word ^ each(byte), 1))
}

/// Whether all bytes of `text` are known to be ASCII. `false` says nothing.
#[must_use]
#[inline]
pub fn is_plain(text: &[u8]) -> bool {
    has_no_word(text, |word| word & each(0x80) != 0)
}

/// Whether `text` is known to have no control character: no byte below the space, and no DEL. `false`
/// says nothing.
pub(crate) fn is_without_controls(text: &[u8]) -> bool {
    has_no_word(text, |word| {
        has_below(word, b' ') || has_below(word ^ each(0x7f), 1)
    })
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_in_every_place_among_all_others() {
        for length in 0..20 {
            for around in [b'a', 0x80, 0xff, 0x20, 0x21] {
                let text = vec![around; length];
                assert_eq!(is_plain(&text), text.is_ascii());
                assert!(is_without_controls(&text));
                assert!(is_without(&text, b','));
                for place in 0..length {
                    for byte in 0..=u8::MAX {
                        let mut text = text.clone();
                        text[place] = byte;
                        assert_eq!(is_plain(&text), text.is_ascii(), "{text:?}");
                        let is_control = byte.is_ascii_control();
                        assert_eq!(is_without_controls(&text), !is_control, "{text:?}");
                        assert_eq!(is_without(&text, b','), byte != b',', "{text:?}");
                    }
                }
            }
        }
    }
}
