//! The host of one run: its clocks do not move, and its shared data is empty.

use meshtrace_pipeline::{Change, Clock, Lookup, SharedData};

use crate::SentRequest;

/// 2026-01-01T00:00:00Z, in nanoseconds since the Unix epoch.
const WALL: u64 = 1_767_225_600_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// A host for the first request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstRequest;

impl Clock for FirstRequest {
    fn monotonic(&self) -> Option<u64> {
        Some(SECOND)
    }

    fn wall(&self) -> Option<u64> {
        Some(WALL)
    }
}

impl SharedData for FirstRequest {
    fn update(&self, _: &[u8], change: &mut Change<'_>) -> bool {
        // Every entry is empty, and no later request reads what is written here.
        change(None);
        true
    }
}

/// The values of the host at the end of a request that no upstream answered.
#[derive(Debug)]
pub(crate) struct AtEnd<'a> {
    /// The header block as it leaves the filter.
    pub(crate) block: &'a [u8],
    /// The request as it came.
    pub(crate) sent: &'a SentRequest,
}

impl Clock for AtEnd<'_> {
    fn monotonic(&self) -> Option<u64> {
        FirstRequest.monotonic()
    }

    fn wall(&self) -> Option<u64> {
        FirstRequest.wall()
    }
}

impl Lookup for AtEnd<'_> {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        Some(self.block.into())
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        self.sent.property(path)
    }

    fn is_compiled(&self, _: usize) -> bool {
        false
    }

    fn evaluate(&self, _: usize) -> Option<Box<[u8]>> {
        None
    }
}
