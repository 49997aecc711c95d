//! The data of one worker for a tracer configuration.

use core::cell::{Cell, OnceCell, RefCell};
use core::mem::{ManuallyDrop, MaybeUninit};
use std::rc::Rc;
use std::sync::Arc;

use meshtrace_otlp::Attributes;
use meshtrace_pipeline::{ARENA_BYTES, Arena, MeshTracing};
use meshtrace_propagation::IdGenerator;

use crate::call;
use crate::clock::SystemClock;
use crate::plugin::Plugin;
use crate::queue::Queue;
use crate::send;
use crate::span::{Family, Parts, Span};
use crate::sys::LogLevel;

/// The stages of a configuration, compiled for one worker, and the memory that its spans share one
/// after the other.
pub(crate) struct Worker {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) mesh_tracing: MeshTracing,
    pub(crate) ids: IdGenerator,
    pub(crate) queue: Arc<Queue>,
    /// The arena, which is lent to one callback at a time.
    arena: Cell<Arena>,
    /// The attributes, which are lent to one report at a time.
    pub(crate) attributes: RefCell<[Attributes; 4]>,
    /// The current second, and the number of requests that were kept in it although they were not
    /// sampled.
    pub(crate) kept: Cell<(u64, u32)>,
    /// The node's id as Envoy tells it with a request: where the bootstrap is not JSON, the process
    /// itself does not have it.
    node_id: OnceCell<Box<[u8]>>,
    /// The last request that has ended, where Envoy may follow its answer elsewhere.
    last: Cell<Option<Rc<Family>>>,
    families: Pool<Rc<Family>>,
    parts: Pool<Box<Parts>>,
    /// The memory of spans.
    places: Pool<Box<MaybeUninit<Span>>>,
}

/// Objects that are used again.
#[derive(Debug)]
struct Pool<T>(RefCell<Vec<T>>);

/// The most objects of one kind that are kept to be used again.
const MAX_WAITING: usize = 256;

impl<T> Pool<T> {
    const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    fn take(&self) -> Option<T> {
        self.0.try_borrow_mut().ok()?.pop()
    }

    fn give_back(&self, object: T) {
        if let Ok(mut waiting) = self.0.try_borrow_mut()
            && waiting.len() < MAX_WAITING
        {
            waiting.push(object);
        }
    }
}

impl core::fmt::Debug for Worker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    fn new(plugin: &Arc<Plugin>) -> Option<Self> {
        let mut seed = [0; 32];
        if let Err(error) = getrandom::fill(&mut seed) {
            let line = format!("no spans, for there is no randomness to make ids from: {error}");
            call::log(LogLevel::Error, &line);
            return None;
        }
        send::expect_a_sender();
        Some(Self {
            mesh_tracing: plugin.compile()?,
            plugin: Arc::clone(plugin),
            ids: IdGenerator::from_seed(seed),
            queue: Queue::open(plugin),
            arena: Cell::new(arena()),
            attributes: RefCell::default(),
            kept: Cell::default(),
            node_id: OnceCell::new(),
            last: Cell::default(),
            families: Pool::new(),
            parts: Pool::new(),
            places: Pool::new(),
        })
    }

    /// Lends the arena to `body`, and empties it afterwards.
    pub(crate) fn with_arena<R>(&self, body: impl FnOnce(&Arena) -> R) -> R {
        let mut arena = self.arena.take();
        if arena.allocated_bytes() == 0 {
            // A panic lost the arena.
            arena = self::arena();
        }
        let result = body(&arena);
        arena.reset();
        self.arena.set(arena);
        result
    }

    /// A family that no span uses.
    pub(crate) fn take_family(&self) -> Rc<Family> {
        self.families.take().unwrap_or_default()
    }

    /// Puts a family back into the pool, where no span uses it any more.
    pub(crate) fn give_back_family(&self, mut family: Rc<Family>) {
        if let Some(content) = Rc::get_mut(&mut family)
            && content.clear()
        {
            self.families.give_back(family);
        }
    }

    /// A request has ended. Keeps the `family`, where Envoy may follow the answer.
    pub(crate) fn keep_last(&self, family: Option<&Rc<Family>>) {
        let is_sent = |family: &&Rc<Family>| family.told.get().is_some();
        let family = family.filter(is_sent).map(Rc::clone);
        if let Some(family) = &family {
            family.ended_at.set(SystemClock.now());
        }
        if let Some(before) = self.last.replace(family) {
            self.give_back_family(before);
        }
    }

    /// Takes the last request that has ended, where none has begun or ended since.
    pub(crate) fn take_last(&self) -> Option<Rc<Family>> {
        self.last.take()
    }

    /// Moves `span` to where Envoy can have a pointer to it.
    pub(crate) fn place(&self, span: Span) -> Box<Span> {
        Box::write(self.places.take().unwrap_or_else(Box::new_uninit), span)
    }

    /// Takes the span out of its place, which a later span gets.
    pub(crate) fn take_out(span: Box<Span>) -> Span {
        let place = Box::into_raw(span);
        // SAFETY: the place has a span, which is read once: the place counts as empty afterwards.
        let (span, place) = unsafe { (place.read(), Box::from_raw(place.cast())) };
        span.worker.places.give_back(place);
        span
    }

    /// Keeps the node's id, which Envoy tells with each request.
    pub(crate) fn keep_node_id(&self, id: &[u8]) {
        self.node_id.get_or_init(|| id.into());
    }

    /// The node's id for the spans that Envoy does not tell it for; `None` where every span has it
    /// already.
    pub(crate) fn node_id(&self) -> Option<&[u8]> {
        let id = self.node_id.get().filter(|_| self.plugin.lacks_node_id)?;
        (!id.is_empty()).then_some(id)
    }

    pub(crate) fn take_parts(&self) -> Box<Parts> {
        self.parts.take().unwrap_or_default()
    }

    pub(crate) fn give_back_parts(&self, mut parts: Box<Parts>) {
        if parts.clear() {
            self.parts.give_back(parts);
        }
    }
}

/// An arena of one chunk. No request can make it grow.
fn arena() -> Arena {
    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    arena
}

type Workers = Vec<Rc<Worker>>;

std::thread_local! {
    // There is no destructor: a destructor that is registered for a thread of Envoy would keep the
    // library mapped. The memory is freed when the process ends.
    static WORKERS: Cell<*mut Workers> = const { Cell::new(core::ptr::null_mut()) };
}

/// This thread's worker for `plugin`; `None` where it could not be made.
pub(crate) fn of(plugin: &Arc<Plugin>) -> Option<Rc<Worker>> {
    let workers = match WORKERS.get() {
        workers if workers.is_null() => {
            let workers = Box::into_raw(Box::<Workers>::default());
            WORKERS.set(workers);
            workers
        }
        workers => workers,
    };
    // SAFETY: it is this thread's own box, and no hook of Envoy runs within this function.
    let workers = unsafe { &mut *workers };
    if let Some(known) = workers
        .iter()
        .find(|worker| worker.plugin.number == plugin.number)
    {
        return Some(Rc::clone(known));
    }
    workers.retain(|worker| worker.plugin.metrics.is_alive());
    let worker = Rc::new(Worker::new(plugin)?);
    workers.push(Rc::clone(&worker));
    Some(worker)
}

/// Borrows the configuration whose pointer Envoy has.
///
/// # Safety
/// `plugin` came from [`Arc::into_raw`], and its count is not given back yet.
pub(crate) unsafe fn borrowed(plugin: *const Plugin) -> ManuallyDrop<Arc<Plugin>> {
    // SAFETY: as the caller guarantees; the count is not given back here.
    ManuallyDrop::new(unsafe { Arc::from_raw(plugin) })
}
