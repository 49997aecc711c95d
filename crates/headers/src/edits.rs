//! Header edits as values.

use core::cell::OnceCell;

use arrayvec::ArrayVec;

/// The longest value that is built in a [`Scratch`], in bytes.
pub const SCRATCH_BYTES: usize = 8192;

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
    /// `None` when they exceed the 88 bytes of an inline value: no format of this project does,
    /// so a caller's test finds it.
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

/// Room for the one value of a request that is too long to be built in place: on the stack of
/// whoever applies the edits, and untouched until it is needed.
#[derive(Debug, Default)]
pub struct Scratch(OnceCell<ArrayVec<u8, SCRATCH_BYTES>>);

impl Scratch {
    /// Keeps `text` for as long as the scratch lives, for [`Value::Borrowed`]; `None` when it keeps
    /// another one already.
    pub fn keep(&self, text: ArrayVec<u8, SCRATCH_BYTES>) -> Option<&[u8]> {
        self.0.set(text).ok()?;
        self.0.get().map(ArrayVec::as_slice)
    }
}

/// What happens to one header name.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// All lines of that name go.
    Remove,
    /// One line of that name stands afterwards, with this value.
    Replace(Value<'a>),
}

/// One edit of the request's headers.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The header's name, lower-case.
    pub name: &'a [u8],
    /// What happens to it.
    pub change: Change<'a>,
}

/// The edits of one request, in the order in which they are to be made. Room for `N`, no heap.
#[derive(Clone, Debug, Default)]
pub struct Edits<'a, const N: usize> {
    edits: ArrayVec<Edit<'a>, N>,
    overflowed: bool,
}

impl<'a, const N: usize> Edits<'a, N> {
    /// Removes all lines of the header `name`.
    pub fn remove(&mut self, name: &'a [u8]) {
        self.push(Edit {
            name,
            change: Change::Remove,
        });
    }

    /// Makes `value` the only line of the header `name`.
    pub fn replace(&mut self, name: &'a [u8], value: Value<'a>) {
        self.push(Edit {
            name,
            change: Change::Replace(value),
        });
    }

    fn push(&mut self, edit: Edit<'a>) {
        if self.edits.try_push(edit).is_err() {
            self.overflowed = true;
        }
    }

    /// Whether more than `N` edits were asked for; those beyond `N` are lost.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

impl<'a, const N: usize> core::ops::Deref for Edits<'a, N> {
    type Target = [Edit<'a>];

    fn deref(&self) -> &Self::Target {
        &self.edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn edits_keep_their_order_and_say_when_there_was_no_room() {
        let mut edits = Edits::<2>::default();
        edits.remove(b"b3");
        edits.replace(b"traceparent", Value::Borrowed(b"00"));
        assert!(!edits.overflowed());
        edits.remove(b"x-b3-traceid");
        assert!(edits.overflowed());
        let names: Vec<_> = edits.iter().map(|edit| edit.name).collect();
        assert_eq!(names, [&b"b3"[..], b"traceparent"]);
    }

    #[test]
    fn a_scratch_keeps_one_text() {
        let scratch = Scratch::default();
        let text = |byte| core::iter::repeat_n(byte, SCRATCH_BYTES).collect();
        assert_eq!(scratch.keep(text(b'a')).unwrap(), [b'a'; SCRATCH_BYTES]);
        assert!(scratch.keep(text(b'b')).is_none());
    }

    #[test]
    fn concat_refuses_what_does_not_fit() {
        let text = [b'a'; INLINE_BYTES];
        assert_eq!(Value::concat(&[&text]).unwrap().as_bytes(), text);
        assert!(Value::concat(&[&text, b"b"]).is_none());
    }
}
