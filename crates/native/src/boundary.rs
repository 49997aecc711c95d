//! Separates Envoy's calls from this module's code.

use core::sync::atomic::{AtomicU64, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The panics that were caught and are not yet counted in Envoy.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs `body` for Envoy. A panic ends here: it is counted, and Envoy gets `otherwise`.
///
/// After a panic every value is still safe to use: each shared value is behind a lock, or in a cell
/// that is not used while its value is lent.
pub(crate) fn guard<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        // Dropping the payload runs its own code, which may panic again.
        core::mem::forget(payload);
        otherwise
    })
}

/// The number of panics since the last call.
pub(crate) fn take_panics() -> u64 {
    PANICS.swap(0, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_inert_answer_and_is_counted() {
        assert_eq!(guard(7, || -> i32 { panic!("a test's own") }), 7);
        assert_eq!(guard(7, || 8), 8);
        assert_eq!((take_panics(), take_panics()), (1, 0));
    }
}
