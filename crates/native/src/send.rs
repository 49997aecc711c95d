//! Sending what is queued: calls that a filter configuration makes on Envoy's main thread.
//!
//! A filter configuration has no timer, and a call that a worker makes is not legal. So one thread
//! of this module waits until something is queued and then wakes the configuration, about as often
//! as the batches' interval says, until nothing is left. It does nothing else. Every HTTP
//! connection manager has a filter configuration of its own: the newest of them makes all calls. An
//! update ends the oldest, and a call that is in flight then would be made again.

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

/// A filter configuration of Envoy's: what it has as a pointer.
#[derive(Debug)]
pub(crate) struct Sender {
    caller: Caller,
    /// Gone once the configuration ends.
    scheduler: Mutex<Option<Scheduler>>,
    /// Calls that are not answered.
    flights: Mutex<Vec<Flight>>,
    /// Answers that are not told to their exporter.
    answers: Mutex<Vec<Landed>>,
}

/// A call on its way.
#[derive(Debug)]
struct Flight {
    /// Envoy's id: calls and streams are counted apart.
    id: u64,
    is_stream: bool,
    /// What the exporter knows it by.
    token: u32,
    queue: Arc<Queue>,
    /// What has come of a stream's answer.
    answer: Landed,
}

/// An answer, owned.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    id: u64,
    is_stream: bool,
    /// Header blocks.
    headers: Vec<u8>,
    trailers: Vec<u8>,
    body: Vec<u8>,
}

/// The most that is read of an answer's body, in bytes: more than any answer of OTLP's.
const MAX_ANSWER: usize = 64 * 1024;

/// The filter configurations that live, newest last, and the thread that wakes the newest.
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

/// What the thread waits for.
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
    /// A new filter configuration, on the main thread. `None` where Envoy has no scheduler for it.
    pub(crate) fn open(caller: Caller) -> Option<Arc<Self>> {
        let sender = Arc::new(Self {
            scheduler: Mutex::new(Some(caller.scheduler()?)),
            caller,
            flights: Mutex::default(),
            answers: Mutex::default(),
        });
        let mut senders = lock(&SENDERS);
        senders.all.push(Arc::clone(&sender));
        // A process that only checks a configuration makes every configuration, and no thread.
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
        // What a configuration before this one has left.
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
        // Only now: until then the thread may have committed.
        drop(lock(&self.scheduler).take());
        // No call is made from here: Envoy may be about to end.
        let nothing = Landed::default();
        for flight in lock(&self.flights).drain(..) {
            let mut content = flight.queue.lock();
            nothing.tell(&mut content, flight.token, &mut |_| Err(CallError::Other));
            flight.queue.settle(&mut content);
        }
        flush::sender_ended();
        something_is_queued();
    }

    /// Has [`run`](Self::run) called on the main thread soon.
    fn commit(&self) {
        if let Some(scheduler) = &*lock(&self.scheduler) {
            scheduler.commit();
        }
    }

    /// On the main thread, and not within an answer's hook: tells the exporters their answers, and
    /// makes the calls that are due.
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
                // Nothing more comes that it could wait for.
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

    /// Makes a call of an exporter's.
    fn dispatch(&self, queue: &Arc<Queue>, call: &HttpCall<'_>) -> Result<u32, CallError> {
        let headers = Headers::parse(call.headers).ok_or(CallError::Other)?;
        let timeout = u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX);
        // gRPC's status is in the trailers, which only a stream tells.
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

    /// A call is answered, or failed with nothing: what follows is done by [`run`](Self::run), for
    /// during a shutdown a call that is made from here is a segmentation fault.
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

    /// A stream has ended; with `is_whole`, after all of its answer.
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
    /// The answer to a call.
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

    /// Keeps a part of the body, as far as there is room.
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

/// Counts and logs what happened, and says whether there is still something to do.
fn hand_over(queue: &Queue, content: &mut Content) {
    use meshtrace_counters::Counter as _;
    use meshtrace_pipeline::Stage;

    let metrics = &queue.plugin.metrics;
    content.exporter.take_counts(|counter, amount| {
        metrics.add_to(Stage::Report, counter.index(), amount);
    });
    metrics.add_panics();
    if let Some(complaint) = content.exporter.complaint() {
        call::log(LogLevel::Error, &complaint);
    }
    queue.settle(content);
}

/// A queue that was empty is not so any more. From any thread.
pub(crate) fn something_is_queued() {
    lock(&WAKING.state).has_work = true;
    WAKING.changed.notify_all();
}

/// A queue has enough for a call. From any thread: a worker may do no more than commit.
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

/// The thread.
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
