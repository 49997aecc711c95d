//! When to send what: batches, calls in flight, back-off, and what is lost.

use core::time::Duration;
use std::collections::VecDeque;

use meshtrace_counters::Counter as _;

use crate::answer::Verdict;
use crate::batch::{Batch, MAX_BATCHES};
use crate::config::Report;
use crate::resource::{self, Head, Node};
use crate::{Answer, Counter, Span};

/// While spans wait, the exporter is woken at least this often, as far as the host's ticks go.
const MAX_TICK: Duration = Duration::from_millis(100);
/// The first wait after a failure, and the longest that is not asked for by the collector.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The longest wait that a collector can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A batch that nobody took for so long is dropped, to make room for what is newer.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The host answers every call within its timeout; where it fails to, the call counts as lost.
const GRACE: Duration = Duration::from_secs(10);

/// A call to make.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The Envoy cluster to call.
    pub cluster: &'a str,
    /// The header block, serialised as the host takes it.
    pub headers: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Why the host did not make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It knows no such cluster.
    UnknownCluster,
    /// Another reason, that may pass.
    Other,
}

/// Makes a call and returns the token that its answer will carry.
pub type Dispatch<'d> = &'d mut dyn FnMut(&Call<'_>) -> Result<u32, Refused>;

/// Gathers the spans of one worker and says when to send them.
///
/// Every `now` is in nanoseconds of a clock that is never set: a step of the wall clock moves no
/// deadline.
///
/// Whoever owns it calls [`wake`](Self::wake) when the time of [`tick`](Self::tick) has passed,
/// [`answered`](Self::answered) for every answer, and [`finish`](Self::finish) at the end.
#[derive(Debug)]
pub struct Exporter {
    report: Report,
    head: Head,
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    flying: Vec<Flight>,
    /// Buffers of batches that are gone.
    free: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    /// Spans that are in any batch.
    spans: u32,
    /// Failures since the last success.
    failures: u32,
    /// No call before this time: the back-off of the last failure.
    not_before: u64,
    finishing: bool,
    complaint: Complaint,
    counts: [u64; Counter::ALL.len()],
    /// A span was dropped on its way in: the next tick hands the count over, if nothing else is left
    /// to do.
    has_dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    None,
    Due,
    Made,
}

#[derive(Debug)]
struct Flight {
    token: u32,
    sent: u64,
    batch: Batch,
}

impl Exporter {
    /// An exporter that has sent nothing, for the resource that `node` tells of.
    #[must_use]
    #[inline(never)]
    pub fn new(report: Report, node: Node<'_>) -> Self {
        let head = Head::new(resource::resource(&report.resource, node));
        Self {
            report,
            head,
            open: None,
            sealed: VecDeque::with_capacity(MAX_BATCHES),
            flying: Vec::with_capacity(MAX_BATCHES),
            free: Vec::with_capacity(MAX_BATCHES),
            scratch: Vec::new(),
            spans: 0,
            failures: 0,
            not_before: 0,
            finishing: false,
            complaint: Complaint::None,
            counts: [0; Counter::ALL.len()],
            has_dropped: false,
        }
    }

    /// Takes a finished span, or counts it as dropped when there is no room.
    pub fn push(&mut self, span: &Span<'_>, now: u64) {
        if self.spans >= self.report.batch.max_queue || !self.make_room(span, now) {
            self.count(Counter::DroppedQueueFull, 1);
            self.has_dropped = true;
            return;
        }
        if let Some(open) = &mut self.open {
            open.push(span);
            self.spans += 1;
            if open.spans >= self.report.batch.max_spans {
                self.seal();
            }
        }
    }

    /// Makes sure that the open batch has room for `span`.
    fn make_room(&mut self, span: &Span<'_>, now: u64) -> bool {
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.has_room_for(span))
        {
            self.seal();
        }
        if self.open.is_none() {
            if self.sealed.len() + self.flying.len() >= MAX_BATCHES {
                return false;
            }
            let buffer = self.free.pop().unwrap_or_default();
            let batch = Batch::open(buffer, &self.head, now);
            if !batch.has_room_for(span) {
                self.free.push(batch.into_buffer());
                return false;
            }
            self.open = Some(batch);
        }
        true
    }

    fn seal(&mut self) {
        if let Some(mut batch) = self.open.take() {
            batch.seal(&self.head, self.report.protocol, &mut self.scratch);
            self.sealed.push_back(batch);
        }
    }

    /// How often to be woken; `None` while there is nothing to do.
    #[must_use]
    pub fn tick(&self) -> Option<Duration> {
        let idle = self.open.is_none() && self.sealed.is_empty() && self.flying.is_empty();
        (!idle || self.has_dropped).then(|| self.interval().min(MAX_TICK))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.report.batch.interval_ms.into())
    }

    /// Sends what is due.
    pub fn wake(&mut self, now: u64, dispatch: Dispatch<'_>) {
        self.expire(now);
        let waited = |batch: &Batch| Duration::from_nanos(now.saturating_sub(batch.opened));
        // A tick is never exactly on time: half of one early is on time.
        let due = self.interval().saturating_sub(MAX_TICK / 2);
        if self.open.as_ref().is_some_and(|open| waited(open) >= due) {
            self.seal();
        }
        self.send(now, dispatch);
    }

    fn send(&mut self, now: u64, dispatch: Dispatch<'_>) {
        while now >= self.not_before && self.flying.len() < self.max_in_flight() {
            let Some(batch) = self.sealed.pop_front() else {
                return;
            };
            if !self.dispatch(batch, now, dispatch) {
                return;
            }
        }
    }

    /// After a failure one call shows whether the collector is back.
    fn max_in_flight(&self) -> usize {
        match (self.finishing, self.failures) {
            (true, _) => MAX_BATCHES,
            (false, 0) => self.report.batch.max_in_flight as usize,
            (false, _) => 1,
        }
    }

    /// Returns whether more can be sent.
    fn dispatch(&mut self, batch: Batch, now: u64, dispatch: Dispatch<'_>) -> bool {
        let call = Call {
            cluster: &self.report.cluster,
            headers: &self.report.headers,
            body: batch.body(),
            timeout: self.report.timeout,
        };
        match dispatch(&call) {
            Ok(token) => {
                self.count(Counter::Calls, 1);
                self.flying.push(Flight {
                    token,
                    sent: now,
                    batch,
                });
                true
            }
            Err(Refused::UnknownCluster) => {
                if self.complaint == Complaint::None {
                    self.complaint = Complaint::Due;
                }
                self.drop_batch(batch, Counter::DroppedUnknownCluster);
                true
            }
            Err(Refused::Other) => {
                // Such as one to a cluster without endpoints: a call that failed at once.
                self.count(Counter::Calls, 1);
                self.failed(batch, None, now);
                false
            }
        }
    }

    /// Takes the answer to the call with `token`, and sends the next batch that is full.
    pub fn answered(&mut self, token: u32, answer: &Answer<'_>, dispatch: Dispatch<'_>) {
        let now = answer.now;
        let mut flights = self.flying.iter();
        let Some(place) = flights.position(|flight| flight.token == token) else {
            return;
        };
        let Flight { sent, batch, .. } = self.flying.swap_remove(place);
        match answer.verdict(self.report.protocol) {
            Verdict::Taken {
                rejected,
                malformed,
            } => {
                self.recovered(sent);
                let rejected = rejected.min(batch.spans);
                self.count(Counter::Rejected, rejected);
                self.count(Counter::Exported, batch.spans - rejected);
                self.count(Counter::MalformedAnswers, malformed.into());
                self.forget(batch);
            }
            Verdict::Refused => {
                self.recovered(sent);
                self.drop_batch(batch, Counter::DroppedRefused);
            }
            Verdict::Retry { after } => self.failed(batch, after, now),
        }
        self.send(now, dispatch);
    }

    /// A call that was made at `sent` reached the collector. One that was in flight together with a
    /// call that failed ends no back-off: the collector may take the one and not the other.
    fn recovered(&mut self, sent: u64) {
        if sent >= self.not_before {
            self.failures = 0;
            self.not_before = 0;
        }
    }

    /// Nobody took `batch`: waits, longer each time, and then tries it again. What the collector
    /// asks for (`after`) makes the wait longer and never shorter, or a collector could ask for a
    /// call a millisecond.
    fn failed(&mut self, batch: Batch, after: Option<Duration>, now: u64) {
        self.count(Counter::Retries, 1);
        // A call that was in flight together with one that failed already is the same failure.
        if now >= self.not_before {
            self.failures = self.failures.saturating_add(1);
        }
        let asked_for = after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let wait = asked_for.max(backoff(self.failures, now));
        self.not_before = self.not_before.max(now.saturating_add(nanos(wait)));
        let age = Duration::from_nanos(now.saturating_sub(batch.opened));
        if self.finishing || age > MAX_AGE {
            self.drop_batch(batch, Counter::DroppedExpired);
        } else {
            self.sealed.push_front(batch);
        }
    }

    /// Calls whose answer is overdue.
    fn expire(&mut self, now: u64) {
        let limit = self.report.timeout + GRACE;
        let overdue =
            |flight: &Flight| Duration::from_nanos(now.saturating_sub(flight.sent)) > limit;
        while let Some(place) = self.flying.iter().position(overdue) {
            let batch = self.flying.swap_remove(place).batch;
            self.failed(batch, None, now);
        }
    }

    /// Sends everything at once, in one call: where the process is about to end, what goes out over
    /// a connection that is there goes out. Returns whether nothing is in flight.
    pub fn finish(&mut self, now: u64, dispatch: Dispatch<'_>) -> bool {
        self.finishing = true;
        self.not_before = 0;
        self.seal();
        if let Some(mut last) = self.sealed.pop_front() {
            for batch in self.sealed.drain(..) {
                last.append(&batch);
            }
            last.seal(&self.head, self.report.protocol, &mut self.scratch);
            self.sealed.push_back(last);
        }
        self.send(now, dispatch);
        self.flying.is_empty()
    }

    /// Whether it was told to finish, and has.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finishing && self.flying.is_empty()
    }

    /// One line for the log, once, when Envoy turned out not to know the cluster.
    pub fn complaint(&mut self) -> Option<String> {
        if self.complaint != Complaint::Due {
            return None;
        }
        self.complaint = Complaint::Made;
        Some(format!(
            "mesh_tracing.report.cluster: Envoy knows no cluster {:?}; spans are dropped and \
             counted until it does",
            self.report.cluster
        ))
    }

    fn drop_batch(&mut self, batch: Batch, counter: Counter) {
        self.count(counter, batch.spans);
        self.forget(batch);
    }

    fn forget(&mut self, batch: Batch) {
        self.spans = self.spans.saturating_sub(batch.spans);
        self.free.push(batch.into_buffer());
    }

    fn count(&mut self, counter: Counter, amount: u32) {
        if let Some(count) = self.counts.get_mut(counter.index()) {
            *count += u64::from(amount);
        }
    }

    /// Hands over what was counted since the last time.
    pub fn take_counts(&mut self, mut take: impl FnMut(Counter, u64)) {
        self.has_dropped = false;
        for (counter, count) in Counter::ALL.iter().zip(&mut self.counts) {
            match core::mem::take(count) {
                0 => {}
                amount => take(*counter, amount),
            }
        }
    }
}

/// Doubles with every failure; between half of that and all of it, so that proxies do not come
/// back together.
fn backoff(failures: u32, now: u64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = nanos(doubled.min(MAX_BACKOFF));
    Duration::from_nanos(longest / 2 + now % (longest / 2))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
