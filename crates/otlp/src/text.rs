//! Text of clients in the form of protobuf's `string`: UTF-8, and bounded.

use arrayvec::ArrayVec;

/// The longest value of an attribute, in bytes; what is longer is cut at a character.
pub(crate) const MAX_TEXT: usize = 1024;

/// `bytes` as UTF-8 of at most `limit` bytes, with U+FFFD for bytes that are not UTF-8.
pub(crate) struct Utf8Text<'a>(Form<'a>);

#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack, for one value, and no heap is to be used"
)]
enum Form<'a> {
    Borrowed(&'a [u8]),
    Repaired(ArrayVec<u8, MAX_TEXT>),
}

impl<'a> Utf8Text<'a> {
    pub(crate) fn new(bytes: &'a [u8], limit: usize) -> Self {
        let limit = limit.min(MAX_TEXT);
        // A character has at most four bytes, so the bytes behind these cannot change the text that
        // is kept.
        let near = bytes.get(..limit + 4).unwrap_or(bytes);
        if near.is_ascii() {
            return Self(Form::Borrowed(near.get(..limit).unwrap_or(near)));
        }
        if let Ok(text) = core::str::from_utf8(near) {
            let end = text.floor_char_boundary(limit);
            return Self(Form::Borrowed(
                text.as_bytes().get(..end).unwrap_or_default(),
            ));
        }
        Self(Form::Repaired(repair(near, limit)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Borrowed(bytes) => bytes,
            Form::Repaired(bytes) => bytes,
        }
    }
}

fn repair(bytes: &[u8], limit: usize) -> ArrayVec<u8, MAX_TEXT> {
    let mut repaired = ArrayVec::new();
    for chunk in bytes.utf8_chunks() {
        let room = limit - repaired.len();
        let valid = chunk.valid();
        let end = valid.floor_char_boundary(room);
        let kept = valid.as_bytes().get(..end).unwrap_or_default();
        let replacement = match chunk.invalid() {
            [] => "",
            _ => "\u{fffd}",
        };
        if repaired.try_extend_from_slice(kept).is_err()
            || end < valid.len()
            || end + replacement.len() > room
            || repaired
                .try_extend_from_slice(replacement.as_bytes())
                .is_err()
        {
            break;
        }
    }
    repaired
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn text_is_cut_at_a_character_and_repaired() {
        for (bytes, limit, expected) in [
            (&b"abc"[..], 8, "abc"),
            (b"abc", 2, "ab"),
            ("a\u{e9}".as_bytes(), 2, "a"),
            (b"a\xffb", 8, "a\u{fffd}b"),
            (b"\xff\xff", 5, "\u{fffd}"),
            (b"\xff", 2, ""),
            (b"", 8, ""),
        ] {
            let text = Utf8Text::new(bytes, limit);
            assert_eq!(text.as_bytes(), expected.as_bytes(), "{bytes:?} {limit}");
        }
    }

    #[test]
    fn no_text_is_longer_than_its_limit_whatever_the_bytes() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().step_by(37).take(4096).collect();
        for start in 0..256 {
            for limit in [0, 1, 2, 3, 7, 255, 1024, 5000] {
                let text = Utf8Text::new(bytes.get(start..).unwrap_or_default(), limit);
                assert!(text.as_bytes().len() <= limit.min(MAX_TEXT));
                assert!(core::str::from_utf8(text.as_bytes()).is_ok());
            }
        }
    }
}
