//! Sends the queued spans: a filter configuration makes the calls on Envoy's main thread.
//!
//! A filter configuration has no timer, and a worker is not allowed to make a call. So one thread
//! of this module waits until something is queued. It then wakes the configuration, about as often
//! as the interval of the batches sets, until nothing is left. It does nothing else. Every HTTP
//! connection manager has its own filter configuration, and the newest of them makes all calls. An
//! update ends the oldest one, and a call that is in flight would then be made again.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use meshtrace_headers::Headers;
use meshtrace_otlp::{CallError, HttpCall, HttpCallResponse};

use crate::call::{self, Caller, NotMade, Scheduler};
use crate::clock::SystemClock;
use crate::flush;
use crate::queue::{self, Content, Queue};
use crate::sys::LogLevel;

/// A filter configuration. Envoy has a pointer to it.
#[derive(Debug)]
pub(crate) struct Sender {
    caller: Caller,
    /// The scheduler, until the configuration ends.
    scheduler: Mutex<Option<Scheduler>>,
    /// The calls that are not answered yet.
    flights: Mutex<Vec<Flight>>,
    /// The answers that their exporter has not received yet.
    answers: Mutex<Vec<Landed>>,
}

/// A call without an answer yet.
#[derive(Debug)]
struct Flight {
    /// Envoy's id. Calls and streams have separate numbers.
    id: u64,
    is_stream: bool,
    /// The exporter's number for the call.
    token: u32,
    queue: Arc<Queue>,
    /// The part of a stream's answer that has come.
    answer: Landed,
}

/// An answer to a call, with its own memory.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    id: u64,
    is_stream: bool,
    /// The headers, as a block.
    headers: Vec<u8>,
    trailers: Vec<u8>,
    body: Vec<u8>,
}

/// The most bytes of an answer's body that are read: more than any answer of OTLP has.
const MAX_ANSWER: usize = 64 * 1024;

/// The filter configurations that exist, the newest last, and the thread that wakes the newest.
static SENDERS: Mutex<Senders> = Mutex::new(Senders {
    all: Vec::new(),
    thread: None,
    token: 0,
});

#[derive(Debug)]
struct Senders {
    all: Vec<Arc<Sender>>,
    thread: Option<JoinHandle<()>>,
    token: u32,
}

/// The conditions for which the thread waits.
static WAKING: Waking = Waking {
    state: Mutex::new(State {
        has_work: false,
        is_over: false,
    }),
    changed: Condvar::new(),
};

#[derive(Debug)]
struct Waking {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    has_work: bool,
    is_over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Adds a new filter configuration, on the main thread. `None` where Envoy has no scheduler for
    /// it.
    pub(crate) fn open(caller: Caller) -> Option<Arc<Self>> {
        let sender = Arc::new(Self {
            scheduler: Mutex::new(Some(caller.scheduler()?)),
            caller,
            flights: Mutex::default(),
            answers: Mutex::default(),
        });
        let mut senders = lock(&SENDERS);
        senders.all.push(Arc::clone(&sender));
        // A process that only checks a configuration makes every configuration, but no thread is
        // started.
        if senders.thread.is_none() && !call::is_validation_mode() {
            lock(&WAKING.state).is_over = false;
            let thread = thread::Builder::new().name("meshtrace".to_owned());
            match thread.spawn(wake) {
                Ok(thread) => senders.thread = Some(thread),
                Err(error) => {
                    let line =
                        format!("no spans are exported: no thread could be started: {error}");
                    call::log(LogLevel::Error, &line);
                }
            }
        }
        drop(senders);
        // An earlier configuration may have left spans in the queues.
        something_is_queued();
        Some(sender)
    }

    /// The configuration ends. Calls that it made are cancelled without an answer.
    pub(crate) fn close(self: &Arc<Self>) {
        let thread = {
            let mut senders = lock(&SENDERS);
            senders.all.retain(|sender| !Arc::ptr_eq(sender, self));
            match senders.all.is_empty() {
                true => senders.thread.take(),
                false => None,
            }
        };
        if let Some(thread) = thread {
            lock(&WAKING.state).is_over = true;
            WAKING.changed.notify_all();
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
        // The scheduler is dropped only now, because the thread may have used it until then.
        drop(lock(&self.scheduler).take());
        // No call is made from here, because Envoy may be about to end.
        let nothing = Landed::default();
        for flight in lock(&self.flights).drain(..) {
            let mut content = flight.queue.lock();
            nothing.tell(&mut content, flight.token, &mut |_| Err(CallError::Other));
            flight.queue.settle(&mut content);
        }
        flush::sender_ended();
        something_is_queued();
    }

    /// Makes Envoy run [`run`](Self::run) on the main thread soon.
    fn commit(&self) {
        if let Some(scheduler) = &*lock(&self.scheduler) {
            scheduler.commit();
        }
    }

    /// Gives the exporters their answers, and makes the calls that are due. It runs on the main
    /// thread, and not within the hook of an answer.
    pub(crate) fn run(self: &Arc<Self>) {
        let landed = core::mem::take(&mut *lock(&self.answers));
        for answer in landed {
            let flight = {
                let mut flights = lock(&self.flights);
                let place = flights.iter().position(|flight| {
                    flight.id == answer.id && flight.is_stream == answer.is_stream
                });
                place.map(|place| flights.swap_remove(place))
            };
            if let Some(Flight { token, queue, .. }) = flight {
                let mut content = queue.lock();
                answer.tell(&mut content, token, &mut |call| self.dispatch(&queue, call));
                hand_over(&queue, &mut content);
            }
        }
        if !self.is_newest() {
            return;
        }
        for queue in queue::snapshot() {
            let mut content = queue.lock();
            let dispatch = &mut |call: &HttpCall<'_>| self.dispatch(&queue, call);
            let now = SystemClock.now();
            if flush::is_asked() || !queue.plugin.metrics.is_alive() {
                // No further spans will come, so waiting is useless.
                content.exporter.on_done(now, dispatch);
            } else {
                content.exporter.on_tick(now, dispatch);
            }
            hand_over(&queue, &mut content);
        }
        queue::forget_ended();
        flush::check(|| queue::snapshot().iter().all(|queue| !queue.is_busy()));
    }

    fn is_newest(self: &Arc<Self>) -> bool {
        let senders = lock(&SENDERS);
        senders
            .all
            .last()
            .is_some_and(|newest| Arc::ptr_eq(newest, self))
    }

    /// Makes a call for an exporter.
    fn dispatch(&self, queue: &Arc<Queue>, call: &HttpCall<'_>) -> Result<u32, CallError> {
        let headers = Headers::parse(call.headers).ok_or(CallError::Other)?;
        let timeout = u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX);
        // The status of gRPC is in the trailers, which only a stream delivers.
        let is_stream = headers.contains(b"te");
        let made = match is_stream {
            true => self
                .caller
                .stream(call.cluster, headers, call.body, timeout),
            false => self.caller.call(call.cluster, headers, call.body, timeout),
        };
        let id = made.map_err(|not_made| match not_made {
            NotMade::ClusterNotFound => CallError::UnknownCluster,
            NotMade::Other => CallError::Other,
        })?;
        let token = {
            let mut senders = lock(&SENDERS);
            senders.token = senders.token.wrapping_add(1);
            senders.token
        };
        lock(&self.flights).push(Flight {
            id,
            is_stream,
            token,
            queue: Arc::clone(queue),
            answer: Landed::default(),
        });
        Ok(token)
    }

    /// A call is answered, or has failed without an answer. [`run`](Self::run) does what follows: a
    /// call that is made from here during a shutdown is a segmentation fault.
    pub(crate) fn landed(&self, answer: Landed) {
        lock(&self.answers).push(answer);
        self.commit();
    }

    /// A part of a stream's answer has come.
    pub(crate) fn on_stream(&self, id: u64, take: impl FnOnce(&mut Landed)) {
        let mut flights = lock(&self.flights);
        let flight = flights
            .iter_mut()
            .find(|flight| flight.is_stream && flight.id == id);
        if let Some(flight) = flight {
            take(&mut flight.answer);
        }
    }

    /// A stream has ended. With `is_whole`, its whole answer has come.
    pub(crate) fn stream_landed(&self, id: u64, is_whole: bool) {
        let mut answer = Landed::default();
        self.on_stream(id, |so_far| {
            if is_whole {
                answer = core::mem::take(so_far);
            }
        });
        answer.id = id;
        answer.is_stream = true;
        self.landed(answer);
    }
}

impl Landed {
    /// An empty answer to the call `id`.
    pub(crate) fn of_call(id: u64) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    pub(crate) fn set_headers(&mut self, block: Vec<u8>) {
        self.headers = block;
    }

    pub(crate) fn set_trailers(&mut self, block: Vec<u8>) {
        self.trailers = block;
    }

    /// Adds a part of the body, as far as there is room.
    pub(crate) fn append(&mut self, part: &[u8]) {
        let room = MAX_ANSWER.saturating_sub(self.body.len());
        let part = part.get(..room).unwrap_or(part);
        self.body.extend_from_slice(part);
    }

    fn tell(
        &self,
        content: &mut Content,
        token: u32,
        dispatch: &mut dyn FnMut(&HttpCall<'_>) -> Result<u32, CallError>,
    ) {
        let answer = HttpCallResponse {
            headers: Headers::parse(&self.headers).unwrap_or_default(),
            body: &self.body,
            trailers: Headers::parse(&self.trailers).unwrap_or_default(),
            now: SystemClock.now(),
            wall: SystemClock.since_epoch(),
        };
        content
            .exporter
            .on_http_call_response(token, &answer, dispatch);
    }
}

/// Counts and logs what happened, and records whether there is still work to do.
fn hand_over(queue: &Queue, content: &mut Content) {
    use meshtrace_counters::Counter as _;
    use meshtrace_pipeline::Stage;

    let metrics = &queue.plugin.metrics;
    content.exporter.take_counts(|counter, amount| {
        metrics.add_to(Stage::Report, counter.index(), amount);
    });
    metrics.add_panics();
    if let Some(complaint) = content.exporter.complaint() {
        let line = complaint.line(content.exporter.cluster(), complaint.lost());
        call::log(LogLevel::Error, &line);
    }
    queue.settle(content);
}

/// A queue that was empty has spans now. It may be called on any thread.
pub(crate) fn something_is_queued() {
    lock(&WAKING.state).has_work = true;
    WAKING.changed.notify_all();
}

/// A queue has enough spans for a call. It may be called on any thread: a worker may only commit.
pub(crate) fn a_batch_is_full() {
    static COMPLAINED: AtomicBool = AtomicBool::new(false);

    let newest = lock(&SENDERS).all.last().cloned();
    match newest {
        Some(sender) => sender.commit(),
        None if !COMPLAINED.swap(true, Ordering::Relaxed) => call::log(
            LogLevel::Error,
            "spans are not exported: expected an HTTP filter with `filter_name: \
             mesh_tracing_export` and `disabled: true` in `http_filters`",
        ),
        None => {}
    }
}

/// Wakes the newest filter configuration at once. Returns whether there is one.
pub(crate) fn wake_newest() -> bool {
    let newest = lock(&SENDERS).all.last().cloned();
    newest.is_some_and(|sender| {
        sender.commit();
        true
    })
}

/// The loop of the thread that wakes the newest filter configuration.
fn wake() {
    loop {
        {
            let mut state = lock(&WAKING.state);
            while !state.has_work && !state.is_over {
                state = WAKING
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over {
                return;
            }
            state.has_work = false;
        }
        while queue::any_is_busy() || flush::is_asked() {
            let interval = Duration::from_millis(queue::interval_ms());
            let state = lock(&WAKING.state);
            let waited = WAKING
                .changed
                .wait_timeout_while(state, interval, |state| !state.is_over);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            drop(state);
            wake_newest();
        }
    }
}
