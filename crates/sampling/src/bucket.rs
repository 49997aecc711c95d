//! A token bucket that the workers of a proxy share.
//!
//! The bucket is one number: the time at which it would be full again if no more tokens were taken
//! (the "virtual scheduling" form of the generic cell rate algorithm, ITU-T I.371). So one
//! compare-and-swap of eight bytes takes a token. A worker that finds the bucket empty writes
//! nothing.

use core::cell::Cell;

const NANOS: f64 = 1e9;
/// The highest rate that can be configured, per second.
pub(crate) const MAX_RATE: f64 = 1e6;
/// The lowest rate that can be configured: about one request a day.
const MIN_RATE: f64 = 1e-5;

/// The content of a bucket in shared data: nanoseconds since the Unix epoch, little-endian.
pub type BucketState = [u8; 8];

/// A limit per second. The bucket holds one second's tokens, and at least one.
#[derive(Clone, Debug)]
pub struct Bucket {
    key: Box<[u8]>,
    /// The time between two tokens, in nanoseconds.
    interval: u64,
    /// The time in which an empty bucket fills, in nanoseconds.
    capacity: u64,
    /// No token can be there before this time, as far as this worker has seen.
    not_before: Cell<u64>,
}

/// What to do with the bucket's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A token is there. It is taken when this content has replaced the content that was read.
    Write(BucketState),
    /// No token is there, and nothing is to be written.
    Empty,
}

impl Bucket {
    /// `None` unless `rate` is from 0.00001 to 1,000,000 per second.
    pub(crate) fn per_second(rate: f64, key: &str) -> Option<Self> {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from a microsecond to a day and a bit"
        )]
        let interval = (NANOS / rate).ceil() as u64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from one to a million"
        )]
        let tokens = rate.max(1.0) as u64;
        Some(Self {
            key: key.as_bytes().into(),
            interval,
            capacity: interval * tokens,
            not_before: Cell::new(0),
        })
    }

    /// The rate in words, rounded to a whole number.
    pub(crate) fn in_words(&self) -> String {
        const SECOND: u64 = 1_000_000_000;

        match (self.interval, self.interval.max(1)) {
            (SECOND.., _) => format!("1 request in {} s", self.interval.div_ceil(SECOND)),
            (_, interval) => format!("up to {} requests a second", SECOND / interval),
        }
    }

    /// The name under which the bucket's content is shared. Each bucket of a configuration has its
    /// own name.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether no token can be there at `now` (nanoseconds since the Unix epoch), as far as this
    /// worker has seen. The shared content is not read.
    #[must_use]
    pub fn is_known_empty(&self, now: u64) -> bool {
        let wait = self.not_before.get().saturating_sub(now);
        // A wait that is longer than the interval means that the clock was set back.
        (1..=self.interval).contains(&wait)
    }

    /// Takes a token at `now`, given the bucket's content; one that is absent or cannot be read is
    /// a full bucket.
    #[must_use]
    pub fn take(&self, content: Option<&[u8]>, now: u64) -> Take {
        let full_at = content
            .and_then(|content| content.try_into().ok())
            .map_or(now, u64::from_le_bytes)
            .max(now);
        let full_at = match full_at - now {
            missing if missing <= self.capacity => full_at,
            // A time beyond the bucket's capacity means that the clock was set back.
            _ => now,
        };
        let after = full_at.saturating_add(self.interval);
        if after - now > self.capacity {
            self.not_before.set(after.saturating_sub(self.capacity));
            return Take::Empty;
        }
        Take::Write(after.to_le_bytes())
    }
}
