//! Buffers for the attributes of open spans, used again.

use core::cell::Cell;

use crate::Attributes;

/// The most buffers that wait to be used again.
const MAX_WAITING: usize = 64;
/// A buffer that grew beyond this, in bytes, is not kept.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// Buffers of finished spans, for the spans to come.
#[derive(Default)]
pub struct Pool(Cell<Vec<Attributes>>);

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty buffer.
    pub fn take(&self) -> Attributes {
        let mut waiting = self.0.take();
        let buffer = waiting.pop().unwrap_or_default();
        self.0.set(waiting);
        buffer
    }

    /// Takes `buffer` back.
    pub fn give_back(&self, mut buffer: Attributes) {
        let mut waiting = self.0.take();
        if waiting.len() < MAX_WAITING && buffer.capacity() <= MAX_KEPT_BYTES {
            buffer.clear();
            waiting.push(buffer);
        }
        self.0.set(waiting);
    }
}
