//! Empties the queues at shutdown. Envoy waits for it, because of the bootstrap extension. What is
//! not sent by then is counted as lost.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::call;
use crate::clock::SystemClock;
use crate::plugin::Plugin;
use crate::queue;
use crate::send;
use crate::sys::{Completion, LogLevel};

/// The longest time that Envoy waits for the last export.
const LIMIT: Duration = Duration::from_secs(3);
/// The last part of that time: no calls are made, and those that are in flight are waited for.
const LANDING: Duration = Duration::from_millis(500);

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
/// Whether Envoy's wait is over. It then stops the workers, and makes no calls any more.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);
/// The spans that finished after that.
static LATE: AtomicU64 = AtomicU64::new(0);

fn waiting() -> MutexGuard<'static, Option<Waiting>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether everything that is queued must be sent at once.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Acquire)
}

/// Whether nothing that is queued now will be sent.
pub(crate) fn has_ended() -> bool {
    HAS_ENDED.load(Ordering::Acquire)
}

/// Counts a span that finishes while Envoy stops its workers.
pub(crate) fn lose_late(plugin: &Plugin) {
    LATE.fetch_add(1, Ordering::Relaxed);
    plugin.metrics.add_lost(1);
}

/// Empties the queues, and then calls `completion`. It runs on the main thread.
///
/// # Safety
/// `completion` may be called with `context` once, later and on this thread.
pub(crate) unsafe fn ask(completion: Completion, context: *mut c_void) {
    *waiting() = Some(Waiting {
        completion,
        context,
        until: SystemClock.now().saturating_add(nanos(LIMIT)),
    });
    IS_ASKED.store(true, Ordering::Release);
    if queue::any_is_busy() && send::wake_any() {
        // The thread goes on to wake the sender until the last answer has come, or the time is
        // over.
        send::something_is_queued();
    } else {
        let_go();
    }
}

/// Whether calls may be made still.
pub(crate) fn may_send() -> bool {
    !has_ended() && !is_landing()
}

/// Whether Envoy waits only for the calls that are in flight.
fn is_landing() -> bool {
    let waiting = waiting();
    waiting
        .as_ref()
        .is_some_and(|waiting| SystemClock.now().saturating_add(nanos(LANDING)) >= waiting.until)
}

/// Ends Envoy's wait where everything is sent, or where the time is over. It runs on the main
/// thread.
pub(crate) fn check(is_empty: impl FnOnce() -> bool, is_in_flight: impl FnOnce() -> bool) {
    let until = waiting().as_ref().map(|waiting| waiting.until);
    if until.is_some_and(|until| {
        SystemClock.now() >= until || is_empty() || is_landing() && !is_in_flight()
    }) {
        let_go();
    }
}

/// A configuration that makes calls has ended. It may be the last one. This runs on the main thread.
pub(crate) fn sender_ended() {
    check(|| !send::wake_any(), || true);
}

fn let_go() {
    HAS_ENDED.store(true, Ordering::Release);
    IS_ASKED.store(false, Ordering::Release);
    match queue::lose() {
        0 => {}
        lost => call::log(
            LogLevel::Error,
            &format!("{lost} spans are lost: no collector has taken them, and Envoy ends"),
        ),
    }
    let waiting = waiting().take();
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

/// The process ends: the workers have stopped.
pub(crate) fn report_late() {
    match LATE.swap(0, Ordering::Relaxed) {
        0 => {}
        late => call::log(
            LogLevel::Error,
            &format!("{late} spans are lost: they finished while Envoy stopped its workers"),
        ),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
