//! The `baggage` header to send.

use arrayvec::ArrayVec;
use meshtrace_headers::is_token;

use crate::member::{Member, elements};

/// The most members that are sent: as many as every platform must propagate (W3C Baggage, section
/// 3.3.2).
pub const MAX_MEMBERS: usize = 64;

/// The most bytes of the whole header that are sent: as many as every platform must propagate (W3C
/// Baggage, section 3.3.2).
pub const MAX_BYTES: usize = 8192;

/// A `baggage` header of at most [`MAX_MEMBERS`] members and [`MAX_BYTES`] bytes, on the stack.
#[derive(Debug, Default)]
pub struct Baggage {
    text: ArrayVec<u8, MAX_BYTES>,
    members: usize,
}

impl Baggage {
    /// A header without members.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: ArrayVec::new_const(),
            members: 0,
        }
    }

    /// The header's value.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Adds the members of `lines` unchanged, except the members whose key `is_replaced`. Elements
    /// that are no members (W3C Baggage, section 3.3.1) are left out; returns how many there were.
    /// Returns `None` where the members have too many bytes: then those that had room are kept. The
    /// members that came in are not cut to [`MAX_MEMBERS`]; only added members are.
    pub fn keep<'l>(
        &mut self,
        lines: impl IntoIterator<Item = &'l [u8]>,
        is_replaced: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let mut malformed = 0;
        for text in lines.into_iter().flat_map(elements) {
            match Member::parse(text) {
                Some(member) if is_token(member.key) => {
                    if !is_replaced(member.key) {
                        self.whole(|list| list.try_extend_from_slice(text).ok())?;
                        self.members += 1;
                    }
                }
                _ => malformed += 1,
            }
        }
        Some(malformed)
    }

    /// Adds a member whose value is given in pieces, [encoded](crate::encode). Returns `None` where
    /// there is no room; then nothing is added.
    pub fn add<'v>(&mut self, key: &[u8], value: impl IntoIterator<Item = &'v [u8]>) -> Option<()> {
        if self.members >= MAX_MEMBERS {
            return None;
        }
        self.whole(|text| {
            text.try_extend_from_slice(key).ok()?;
            text.try_push(b'=').ok()?;
            value
                .into_iter()
                .try_for_each(|piece| text.try_extend_from_slice(piece).ok())
        })?;
        self.members += 1;
        Some(())
    }

    /// Writes a whole member, after a comma where one is needed. Where there is no room, writes
    /// nothing.
    fn whole(
        &mut self,
        write: impl FnOnce(&mut ArrayVec<u8, MAX_BYTES>) -> Option<()>,
    ) -> Option<()> {
        let before = self.text.len();
        let comma = match before {
            0 => Some(()),
            _ => self.text.try_push(b',').ok(),
        };
        let written = comma.and_then(|()| write(&mut self.text));
        if written.is_none() {
            self.text.truncate(before);
        }
        written
    }
}
