//! A value to be logged, built on the stack.

use arrayvec::ArrayVec;

/// The longest value, in bytes: a Google Cloud resource name with the longest project.
const MAX_BYTES: usize = 128;

/// A value to be logged: ASCII, at most 128 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdText(ArrayVec<u8, MAX_BYTES>);

impl IdText {
    /// `parts`, one after the other; `None` when they exceed 128 bytes.
    pub(crate) fn concat(parts: &[&[u8]]) -> Option<Self> {
        let mut text = ArrayVec::new();
        for part in parts {
            text.try_extend_from_slice(part).ok()?;
        }
        Some(Self(text))
    }
}

impl core::ops::Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
