//! The number of spans in a call, which a collector may find too large.

/// Successful calls of the most spans after which larger calls are tried again.
const ENOUGH: u32 = 100;
/// After this number of calls in a row that were too large, smaller calls are useless: it is more
/// than the halvings from the largest number of spans to one.
const MOST_IN_A_ROW: u32 = 16;

/// The most spans of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallSize {
    configured: u32,
    most: u32,
    /// Successful calls with `most` spans since `most` was changed.
    successes: u32,
    /// Calls since the last success that were too large.
    too_large: u32,
}

impl CallSize {
    pub(crate) fn new(max_spans: u32) -> Self {
        Self {
            configured: max_spans,
            most: max_spans,
            successes: 0,
            too_large: 0,
        }
    }

    /// The most spans of the next call.
    pub(crate) fn most(self) -> u32 {
        self.most
    }

    /// A collector accepted a call with this number of `spans`.
    pub(crate) fn accept(&mut self, spans: u32) {
        self.too_large = 0;
        if self.most >= self.configured || spans < self.most {
            return;
        }
        self.successes += 1;
        if self.successes >= ENOUGH {
            self.successes = 0;
            self.most = self.most.saturating_mul(2).min(self.configured);
        }
    }

    /// A collector found a call with this number of `spans` too large. Returns whether they are to
    /// be sent again in smaller calls. A collector that finds every call too large gets whole
    /// batches again, which are lost, until it accepts one.
    pub(crate) fn halve(&mut self, spans: u32) -> bool {
        self.too_large = self.too_large.saturating_add(1);
        self.successes = 0;
        if self.too_large > MOST_IN_A_ROW {
            self.most = self.configured;
            return false;
        }
        self.most = self.most.min(spans / 2).max(1);
        spans > 1
    }
}
