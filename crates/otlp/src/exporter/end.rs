//! The end of an exporter: what waits is sent, and memory is freed.

use super::{Dispatch, Exporter};
use crate::batch::{self, Batch};

impl Exporter {
    /// As [`on_tick`](Self::on_tick), where no further spans come: those that wait are sent at once.
    /// A call that fails is made again at a later tick.
    pub fn on_last_tick(&mut self, now: u64, dispatch: Dispatch<'_>) {
        self.expire(now);
        self.send(now, Some(u64::MAX), dispatch);
    }

    /// The process ends, and the host waits for a short time. What failed before this is sent again
    /// now.
    pub fn hurry(&mut self) {
        if !self.hurries {
            self.hurries = true;
            self.failures = 0;
            self.not_before = 0;
        }
    }

    /// Makes no call any more.
    pub fn stop(&mut self) {
        self.not_before = u64::MAX;
    }

    /// Sends everything at once, in one call. Where the process is about to end, the spans are sent
    /// if a connection is open already. Returns whether nothing is in flight.
    pub fn on_done(&mut self, now: u64, dispatch: Dispatch<'_>) -> bool {
        self.finishing = true;
        self.not_before = 0;
        let length = self.waiting.iter().map(|batch| batch.bytes().len()).sum();
        batch::begin(&mut self.body, &self.head, self.report.protocol, length);
        // The call is not made again, so only the number of its spans is needed.
        let mut all = Batch::open(Vec::new(), now);
        for batch in self.waiting.drain(..) {
            self.body.extend_from_slice(batch.bytes());
            all.spans += batch.spans;
        }
        self.bytes = self.bytes.saturating_sub(length);
        self.compress();
        if all.spans > 0 {
            self.dispatch(all, now, dispatch);
        }
        self.flying.is_empty()
    }

    /// Whether [`on_done`](Self::on_done) was called and no call is in flight.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.finishing && self.flying.is_empty()
    }

    /// Frees the memory that the next batches do not need: all but one buffer where nothing waits
    /// or is in flight, and otherwise as many as can be in flight together.
    pub fn trim(&mut self) {
        let is_idle = self.waiting.is_empty() && self.flying.is_empty();
        if is_idle {
            self.body = Vec::new();
        }
        let needed = match is_idle {
            true => 1,
            false => self.report.batch.max_in_flight as usize,
        };
        self.free.truncate(needed);
    }
}
