//! When spans are sent: batches, calls in flight, back-off, and the spans that are lost.

use core::time::Duration;
use std::collections::VecDeque;

use meshtrace_counters::Counter as _;

use crate::answer::{CallStatus, ExportResult, HttpCallResponse};
use crate::batch::{self, Batch};
use crate::call_size::CallSize;
use crate::complaint::{Complaint, Complaints, Trouble};
use crate::config::Compression;
use crate::counter::Counter;
use crate::gzip;
use crate::limits::{BATCH_BYTES, MAX_BATCHES};
use crate::report::Report;
use crate::resource::{self, Head, Node};
use crate::span::Span;

mod end;

/// While spans wait, the exporter is woken at least this often, as far as the host's ticks go.
const MAX_TICK: Duration = Duration::from_millis(100);
/// The first wait after a failure, and the longest one that the collector did not require.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The longest wait that a collector can require.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A batch that no collector accepted for this time is dropped, to make room for newer spans.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The most bytes of spans that wait or are in flight.
const MAX_BYTES: usize = MAX_BATCHES * BATCH_BYTES;
/// The host answers every call within its timeout. Where it does not, the call counts as lost after
/// this further time.
const GRACE: Duration = Duration::from_secs(10);

/// A call to make.
#[derive(Clone, Copy, Debug)]
pub struct HttpCall<'a> {
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
pub enum CallError {
    /// The host has no such cluster.
    UnknownCluster,
    /// The call failed for another reason, which may be temporary.
    Other,
}

/// Makes a call, and returns the token by which its answer is identified.
pub type Dispatch<'d> = &'d mut dyn FnMut(&HttpCall<'_>) -> Result<u32, CallError>;

/// Gathers the spans of one worker, and decides when to send them.
///
/// Every `now` is in nanoseconds of a clock that is never set: a step of the wall clock moves no
/// deadline.
///
/// The owner calls [`on_tick`](Self::on_tick) when the time of [`tick_period`](Self::tick_period)
/// has passed, [`on_http_call_response`](Self::on_http_call_response) for every response, and
/// [`on_done`](Self::on_done) at the end.
#[derive(Debug)]
pub struct Exporter {
    report: Report,
    head: Head,
    /// The most bytes of spans in one call.
    room: usize,
    /// The batches that wait, oldest first. The number of spans in a call is decided when the call
    /// is made: while no call can be made, the last batch fills up.
    waiting: VecDeque<Batch>,
    flying: Vec<Flight>,
    /// The buffers of batches that are gone.
    free: Vec<Vec<u8>>,
    /// The body of the call that is made.
    body: Vec<u8>,
    /// Spans that wait or are in flight, and their bytes.
    spans: u32,
    bytes: usize,
    /// Failures since the last success.
    failures: u32,
    /// No call is made before this time: the back-off of the last failure.
    not_before: u64,
    finishing: bool,
    /// Whether the process ends, so that the failures of before are forgotten.
    hurries: bool,
    complaints: Complaints,
    counts: [u64; Counter::ALL.len()],
    /// Whether something was counted outside a callback of the owner. Then there is a next tick,
    /// which reports the count, even where nothing else is left to do.
    has_counted: bool,
    size: CallSize,
}

#[derive(Debug)]
struct Flight {
    token: u32,
    sent: u64,
    batch: Batch,
}

impl Exporter {
    /// Makes an exporter that has sent nothing, for the resource that `node` describes.
    #[must_use]
    #[inline(never)]
    pub fn new(report: Report, node: Node<'_>) -> Self {
        let resource = resource::resource(&report.service_name, &report.resource, node);
        let head = Head::new(&resource);
        Self {
            size: CallSize::new(report.batch.max_spans),
            report,
            room: batch::room_beside(&head),
            head,
            waiting: VecDeque::with_capacity(MAX_BATCHES),
            flying: Vec::with_capacity(MAX_BATCHES),
            free: Vec::with_capacity(MAX_BATCHES),
            body: Vec::new(),
            spans: 0,
            bytes: 0,
            failures: 0,
            not_before: 0,
            finishing: false,
            hurries: false,
            complaints: Complaints::default(),
            counts: [0; Counter::ALL.len()],
            has_counted: false,
        }
    }

    /// The compiled configuration.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes a finished span, or counts it as dropped when there is no room. Returns whether it took
    /// it.
    pub fn push(&mut self, span: &Span<'_>, now: u64) -> bool {
        let length = span.encoded_len();
        let has_room = self.spans < self.report.batch.max_queue
            && self.bytes + self.head.resource.len() + length <= MAX_BYTES;
        if !has_room || !self.append((span, length), now) {
            self.count(Counter::DroppedQueueFull, 1);
            self.has_counted = true;
            return false;
        }
        self.spans += 1;
        self.bytes += length;
        true
    }

    /// Puts the span, whose encoding has this length, behind all the spans that wait.
    fn append(&mut self, span: (&Span<'_>, usize), now: u64) -> bool {
        let room = self.room;
        if let Some(last) = self.waiting.back_mut()
            && last.push(span, room, now)
        {
            return true;
        }
        let mut batch = Batch::open(self.free.pop().unwrap_or_default(), now);
        let has_room = batch.push(span, room, now);
        if has_room {
            self.waiting.push_back(batch);
        } else {
            self.free.push(batch.into_buffer());
        }
        has_room
    }

    /// The period in which [`on_tick`](Self::on_tick) is to be called; `None` while there is
    /// nothing to do.
    #[must_use]
    pub fn tick_period(&self) -> Option<Duration> {
        let idle = self.waiting.is_empty() && self.flying.is_empty();
        (!idle || self.has_counted).then(|| self.interval().min(MAX_TICK))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.report.batch.interval_ms.into())
    }

    /// Sends the spans that are due.
    pub fn on_tick(&mut self, now: u64, dispatch: Dispatch<'_>) {
        self.expire(now);
        self.send(now, Some(now), dispatch);
    }

    /// Makes the calls for which enough spans wait, and the calls for spans that have waited long
    /// enough at the time `by`.
    fn send(&mut self, now: u64, by: Option<u64>, dispatch: Dispatch<'_>) {
        while now >= self.not_before
            && self.flying.len() < self.max_in_flight()
            && (self.is_full() || self.has_waited(by))
        {
            let Some(batch) = self.next_batch() else {
                return;
            };
            let body = batch.bytes();
            batch::begin(&mut self.body, &self.head, self.report.protocol, body.len());
            self.body.extend_from_slice(body);
            self.compress();
            if !self.dispatch(batch, now, dispatch) {
                return;
            }
        }
    }

    /// Whether the spans that wait fill a call.
    fn is_full(&self) -> bool {
        let spans: u32 = self.waiting.iter().map(|batch| batch.spans).sum();
        self.waiting.len() > 1 || spans >= self.size.most()
    }

    /// Whether the oldest spans have waited long enough for others.
    fn has_waited(&self, by: Option<u64>) -> bool {
        // A tick is never exactly on time. A tick that is half a tick early is on time.
        let due = self.interval().saturating_sub(MAX_TICK / 2);
        by.zip(self.waiting.front())
            .is_some_and(|(by, first)| Duration::from_nanos(by.saturating_sub(first.opened)) >= due)
    }

    /// Takes the spans of one call.
    fn next_batch(&mut self) -> Option<Batch> {
        let (most, room) = (self.size.most(), self.room);
        let mut first = self.waiting.pop_front()?;
        if first.spans > most {
            let mut batch = Batch::open(self.free.pop().unwrap_or_default(), first.opened);
            batch.take_from(&mut first, most, room);
            self.waiting.push_front(first);
            return Some(batch);
        }
        while first.spans < most
            && let Some(mut next) = self.waiting.pop_front()
        {
            first.take_from(&mut next, most, room);
            if next.spans > 0 {
                self.waiting.push_front(next);
                break;
            }
            self.free.push(next.into_buffer());
        }
        Some(first)
    }

    /// Compresses the body, where the configuration asks for it.
    fn compress(&mut self) {
        match self.report.compression {
            None => {}
            Some(Compression::Gzip) => gzip::compress(&mut self.body, self.report.protocol),
        }
    }

    /// After a failure, a single call shows whether the collector is back.
    fn max_in_flight(&self) -> usize {
        match self.failures {
            0 => self.report.batch.max_in_flight as usize,
            _ => 1,
        }
    }

    /// Makes a call with the body, which has the spans of `batch`. Returns whether more can be
    /// sent.
    fn dispatch(&mut self, batch: Batch, now: u64, dispatch: Dispatch<'_>) -> bool {
        let call = HttpCall {
            cluster: &self.report.cluster,
            headers: &self.report.headers,
            body: &self.body,
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
            Err(CallError::UnknownCluster) => {
                let spans = batch.spans;
                self.complaints
                    .record(Trouble::UnknownCluster, spans, 0, now);
                self.drop_batch(batch, Counter::DroppedUnknownCluster);
                true
            }
            Err(CallError::Other) => {
                // The call failed at once, as a call to a cluster without endpoints does.
                self.count(Counter::Calls, 1);
                self.failed(batch, CallStatus::NotMade, None, now);
                false
            }
        }
    }

    /// Takes the answer to the call with `token`, and makes the next calls that are full.
    pub fn on_http_call_response(
        &mut self,
        token: u32,
        answer: &HttpCallResponse<'_>,
        dispatch: Dispatch<'_>,
    ) {
        let now = answer.now;
        let mut flights = self.flying.iter();
        let Some(place) = flights.position(|flight| flight.token == token) else {
            return;
        };
        let Flight { sent, batch, .. } = self.flying.swap_remove(place);
        let status = answer.status(self.report.protocol);
        match answer.result(self.report.protocol) {
            ExportResult::Success {
                rejected,
                malformed,
            } => {
                self.recovered(sent);
                self.size.accept(batch.spans);
                let rejected = rejected.min(batch.spans);
                self.count(Counter::Rejected, rejected);
                self.count(Counter::Exported, batch.spans - rejected);
                self.count(Counter::MalformedAnswers, malformed.into());
                self.forget(batch);
            }
            ExportResult::NotRetryable => {
                self.recovered(sent);
                let trouble = Trouble::Refused(status);
                self.complaints.record(trouble, batch.spans, 0, now);
                self.drop_batch(batch, Counter::DroppedRefused);
            }
            ExportResult::TooLarge => {
                self.recovered(sent);
                self.split(batch, status, now);
            }
            ExportResult::Retryable { after } => self.failed(batch, status, after, now),
        }
        self.send(now, None, dispatch);
    }

    /// A call that was made at `sent` reached the collector. A call that was in flight together
    /// with a call that failed ends no back-off: the collector may accept the one and not the
    /// other.
    fn recovered(&mut self, sent: u64) {
        if sent >= self.not_before {
            self.failures = 0;
            self.not_before = 0;
        }
    }

    /// The collector did not accept `batch`. Waits, longer after each failure, and then sends it
    /// again. The delay that the collector requires (`after`) makes the wait longer and never
    /// shorter: otherwise, a collector could require one call per millisecond.
    fn failed(&mut self, mut batch: Batch, status: CallStatus, after: Option<Duration>, now: u64) {
        self.count(Counter::Retries, 1);
        // A call that was in flight together with one that failed already is the same failure.
        if now >= self.not_before {
            self.failures = self.failures.saturating_add(1);
        }
        let asked_for = after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let wait = asked_for.max(backoff(self.failures, now));
        self.not_before = self.not_before.max(now.saturating_add(nanos(wait)));
        let age = Duration::from_nanos(now.saturating_sub(batch.newest));
        let is_lost = self.finishing || age > MAX_AGE;
        let trouble = match is_lost {
            true if self.finishing => Trouble::Ended(status),
            true => Trouble::Expired(status),
            false => Trouble::Repeated(status),
        };
        let failures = self.failures;
        self.complaints.record(trouble, batch.spans, failures, now);
        if is_lost {
            self.drop_batch(batch, Counter::DroppedExpired);
        } else {
            batch.shrink();
            self.waiting.push_front(batch);
        }
    }

    /// Handles calls whose answer is overdue.
    fn expire(&mut self, now: u64) {
        let limit = self.report.timeout + GRACE;
        let overdue =
            |flight: &Flight| Duration::from_nanos(now.saturating_sub(flight.sent)) > limit;
        while let Some(place) = self.flying.iter().position(overdue) {
            let batch = self.flying.swap_remove(place).batch;
            self.failed(batch, CallStatus::NoAnswer, None, now);
        }
    }

    /// A collector found the call with `batch` too large. Its spans are sent again in smaller
    /// calls. A span that is too large alone is dropped.
    fn split(&mut self, mut batch: Batch, status: CallStatus, now: u64) {
        if self.size.halve(batch.spans) && !self.finishing {
            self.count(Counter::Split, 1);
            batch.shrink();
            self.waiting.push_front(batch);
        } else {
            let trouble = Trouble::TooLarge(status);
            self.complaints.record(trouble, batch.spans, 0, now);
            self.drop_batch(batch, Counter::DroppedTooLarge);
        }
    }

    /// Returns the line that is due for the log: about exports that fail, at most one a minute;
    /// about a cluster that Envoy does not have, at most one an hour. `None` where none is due.
    pub fn complaint(&mut self) -> Option<Complaint> {
        self.complaints.take()
    }

    /// The cluster that takes the spans.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.report.cluster
    }

    /// Counts a request that is not reported because its trace is not sampled.
    pub fn count_not_sampled(&mut self) {
        self.count(Counter::NotSampled, 1);
        self.has_counted = true;
    }

    fn drop_batch(&mut self, batch: Batch, counter: Counter) {
        self.count(counter, batch.spans);
        self.forget(batch);
    }

    fn forget(&mut self, batch: Batch) {
        self.spans = self.spans.saturating_sub(batch.spans);
        self.bytes = self.bytes.saturating_sub(batch.bytes().len());
        self.free.push(batch.into_buffer());
    }

    /// Counts something beside a span that was pushed: its tick reports the count.
    pub fn count(&mut self, counter: Counter, amount: u32) {
        if let Some(count) = self.counts.get_mut(counter.index()) {
            *count += u64::from(amount);
        }
    }

    /// Reports the counts since the last time.
    pub fn take_counts(&mut self, mut take: impl FnMut(Counter, u64)) {
        self.has_counted = false;
        for (counter, count) in Counter::ALL.iter().zip(&mut self.counts) {
            match core::mem::take(count) {
                0 => {}
                amount => take(*counter, amount),
            }
        }
    }
}

/// The wait after `failures` failures. It doubles with every failure. The result is between half of
/// it and all of it, so that proxies do not retry at the same time.
fn backoff(failures: u32, now: u64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = nanos(doubled.min(MAX_BACKOFF));
    Duration::from_nanos(longest / 2 + now % (longest / 2))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
