//! Attributes of a span, encoded as they are added.

use meshtrace_headers::is_plain;

use crate::limits::MAX_ATTRIBUTE_BYTES;
use crate::text::{MAX_TEXT, Utf8Text};
use crate::wire;

/// `opentelemetry.proto.trace.v1.Span.attributes`.
const SPAN_ATTRIBUTES: u32 = 9;
/// `opentelemetry.proto.common.v1.KeyValue`.
const KEY: u32 = 1;
const VALUE: u32 = 2;
/// `opentelemetry.proto.common.v1.AnyValue`.
const STRING: u32 = 1;
const BOOL: u32 = 2;
const INT: u32 = 3;
const ARRAY: u32 = 5;
/// `opentelemetry.proto.common.v1.ArrayValue`.
const VALUES: u32 = 1;

/// Attributes in the encoding that they have in a span.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    encoded: Vec<u8>,
    dropped: u32,
}

impl Attributes {
    /// Makes an empty list, which has no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            encoded: Vec::new(),
            dropped: 0,
        }
    }

    /// Adds text. Bytes that are not UTF-8 become U+FFFD, and the text is cut at 1024 bytes.
    pub fn text(&mut self, key: &str, value: &[u8]) {
        self.text_up_to(key, value, MAX_TEXT);
    }

    /// Adds text, cut at `limit` bytes (at most 1024).
    pub fn text_up_to(&mut self, key: &str, value: &[u8], limit: usize) {
        // ASCII within the limit is the text itself. It is not known where the size of the module
        // counts.
        if value.len() <= limit && is_plain(value) && self.short_text(key, value) {
            return;
        }
        let text = Utf8Text::new(value, limit);
        let text = text.as_bytes();
        if !(cfg!(target_arch = "wasm32") && self.short_text(key, text)) {
            self.value(key, wire::field_len(text.len()), |out| {
                wire::bytes(out, STRING, text);
            });
        }
    }

    /// Adds text that is so short that each length takes one byte, as that of most attributes does.
    /// Returns whether it was added.
    fn short_text(&mut self, key: &str, text: &[u8]) -> bool {
        let Ok(length) = u8::try_from(text.len()) else {
            return false;
        };
        self.short(key, [wire::short_tag::<STRING>(), length], text)
    }

    /// Adds a value of `head` and `rest` that is so short that each length takes one byte. Returns
    /// whether it was added.
    #[cfg_attr(not(target_arch = "wasm32"), inline(always))]
    fn short(&mut self, key: &str, [first, second]: [u8; 2], rest: &[u8]) -> bool {
        let any = 2 + rest.len();
        let key_value = 2 + key.len() + 2 + any;
        let has_room = self.encoded.len() + 2 + key_value <= MAX_ATTRIBUTE_BYTES;
        let (Ok(length @ ..0x80), Ok(key_length), Ok(any), true) = (
            u8::try_from(key_value),
            u8::try_from(key.len()),
            u8::try_from(any),
            has_room,
        ) else {
            return false;
        };
        let out = &mut self.encoded;
        out.reserve(2 + key_value);
        out.extend_from_slice(&[
            wire::short_tag::<SPAN_ATTRIBUTES>(),
            length,
            wire::short_tag::<KEY>(),
            key_length,
        ]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[wire::short_tag::<VALUE>(), any, first, second]);
        out.extend_from_slice(rest);
        true
    }

    /// Adds a list of one text, which is the type of `http.request.header.*`.
    pub fn text_list(&mut self, key: &str, value: &[u8], limit: usize) {
        let text = Utf8Text::new(value, limit);
        let text = text.as_bytes();
        let any = wire::field_len(text.len());
        let list = wire::field_len(any);
        self.value(key, wire::field_len(list), |out| {
            wire::length_head(out, ARRAY, list);
            wire::length_head(out, VALUES, any);
            wire::bytes(out, STRING, text);
        });
    }

    /// Adds a number.
    pub fn int(&mut self, key: &str, value: i64) {
        let value = value.cast_unsigned();
        // A status, a port and most sizes have one byte or two.
        let [low, high, ..] = (value & 0x7f | (value & 0x3f80) << 1).to_le_bytes();
        let is_short = match value {
            // There the size of the module counts.
            _ if cfg!(target_arch = "wasm32") => false,
            0..0x80 => self.short(key, [wire::number_tag::<INT>(), low], &[]),
            0x80..0x4000 => self.short(key, [wire::number_tag::<INT>(), low | 0x80], &[high]),
            _ => false,
        };
        if is_short {
            return;
        }
        self.value(key, 1 + wire::varint_len(value), |out| {
            wire::number(out, INT, value);
        });
    }

    /// Adds a boolean.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.value(key, 2, |out| wire::number(out, BOOL, u64::from(value)));
    }

    fn value(&mut self, key: &str, any: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let key_value = wire::field_len(key.len()) + wire::field_len(any);
        if self.encoded.len() + wire::field_len(key_value) > MAX_ATTRIBUTE_BYTES {
            self.dropped += 1;
            return;
        }
        let out = &mut self.encoded;
        out.reserve(wire::field_len(key_value));
        wire::length_head(out, SPAN_ATTRIBUTES, key_value);
        wire::bytes(out, KEY, key.as_bytes());
        wire::length_head(out, VALUE, any);
        write(out);
    }

    /// Adds the attributes of `other`. The caller knows that there is room.
    pub fn copy(&mut self, other: &Self) {
        self.encoded.extend_from_slice(&other.encoded);
        self.lose(other.dropped);
    }

    /// Removes the attribute with this key.
    pub fn remove(&mut self, key: &str) {
        let mut start = 0;
        while let Some((end, is_it)) = self.at(start, key) {
            if is_it {
                self.encoded.drain(start..end);
            } else {
                start = end;
            }
        }
    }

    /// The end of the attribute that begins at `start`, and whether it has this key.
    fn at(&self, start: usize, key: &str) -> Option<(usize, bool)> {
        let rest = self.encoded.get(start..)?;
        let length = wire::first_field_len(rest);
        let field = rest.get(..length)?.get(1..)?;
        let head = 1 + field.iter().position(|byte| byte & 0x80 == 0)?;
        let content = field.get(head..)?;
        let of_key = content.get(..wire::first_field_len(content))?;
        let is_it = of_key.len() == wire::field_len(key.len()) && of_key.ends_with(key.as_bytes());
        Some((start + length, is_it))
    }

    /// Counts attributes that had no room before they came here.
    pub fn lose(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }

    /// The encoded fields.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The number of attributes that had no room.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Removes all attributes, and keeps the memory.
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.dropped = 0;
    }

    /// The memory that the attributes hold, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.encoded.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_attribute_is_removed_whatever_is_around_it() {
        let long = [b'x'; 300];
        let key = "k".repeat(200);
        let add = |keys: &[&str]| {
            let mut attributes = Attributes::new();
            for name in keys {
                match *name {
                    "number" => attributes.int(name, -1),
                    "long" => attributes.text(name, &long),
                    name => attributes.text(name, b"short"),
                }
            }
            attributes
        };
        let all = ["short", "number", &key, "long", "last"];
        for removed in all {
            let mut attributes = add(&all);
            attributes.remove(removed);
            let left: Vec<_> = all.into_iter().filter(|name| *name != removed).collect();
            assert_eq!(attributes.encoded(), add(&left).encoded(), "{removed}");
        }
        let mut attributes = add(&all);
        attributes.remove("shor");
        assert_eq!(attributes.encoded(), add(&all).encoded());
    }
}
