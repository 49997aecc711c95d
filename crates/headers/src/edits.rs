//! Header edits as values.

use arrayvec::ArrayVec;
use bumpalo::Bump;
use bumpalo::collections::Vec;

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

/// What happens to one header name.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// All lines of that name go.
    Remove,
    /// One line of that name stands afterwards, with this value.
    Replace(Value<'a>),
    /// One more line of that name stands behind those that there are.
    Append(Value<'a>),
}

/// One edit of the request's headers.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The header's name, lower-case.
    pub name: &'a [u8],
    /// What happens to it.
    pub change: Change<'a>,
}

/// The edits of one request, in the order in which they are to be made.
///
/// Their memory is the request's arena, of which it takes what an edit needs, and no more.
#[derive(Debug)]
pub struct Edits<'a> {
    edits: Vec<'a, Edit<'a>>,
    room: usize,
    overflowed: bool,
}

impl<'a> Edits<'a> {
    /// No edits yet, and room for `room` of them in `arena`.
    #[must_use]
    pub fn new_in(arena: &'a Bump, room: usize) -> Self {
        let mut edits = Vec::new_in(arena);
        let reserved = edits.try_reserve_exact(room).is_ok();
        Self {
            edits,
            room: if reserved { room } else { 0 },
            overflowed: false,
        }
    }

    /// Where the edits are, and a value that must outlive the stage can be built.
    #[must_use]
    pub fn arena(&self) -> &'a Bump {
        self.edits.bump()
    }

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

    /// Adds a line of the header `name`, which is a list.
    pub fn append(&mut self, name: &'a [u8], value: Value<'a>) {
        self.push(Edit {
            name,
            change: Change::Append(value),
        });
    }

    fn push(&mut self, edit: Edit<'a>) {
        if self.edits.len() < self.room {
            self.edits.push(edit);
        } else {
            self.overflowed = true;
        }
    }

    /// Whether more edits were asked for than there is room for; those beyond are lost.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

impl<'a> core::ops::Deref for Edits<'a> {
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
        let arena = Bump::new();
        let mut edits = Edits::new_in(&arena, 2);
        edits.remove(b"b3");
        edits.replace(b"traceparent", Value::Borrowed(b"00"));
        assert!(!edits.overflowed());
        edits.remove(b"x-b3-traceid");
        assert!(edits.overflowed());
        let names = edits.iter().map(|edit| edit.name);
        assert!(names.eq([&b"b3"[..], b"traceparent"]));
    }

    #[test]
    fn an_arena_without_room_takes_no_edits() {
        let arena = Bump::new();
        arena.set_allocation_limit(Some(0));
        let mut edits = Edits::new_in(&arena, 2);
        edits.remove(b"b3");
        assert!(edits.overflowed() && edits.is_empty());
    }

    #[test]
    fn concat_refuses_what_does_not_fit() {
        let text = [b'a'; INLINE_BYTES];
        assert_eq!(Value::concat(&[&text]).unwrap().as_bytes(), text);
        assert!(Value::concat(&[&text, b"b"]).is_none());
    }
}
