//! Values of headers, and the rules for a value of a header.

use arrayvec::ArrayVec;

use crate::bytes::is_without_controls;

/// The longest value a format of this project writes, in bytes; longer ones are borrowed.
const INLINE_BYTES: usize = 88;

/// The text of a header that a stage writes: built in place, or borrowed from the request or the
/// configuration.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Built on the stack.
    Inline(ArrayVec<u8, INLINE_BYTES>),
    /// Taken as it is from the request or the configuration.
    Borrowed(&'a [u8]),
}

impl Value<'_> {
    /// Concatenates `parts`.
    ///
    /// Returns `None` when they exceed the 88 bytes of an inline value. No format of this project
    /// exceeds them, so a test of the caller finds it.
    #[must_use]
    pub fn concat(parts: &[&[u8]]) -> Option<Self> {
        let mut text = ArrayVec::new();
        for part in parts {
            text.try_extend_from_slice(part).ok()?;
        }
        Some(Self::Inline(text))
    }

    /// The bytes to write.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(text) => text,
            Self::Borrowed(text) => text,
        }
    }
}

/// A value that may stand in a header of any version of HTTP: not empty, no space or tab at its
/// ends, and no control character but tabs inside.
///
/// On any other value, a recipient of HTTP/2 may close the whole connection, with the requests of
/// other callers (RFC 9110, section 5.5; RFC 9113, sections 8.1.1 and 8.2.1).
#[derive(Clone, Debug)]
pub struct FieldValue<'a>(Value<'a>);

impl<'a> FieldValue<'a> {
    /// `value` without the spaces and tabs at its ends; `None` where nothing is left, or where it
    /// has a control character.
    #[must_use]
    pub fn new(value: Value<'a>) -> Option<Self> {
        let value = match value {
            Value::Borrowed(text) => Value::Borrowed(field_value(text)?),
            Value::Inline(text) => match field_value(&text)? {
                trimmed if trimmed.len() < text.len() => Value::concat(&[trimmed])?,
                _ => Value::Inline(text),
            },
        };
        (!value.as_bytes().is_empty()).then_some(Self(value))
    }

    /// The bytes to write.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// `text` without the spaces and tabs at its ends; the result may be empty. Returns `None` where it
/// has a control character that is no tab (RFC 9110, section 5.5).
#[must_use]
pub fn field_value(text: &[u8]) -> Option<&[u8]> {
    let mut text = text;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    let is_legal = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    let all_are_legal = is_without_controls(text) || text.iter().all(is_legal);
    all_are_legal.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn concat_refuses_what_does_not_fit() {
        let text = [b'a'; INLINE_BYTES];
        assert_eq!(Value::concat(&[&text]).unwrap().as_bytes(), text);
        assert!(Value::concat(&[&text, b"b"]).is_none());
    }

    #[test]
    fn no_field_value_begins_or_ends_with_a_space_or_has_a_control_character() {
        for (text, expected) in [
            (&b"a"[..], Some(&b"a"[..])),
            (b" a", Some(b"a")),
            (b"a \t ", Some(b"a")),
            (b"\t a b\tc ", Some(b"a b\tc")),
            ("Zoë ".as_bytes(), Some("Zoë".as_bytes())),
            (b"\xff\xa0", Some(b"\xff\xa0")),
            (b"", None),
            (b" \t", None),
            (b"a\0b", None),
            (b"a\r\nx: y", None),
            (b"a\n", None),
            (b"\x7f", None),
            (b"a\x01", None),
        ] {
            for value in [Value::Borrowed(text), Value::concat(&[text]).unwrap()] {
                let value = FieldValue::new(value);
                let found = value.as_ref().map(FieldValue::as_bytes);
                assert_eq!(found, expected, "{}", text.escape_ascii());
            }
        }
        for byte in 0..=u8::MAX {
            let is_control = byte.is_ascii_control() && byte != b'\t';
            assert_eq!(field_value(&[b'a', byte, b'a']).is_none(), is_control);
        }
    }
}
