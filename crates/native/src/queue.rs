//! The queues of finished spans: one for each worker and configuration, emptied on the main thread.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshtrace_otlp::{Exporter, Span};

use crate::clock::SystemClock;
use crate::node::node;
use crate::plugin::Plugin;
use crate::send;

/// Spans of one worker and configuration.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) plugin: Arc<Plugin>,
    content: Mutex<Content>,
    /// Whether there is something to do for it.
    is_busy: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) exporter: Exporter,
    /// Spans since the main thread was last told that there is a full batch.
    since_told: u32,
}

/// Every queue of the process. A configuration's queues outlive it until they are empty.
static QUEUES: Mutex<Vec<Arc<Queue>>> = Mutex::new(Vec::new());

impl Queue {
    /// A queue of this worker's for `plugin`.
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

    /// Takes a finished span, on its worker: the lock is contended only while the main thread makes
    /// a call of this queue's.
    pub(crate) fn push(&self, span: &Span<'_>) {
        let is_full = {
            let mut content = self.lock();
            content.exporter.push(span, SystemClock.now());
            content.since_told += 1;
            let is_full = content.since_told >= self.plugin.full_batch;
            if is_full {
                content.since_told = 0;
            }
            is_full
        };
        if !self.is_busy.swap(true, Ordering::AcqRel) {
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

    /// Says whether there is still something to do, with the lock held that `content` comes from.
    pub(crate) fn settle(&self, content: &mut Content) {
        content.since_told = 0;
        self.is_busy
            .store(content.exporter.tick_period().is_some(), Ordering::Release);
    }
}

fn all() -> MutexGuard<'static, Vec<Arc<Queue>>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every queue as of now.
pub(crate) fn snapshot() -> Vec<Arc<Queue>> {
    all().clone()
}

/// Whether there is something to do for any queue.
pub(crate) fn any_is_busy() -> bool {
    all().iter().any(|queue| queue.is_busy())
}

/// How long the queues wait for more spans, in milliseconds: as the most impatient has it.
pub(crate) fn interval_ms() -> u64 {
    let intervals = all();
    let intervals = intervals.iter().map(|queue| queue.plugin.interval_ms);
    intervals.min().unwrap_or(LONGEST_MS).min(LONGEST_MS)
}

const LONGEST_MS: u64 = 100;

/// Forgets the queues of configurations that have ended, once they are empty.
pub(crate) fn forget_ended() {
    all().retain(|queue| queue.is_busy() || queue.plugin.metrics.is_alive());
}
