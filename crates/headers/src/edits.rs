//! Header edits as values.

use arrayvec::ArrayVec;
use bumpalo::collections::Vec;

use crate::{Arena, FieldValue, Headers, Value};

/// The most prefixes of one request: a configured one, the baggage of two formats, and one
/// vendor's.
const MAX_FAMILIES: usize = 4;

/// What happens to one header name.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// All lines of that name are removed.
    Remove,
    /// All lines of that name are replaced by one line with this value.
    Replace(FieldValue<'a>),
    /// One more line with this value is added behind the lines of that name.
    Append(FieldValue<'a>),
}

/// One edit of the request's headers.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The header's name, lower-case.
    pub name: &'a [u8],
    /// What happens to it.
    pub change: Change<'a>,
}

/// A request header that a stage writes or removes, by its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Managed<'n> {
    /// The header's name, lower-case.
    pub name: &'n [u8],
    /// Whether any request is sent on with the header.
    pub leaves: bool,
}

/// The edits of one request: the families first, then at most one edit of each name, in order.
///
/// The edits are in the request's arena, and take only the memory that they need.
#[derive(Debug)]
pub struct Edits<'a> {
    families: ArrayVec<&'a [u8], MAX_FAMILIES>,
    edits: Vec<'a, Edit<'a>>,
    room: usize,
    overflowed: bool,
}

impl<'a> Edits<'a> {
    /// Makes an empty list, with room for `room` edits in `arena`.
    #[must_use]
    pub fn new_in(arena: &'a Arena, room: usize) -> Self {
        let mut edits = Vec::new_in(arena);
        let reserved = edits.try_reserve_exact(room).is_ok();
        Self {
            families: ArrayVec::new(),
            edits,
            room: if reserved { room } else { 0 },
            overflowed: false,
        }
    }

    /// The arena of the edits. A value that must outlive the stage can be built in it.
    #[must_use]
    pub fn arena(&self) -> &'a Arena {
        self.edits.bump()
    }

    /// Removes all headers whose name begins with `prefix`, whatever their number, before the edits
    /// are made: what an edit writes stays.
    pub fn remove_family(&mut self, prefix: &'a [u8]) {
        if !self.families.contains(&prefix) {
            self.overflowed |= self.families.try_push(prefix).is_err();
        }
    }

    /// The prefixes of [`remove_family`](Self::remove_family).
    #[must_use]
    pub fn families(&self) -> &[&'a [u8]] {
        &self.families
    }

    /// Removes all lines of the header `name`.
    pub fn remove(&mut self, name: &'a [u8]) {
        self.push(Edit {
            name,
            change: Change::Remove,
        });
    }

    /// Makes `value` the only line of the header `name`. A value that no header may have
    /// ([`FieldValue`]) removes all lines instead.
    pub fn replace(&mut self, name: &'a [u8], value: Value<'a>) {
        let change = FieldValue::new(value).map_or(Change::Remove, Change::Replace);
        self.push(Edit { name, change });
    }

    /// The change that the edits so far make to the header `name`.
    #[must_use]
    pub fn change_of(&self, name: &[u8]) -> Option<&Change<'a>> {
        let edit = self.edits.iter().find(|edit| edit.name == name)?;
        Some(&edit.change)
    }

    /// The lines of the header `name` after the edits so far. A stage that adds to a header adds to
    /// the lines that the stages before it wrote.
    pub fn lines<'s>(
        &'s self,
        name: &'s [u8],
        headers: Headers<'s>,
    ) -> impl Iterator<Item = &'s [u8]> {
        let change = self.change_of(name);
        let written = match change {
            Some(Change::Replace(value)) => Some(value.as_bytes()),
            Some(Change::Remove | Change::Append(_)) | None => None,
        };
        let arrived = change.is_none().then(|| headers.lines(name));
        written.into_iter().chain(arrived.into_iter().flatten())
    }

    /// Adds a line to the header `name` of a response, which is a list. No other stage writes the
    /// same header. A value that no header may have ([`FieldValue`]) is not added.
    pub fn append(&mut self, name: &'a [u8], value: Value<'a>) {
        if let Some(value) = FieldValue::new(value) {
            let change = Change::Append(value);
            self.push(Edit { name, change });
        }
    }

    fn push(&mut self, edit: Edit<'a>) {
        if let Some(known) = self.edits.iter_mut().find(|known| known.name == edit.name) {
            known.change = edit.change;
        } else if self.edits.len() < self.room {
            self.edits.push(edit);
        } else {
            self.overflowed = true;
        }
    }

    /// The headers that are written by the edits: each name, with its only line.
    pub fn written(&self) -> impl Iterator<Item = (&'a [u8], &[u8])> {
        self.edits.iter().filter_map(|edit| match &edit.change {
            Change::Replace(value) => Some((edit.name, value.as_bytes())),
            Change::Remove | Change::Append(_) => None,
        })
    }

    /// Whether there were more edits than room for them. The edits without room are lost.
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
        let arena = Arena::new();
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
    fn of_the_edits_of_one_header_the_last_says_what_is_written() {
        let arena = Arena::new();
        let mut edits = Edits::new_in(&arena, 5);
        edits.replace(b"tracestate", Value::Borrowed(b"a=1"));
        edits.replace(b"traceparent", Value::Borrowed(b"00"));
        edits.remove(b"tracestate");
        edits.remove(b"b3");
        edits.replace(b"b3", Value::Borrowed(b"0"));
        let written: std::vec::Vec<_> = edits.written().collect();
        assert_eq!(written, [(&b"traceparent"[..], &b"00"[..]), (b"b3", b"0")]);
    }

    #[test]
    fn an_arena_without_room_takes_no_edits() {
        let arena = Arena::new();
        arena.set_allocation_limit(Some(0));
        let mut edits = Edits::new_in(&arena, 2);
        edits.remove(b"b3");
        assert!(edits.overflowed() && edits.is_empty());
    }

    #[test]
    fn the_last_edit_of_a_name_counts_and_a_stage_reads_what_stands() {
        let block = crate::encode(&[("baggage", "a=1"), ("baggage", "b=2"), ("b3", "0")]);
        let headers = Headers::parse(&block).unwrap();
        let arena = Arena::new();
        let mut edits = Edits::new_in(&arena, 2);
        let lines = |edits: &Edits<'_>, name| {
            let lines = edits.lines(name, headers);
            lines.map(<[u8]>::to_vec).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(lines(&edits, b"baggage"), [b"a=1", b"b=2"]);
        edits.replace(b"baggage", Value::Borrowed(b" c=3"));
        edits.replace(b"b3", Value::Borrowed(b"a\r\nb"));
        assert_eq!(lines(&edits, b"baggage"), [b"c=3"]);
        assert_eq!(lines(&edits, b"b3"), [b""; 0]);
        edits.remove(b"baggage");
        assert_eq!(lines(&edits, b"baggage"), [b""; 0]);
        assert_eq!(edits.len(), 2);
        assert!(!edits.overflowed());
    }

    #[test]
    fn a_family_is_listed_once() {
        let arena = Arena::new();
        let mut edits = Edits::new_in(&arena, 0);
        for prefix in [&b"uberctx-"[..], b"ot-baggage-", b"uberctx-"] {
            edits.remove_family(prefix);
        }
        assert_eq!(edits.families(), [&b"uberctx-"[..], b"ot-baggage-"]);
        assert!(!edits.overflowed());
    }
}
