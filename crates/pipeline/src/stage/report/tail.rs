//! Tail keeping: requests that are reported although their trace is not sampled.

use core::cell::Cell;
use core::time::Duration;

use meshtrace_otlp::{Counter, Keep, Tally, conventions};

use super::OpenSpan;
use super::end_values::is_in_trouble;
use crate::Lookup;

/// The state of `report.keep`.
#[derive(Debug)]
pub(super) struct Tail {
    keep: Keep,
    /// The current second, and how many requests were kept in it.
    kept: Cell<(u64, u32)>,
}

impl Tail {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            kept: Cell::default(),
        }
    }

    /// Whether any request may be kept.
    pub(super) fn keeps_any(&self) -> bool {
        self.keep.any()
    }

    /// Whether slow requests are kept, so that the time of a request's end decides about it.
    pub(super) fn keeps_slow(&self) -> bool {
        self.keep.slower_than.is_some()
    }

    /// Whether a request that is not sampled may have to be kept. This check is cheap, and it is
    /// false for most requests.
    pub(super) fn is_suspicious(&self, open: &OpenSpan, now: u64, lookup: &dyn Lookup) -> bool {
        if self.is_slow(open, now) {
            return true;
        }
        self.keep.errors && (open.is_grpc || is_in_trouble(lookup))
    }

    fn is_slow(&self, open: &OpenSpan, now: u64) -> bool {
        let duration = Duration::from_nanos(open.start.until(now));
        !open.is_long_lived && self.keep.slower_than.is_some_and(|limit| duration > limit)
    }

    /// Returns why the request is kept, and counts it. Returns `None` where it is not kept.
    pub(super) fn reason(
        &self,
        open: &OpenSpan,
        end: &conventions::End<'_>,
        now: u64,
        tally: &mut Tally,
    ) -> Option<&'static [u8]> {
        let reason: &[u8] = if self.keep.errors && end.is_server_error() {
            b"error"
        } else if self.is_slow(open, now) && !end.client_went_away() {
            b"slow"
        } else {
            return None;
        };
        let second = now / 1_000_000_000;
        let kept = match self.kept.get() {
            (of, kept) if of == second => kept,
            _ => 0,
        };
        if kept >= self.keep.per_second {
            tally.count(Counter::KeepLimited);
            return None;
        }
        self.kept.set((second, kept + 1));
        tally.count(Counter::Kept);
        Some(reason)
    }
}
