//! Sends the queued spans: a configuration of an extension makes the calls on Envoy's main thread.
//!
//! A filter configuration has no timer, and a worker is not allowed to make a call. So one thread
//! of this module waits until something is queued. It then wakes the configuration, about as often
//! as the interval of the batches sets, until nothing is left. It does nothing else.
//!
//! Every HTTP connection manager has its own filter configuration. The end of one cancels its calls
//! without an answer, and they are made again. An update ends the oldest one, so the newest makes
//! the calls. The configuration of the bootstrap extension stays as long as the process: where it
//! exists it makes all calls, but for those of gRPC, whose status Envoy hands to a filter alone. It
//! makes those where no filter is left.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use meshtrace_headers::Headers;
use meshtrace_otlp::{CallError, HttpCall};

use crate::call::{self, Caller, NotMade, Scheduler};
use crate::clock::SystemClock;
use crate::flush;
use crate::landed::Landed;
use crate::queue::{self, Content, Queue};
use crate::sys::LogLevel;

/// A configuration that makes calls. Envoy has a pointer to it.
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

/// The configurations that exist, and the thread that wakes one.
static SENDERS: Mutex<Senders> = Mutex::new(Senders {
    filters: Vec::new(),
    bootstrap: None,
    thread: None,
    token: 0,
});

#[derive(Debug)]
struct Senders {
    /// The newest is the last.
    filters: Vec<Arc<Sender>>,
    bootstrap: Option<Arc<Sender>>,
    thread: Option<JoinHandle<()>>,
    token: u32,
}

impl Senders {
    /// The configuration that makes calls that are gRPC, or are not.
    fn chosen(&self, is_grpc: bool) -> Option<&Arc<Sender>> {
        let newest = self.filters.last();
        match is_grpc {
            true => newest.or(self.bootstrap.as_ref()),
            false => self.bootstrap.as_ref().or(newest),
        }
    }

    fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.bootstrap.is_none()
    }
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
        let sender = Self::new(caller);
        sender.enter().then_some(sender)
    }

    /// A configuration that makes no calls before it [enters](Self::enter).
    pub(crate) fn new(caller: Caller) -> Arc<Self> {
        Arc::new(Self {
            scheduler: Mutex::default(),
            caller,
            flights: Mutex::default(),
            answers: Mutex::default(),
        })
    }

    /// The configuration makes calls from now on. Returns false where Envoy has no scheduler for it.
    pub(crate) fn enter(self: &Arc<Self>) -> bool {
        let Some(scheduler) = self.caller.scheduler() else {
            return false;
        };
        *lock(&self.scheduler) = Some(scheduler);
        let mut senders = lock(&SENDERS);
        match self.caller.is_of_bootstrap() {
            true => senders.bootstrap = Some(Arc::clone(self)),
            false => senders.filters.push(Arc::clone(self)),
        }
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
        COMPLAINED.store(false, Ordering::Relaxed);
        // An earlier configuration may have left spans in the queues.
        something_is_queued();
        true
    }

    /// The configuration ends. Calls that it made are cancelled without an answer.
    pub(crate) fn close(self: &Arc<Self>) {
        let is_self = |sender: &Arc<Self>| Arc::ptr_eq(sender, self);
        let (thread, is_last) = {
            let mut senders = lock(&SENDERS);
            let was_there = !senders.is_empty();
            senders.filters.retain(|sender| !is_self(sender));
            senders.bootstrap.take_if(|sender| is_self(sender));
            match senders.is_empty() {
                true => (senders.thread.take(), was_there),
                false => (None, false),
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
        if is_last && !flush::has_ended() {
            tell_of_waiting_spans();
        }
        something_is_queued();
    }

    /// Makes Envoy run [`run`](Self::run) on the main thread soon.
    fn commit(&self) {
        if flush::has_ended() {
            return;
        }
        if let Some(scheduler) = &*lock(&self.scheduler) {
            scheduler.commit();
        }
    }

    /// Gives the exporters their answers, and makes the calls that are due. It runs on the main
    /// thread, and not within the hook of an answer.
    pub(crate) fn run(self: &Arc<Self>) {
        if flush::has_ended() {
            return;
        }
        let landed = core::mem::take(&mut *lock(&self.answers));
        for mut answer in landed {
            let flight = {
                let mut flights = lock(&self.flights);
                let place = flights.iter().position(|flight| {
                    flight.id == answer.id && flight.is_stream == answer.is_stream
                });
                place.map(|place| flights.swap_remove(place))
            };
            if let Some(Flight {
                token,
                queue,
                is_stream,
                ..
            }) = flight
            {
                let mut content = queue.lock();
                if !is_stream && queue.plugin.is_grpc {
                    answer.assume_status();
                }
                if !flush::may_send() {
                    content.exporter.stop();
                }
                answer.tell(&mut content, token, &mut |call| self.dispatch(&queue, call));
                hand_over(&queue, &mut content);
            }
        }
        let is_chosen = [false, true].map(|is_grpc| self.is_chosen(is_grpc));
        if is_chosen == [false; 2] {
            return;
        }
        for queue in queue::snapshot() {
            let [http, grpc] = is_chosen;
            let is_own = match queue.plugin.is_grpc {
                true => grpc,
                false => http,
            };
            if !is_own || !flush::may_send() {
                continue;
            }
            let mut content = queue.lock();
            let dispatch = &mut |call: &HttpCall<'_>| self.dispatch(&queue, call);
            let now = SystemClock.now();
            let is_end = flush::is_asked();
            if is_end {
                content.exporter.hurry();
            }
            if is_end || !queue.plugin.metrics.is_alive() {
                content.exporter.on_last_tick(now, dispatch);
            } else {
                content.exporter.on_tick(now, dispatch);
            }
            hand_over(&queue, &mut content);
        }
        queue::forget_ended();
        flush::check(|| !queue::any_is_busy(), any_is_in_flight);
    }

    fn is_chosen(self: &Arc<Self>, is_grpc: bool) -> bool {
        let senders = lock(&SENDERS);
        let chosen = senders.chosen(is_grpc);
        chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, self))
    }

    /// Makes a call for an exporter.
    fn dispatch(&self, queue: &Arc<Queue>, call: &HttpCall<'_>) -> Result<u32, CallError> {
        let headers = Headers::parse(call.headers).ok_or(CallError::Other)?;
        let timeout = u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX);
        // The status of gRPC is in the trailers, which only a filter's stream delivers.
        let is_stream = queue.plugin.is_grpc && !self.caller.is_of_bootstrap();
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

/// Counts and logs what happened, and records whether there is still work to do.
fn hand_over(queue: &Queue, content: &mut Content) {
    queue.count(content);
    queue.plugin.metrics.add_panics();
    if let Some(line) =
        meshtrace_pipeline::export_error(&mut content.exporter, &queue.plugin.shared)
    {
        call::log(LogLevel::Error, &line);
    }
    queue.settle(content);
}

/// Whether a call of any configuration has no answer yet.
fn any_is_in_flight() -> bool {
    let senders = lock(&SENDERS);
    let mut all = senders.filters.iter().chain(&senders.bootstrap);
    all.any(|sender| !lock(&sender.flights).is_empty())
}

/// A queue that was empty has spans now. It may be called on any thread.
pub(crate) fn something_is_queued() {
    lock(&WAKING.state).has_work = true;
    WAKING.changed.notify_all();
}

/// Whether the log says that nothing makes the calls of the export.
static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// Spans are about to come. Writes a line where nothing makes the calls of the export.
pub(crate) fn expect_a_sender() {
    if lock(&SENDERS).is_empty() && !COMPLAINED.swap(true, Ordering::Relaxed) {
        call::log(
            LogLevel::Error,
            "spans are not exported: expected an HTTP filter with `filter_name: \
             mesh_tracing_export` and `disabled: true` in `http_filters` of a listener, or the \
             bootstrap extension `mesh_tracing_flush`",
        );
    }
}

/// The last configuration has ended that makes calls.
fn tell_of_waiting_spans() {
    match queue::open() {
        0 => {}
        waiting => call::log(
            LogLevel::Error,
            &format!(
                "{waiting} spans wait: the last listener with `mesh_tracing_export` has ended; they \
                 are sent by the next one, and lost where Envoy ends before"
            ),
        ),
    }
}

/// A queue has enough spans for a call. It may be called on any thread: a worker may only commit.
pub(crate) fn a_batch_is_full(is_grpc: bool) {
    wake_chosen(is_grpc);
}

/// Wakes the configuration that makes such calls at once. Returns whether there is one.
fn wake_chosen(is_grpc: bool) -> bool {
    let chosen = lock(&SENDERS).chosen(is_grpc).cloned();
    chosen.is_some_and(|sender| {
        sender.commit();
        true
    })
}

/// Wakes the configurations that make calls at once. Returns whether there is one.
pub(crate) fn wake_any() -> bool {
    let [http, grpc] = [false, true].map(wake_chosen);
    http || grpc
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
        while !flush::has_ended() && (queue::any_is_busy() || flush::is_asked()) {
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
            for is_grpc in [false, true] {
                if flush::is_asked() || queue::any_of_protocol_is_busy(is_grpc) {
                    wake_chosen(is_grpc);
                }
            }
        }
    }
}
