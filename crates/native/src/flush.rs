//! Empties the queues at shutdown. Envoy waits for it, because of the bootstrap extension.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use crate::clock::SystemClock;
use crate::queue;
use crate::send;
use crate::sys::Completion;

/// The longest time that Envoy waits for the last export.
const LIMIT: Duration = Duration::from_secs(3);

/// The callback that ends Envoy's wait.
#[derive(Debug)]
struct Waiting {
    completion: Completion,
    context: *mut c_void,
    /// The end of the wait, by the monotonic clock.
    until: u64,
}

// SAFETY: Envoy's completion is called on the main thread alone.
unsafe impl Send for Waiting {}

static WAITING: Mutex<Option<Waiting>> = Mutex::new(None);
static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Whether everything that is queued must be sent at once.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Acquire)
}

/// Empties the queues, and then calls `completion`. It runs on the main thread.
///
/// # Safety
/// `completion` may be called with `context` once, later and on this thread.
pub(crate) unsafe fn ask(completion: Completion, context: *mut c_void) {
    let limit = u64::try_from(LIMIT.as_nanos()).unwrap_or(u64::MAX);
    let waiting = Waiting {
        completion,
        context,
        until: SystemClock.now().saturating_add(limit),
    };
    *WAITING.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
    IS_ASKED.store(true, Ordering::Release);
    if queue::any_is_busy() && send::wake_newest() {
        // The thread goes on to wake the sender until the last answer has come, or the time is
        // over.
        send::something_is_queued();
    } else {
        let_go();
    }
}

/// Ends Envoy's wait where everything is sent, or where the time is over. It runs on the main
/// thread.
pub(crate) fn check(is_empty: impl FnOnce() -> bool) {
    let until = {
        let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_ref().map(|waiting| waiting.until)
    };
    if until.is_some_and(|until| SystemClock.now() >= until || is_empty()) {
        let_go();
    }
}

/// A filter configuration has ended. It may be the last one. This runs on the main thread.
pub(crate) fn sender_ended() {
    check(|| !send::wake_newest());
}

fn let_go() {
    IS_ASKED.store(false, Ordering::Release);
    let waiting = {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    };
    if let Some(Waiting {
        completion,
        context,
        ..
    }) = waiting
    {
        // SAFETY: as `ask` requires; it was taken from `WAITING`, so it is called once.
        unsafe { completion(context) };
    }
}
