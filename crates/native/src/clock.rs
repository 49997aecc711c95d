//! The clocks.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use meshtrace_pipeline::Clock;

/// The clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl SystemClock {
    /// Nanoseconds of the monotonic clock, from when it was first read.
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no host that tells the time"
    )]
    pub(crate) fn now(self) -> u64 {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();

        let passed = BEGINNING.get_or_init(Instant::now).elapsed();
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since the Unix epoch.
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no host that tells the time"
    )]
    pub(crate) fn since_epoch(self) -> u64 {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH);
        let passed = passed.unwrap_or_default().as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Option<u64> {
        Some(self.now())
    }

    fn wall(&self) -> Option<u64> {
        Some(self.since_epoch())
    }
}
