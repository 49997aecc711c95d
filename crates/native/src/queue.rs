//! The queues of finished spans. Each worker has one for each configuration. The main thread
//! empties them.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshtrace_counters::Counter as _;
use meshtrace_otlp::{Counter, Exporter, Span};
use meshtrace_pipeline::Stage;

use crate::flush;
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
    /// The spans that wait or are in flight.
    open: u64,
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
                open: 0,
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
            if flush::has_ended() {
                return flush::lose_late(&self.plugin);
            }
            content.open += 1;
            if let Some(origin) = origin {
                content.exporter.count(origin, 1);
            }
            if !content.exporter.push(span, now) {
                // Perhaps nothing makes a call that would have it counted.
                self.count(&mut content);
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
            send::expect_a_sender();
        }
        if is_full {
            send::a_batch_is_full(self.plugin.is_grpc);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// Counts what became of spans. The caller holds the lock that `content` comes from.
    pub(crate) fn count(&self, content: &mut Content) {
        let Content { exporter, open, .. } = content;
        exporter.take_counts(|counter, amount| {
            self.plugin
                .metrics
                .add_to(Stage::Report, counter.index(), amount);
            if ENDS.contains(&counter) {
                *open = open.saturating_sub(amount);
            }
        });
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

/// The counters of spans that are gone from the queue.
const ENDS: [Counter; 7] = [
    Counter::Exported,
    Counter::Rejected,
    Counter::DroppedQueueFull,
    Counter::DroppedRefused,
    Counter::DroppedTooLarge,
    Counter::DroppedExpired,
    Counter::DroppedUnknownCluster,
];

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

/// Whether the main thread has work with any queue whose calls are gRPC, or are not.
pub(crate) fn any_of_protocol_is_busy(is_grpc: bool) -> bool {
    let queues = all();
    let mut queues = queues.iter();
    queues.any(|queue| queue.plugin.is_grpc == is_grpc && queue.is_busy())
}

/// The number of spans that wait or are in flight.
pub(crate) fn open() -> u64 {
    let queues = snapshot();
    queues.iter().map(|queue| queue.lock().open).sum()
}

/// Counts the spans that wait or are in flight as lost. Returns their number.
pub(crate) fn lose() -> u64 {
    let lose = |queue: &Arc<Queue>| {
        let lost = core::mem::take(&mut queue.lock().open);
        if lost > 0 {
            queue.plugin.metrics.add_lost(lost);
        }
        lost
    };
    snapshot().iter().map(lose).sum()
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
