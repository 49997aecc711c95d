//! A token bucket that the workers of a proxy share.
//!
//! The bucket is one number: the time at which it would be full again if nothing more were taken
//! (the "virtual scheduling" form of the generic cell rate algorithm, ITU-T I.371). So one
//! compare-and-swap of eight bytes takes a token, and whoever finds it empty writes nothing.

use core::cell::Cell;

const NANOS: f64 = 1e9;
/// The highest rate that can be configured, per second.
pub(crate) const MAX_RATE: f64 = 1e6;
/// The lowest: once a day, about.
pub(crate) const MIN_RATE: f64 = 1e-5;

/// The content of a bucket in shared data: nanoseconds since the Unix epoch, little-endian.
pub type BucketState = [u8; 8];

/// A limit per second. The bucket holds one second's tokens, and at least one.
#[derive(Clone, Debug)]
pub struct Bucket {
    key: Box<[u8]>,
    /// Nanoseconds that one token takes to come.
    interval: u64,
    /// Nanoseconds that an empty bucket takes to fill.
    capacity: u64,
    /// This worker knows that no token can be there before.
    not_before: Cell<u64>,
}

/// What to do with the bucket's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A token is there: it is taken once this is written over what was read.
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

    /// Under which name its content is shared; each bucket of a configuration has its own.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it is known without a look at the shared content that no token is there at `now`
    /// (nanoseconds since the Unix epoch).
    #[must_use]
    pub fn is_known_empty(&self, now: u64) -> bool {
        let wait = self.not_before.get().saturating_sub(now);
        // Longer than a token takes to come: the clock was set back.
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
            // More than the bucket holds: the clock was set back.
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
