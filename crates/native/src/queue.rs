//! The queues of finished spans. Each worker has one for each configuration. The main thread
//! empties them.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshtrace_otlp::{Counter, Exporter, Span};

use crate::node::node;
use crate::plugin::Plugin;
use crate::send;

/// The finished spans of one worker and one configuration.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) plugin: Arc<Plugin>,
    content: Mutex<Content>,
    /// Whether the main thread has work with this queue.
    is_busy: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) exporter: Exporter,
    /// The number of spans since the main thread was last woken for a full batch.
    since_told: u32,
}

/// Every queue of the process. A queue stays after its configuration has ended, until it is empty.
static QUEUES: Mutex<Vec<Arc<Queue>>> = Mutex::new(Vec::new());

impl Queue {
    /// Creates a queue of this worker for `plugin`.
    pub(crate) fn open(plugin: &Arc<Plugin>) -> Arc<Self> {
        let queue = Arc::new(Self {
            content: Mutex::new(Content {
                exporter: Exporter::new(plugin.report.clone(), &node),
                since_told: 0,
            }),
            plugin: Arc::clone(plugin),
            is_busy: AtomicBool::new(false),
        });
        all().push(Arc::clone(&queue));
        queue
    }

    /// Adds a span that has finished `now`, on its worker, and counts the `origin` of its request. The lock is
    /// contended only while the main thread makes a call of this queue.
    pub(crate) fn push(&self, span: &Span<'_>, now: u64, origin: Option<Counter>) {
        let is_full = {
            let mut content = self.lock();
            content.exporter.push(span, now);
            if let Some(origin) = origin {
                content.exporter.count(origin, 1);
            }
            content.since_told += 1;
            let is_full = content.since_told >= self.plugin.full_batch;
            if is_full {
                content.since_told = 0;
            }
            is_full
        };
        // A queue that is busy already, as it is for nearly every span, is only looked at.
        if !self.is_busy() && !self.is_busy.swap(true, Ordering::AcqRel) {
            send::something_is_queued();
        }
        if is_full {
            send::a_batch_is_full();
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// Records whether there is still work to do, and frees memory that is not needed for it. The
    /// caller holds the lock that `content` comes
    /// from.
    pub(crate) fn settle(&self, content: &mut Content) {
        content.since_told = 0;
        content.exporter.trim();
        self.is_busy
            .store(content.exporter.tick_period().is_some(), Ordering::Release);
    }
}

fn all() -> MutexGuard<'static, Vec<Arc<Queue>>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every queue that exists now.
pub(crate) fn snapshot() -> Vec<Arc<Queue>> {
    all().clone()
}

/// Whether the main thread has work with any queue.
pub(crate) fn any_is_busy() -> bool {
    all().iter().any(|queue| queue.is_busy())
}

/// How long the queues wait for more spans, in milliseconds: the shortest of their intervals.
pub(crate) fn interval_ms() -> u64 {
    let intervals = all();
    let intervals = intervals.iter().map(|queue| queue.plugin.interval_ms);
    intervals.min().unwrap_or(LONGEST_MS).min(LONGEST_MS)
}

const LONGEST_MS: u64 = 100;

/// Removes the queues of configurations that have ended, once they are empty.
pub(crate) fn forget_ended() {
    all().retain(|queue| queue.is_busy() || queue.plugin.metrics.is_alive());
}

/// Forgets every queue, where no configuration is left.
#[cfg(feature = "drive")]
pub(crate) fn clear() {
    all().clear();
}
