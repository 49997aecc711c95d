//! Values as text: cleaned, and bounded.

use arrayvec::{ArrayString, ArrayVec};
use meshtrace_config::ConfigError;

use crate::{Counter, Tally};

/// The most that is read of a source, and the most that a transformation makes of it, in bytes.
pub(crate) const MAX_TEXT: usize = 1024;

/// A value on its way through the transformations.
pub(crate) type ValueText = ArrayString<MAX_TEXT>;

/// A value from its source, where it cannot be taken from the request as it is. A longer value is
/// cut.
pub(crate) type Raw = ArrayVec<u8, MAX_TEXT>;

/// Replaces `text` by `bytes`, with U+FFFD for every control character and for what is not UTF-8.
pub(crate) fn clean(bytes: &[u8], text: &mut ValueText, tally: &mut Tally) {
    text.clear();
    for chunk in bytes.utf8_chunks() {
        // ASCII without control characters is the usual value.
        if chunk
            .valid()
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~'))
        {
            if !push_str(text, chunk.valid(), tally) {
                return;
            }
        } else {
            for char in chunk.valid().chars() {
                let char = if char.is_control() {
                    tally.count(Counter::Replaced);
                    char::REPLACEMENT_CHARACTER
                } else {
                    char
                };
                if !push(text, char, tally) {
                    return;
                }
            }
        }
        if !chunk.invalid().is_empty() {
            tally.count(Counter::Replaced);
            if !push(text, char::REPLACEMENT_CHARACTER, tally) {
                return;
            }
        }
    }
}

/// Refuses control characters in `text` of the configuration: they would be replaced when it is
/// written.
pub(crate) fn refuse_controls(path: &str, text: &str) -> Result<(), ConfigError> {
    match text.chars().find(|char| char.is_control()) {
        None => Ok(()),
        Some(char) => Err(ConfigError::new(
            path,
            format!("has the control character {char:?}, expected text without any"),
        )),
    }
}

/// Adds `char`; false when there is no room.
pub(crate) fn push(text: &mut ValueText, char: char, tally: &mut Tally) -> bool {
    let pushed = text.try_push(char).is_ok();
    if !pushed {
        tally.count(Counter::Truncated);
    }
    pushed
}

/// Adds as much of `more` as there is room for; false when that is not all.
pub(crate) fn push_str(text: &mut ValueText, more: &str, tally: &mut Tally) -> bool {
    let head = head(more, text.remaining_capacity());
    let pushed = text.try_push_str(head).is_ok() && head.len() == more.len();
    if !pushed {
        tally.count(Counter::Truncated);
    }
    pushed
}

/// As much of `text` as fits into `limit` bytes without a broken character.
pub(crate) fn head(text: &str, limit: usize) -> &str {
    let end = text.floor_char_boundary(limit);
    text.get(..end).unwrap_or_default()
}

/// Cuts `text` to `limit` bytes.
pub(crate) fn cut(text: &mut ValueText, limit: usize, tally: &mut Tally) {
    let end = head(text, limit).len();
    if end < text.len() {
        text.truncate(end);
        tally.count(Counter::Truncated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn cleaned(bytes: &[u8]) -> (String, Tally) {
        let (mut text, mut tally) = (ValueText::new(), Tally::default());
        clean(bytes, &mut text, &mut tally);
        (text.to_string(), tally)
    }

    #[test]
    fn text_without_control_characters_stays() {
        for text in ["", "alice", "a b~", "Zoë", "名前"] {
            assert_eq!(
                cleaned(text.as_bytes()),
                (text.to_owned(), Tally::default())
            );
        }
    }

    #[test]
    fn control_characters_and_what_is_not_utf8_are_replaced_and_counted() {
        for (bytes, expected) in [
            (&b"a\tb"[..], "a\u{fffd}b"),
            (b"a\0\x1f\x7f", "a\u{fffd}\u{fffd}\u{fffd}"),
            ("a\u{85}".as_bytes(), "a\u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"Zo\xc3", "Zo\u{fffd}"),
        ] {
            let (text, tally) = cleaned(bytes);
            assert_eq!(text, expected);
            assert!(tally.has(Counter::Replaced));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let (text, tally) = cleaned("é".repeat(MAX_TEXT).as_bytes());
        assert_eq!(text, "é".repeat(MAX_TEXT / 2));
        assert!(tally.has(Counter::Truncated));

        let mut text = ValueText::from("aéé").unwrap();
        let mut tally = Tally::default();
        cut(&mut text, 4, &mut tally);
        assert_eq!(&text, "aé");
        assert!(tally.has(Counter::Truncated));
    }
}
