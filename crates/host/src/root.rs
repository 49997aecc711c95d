//! The root context: one plugin configuration on one worker.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use meshtrace_pipeline::{ARENA_BYTES, Arena, Composition};
use meshtrace_propagation::IdGenerator;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::call;
use crate::configuration::{self, Load};
use crate::expressions::Expressions;
use crate::http_calls;
use crate::metrics::Metrics;
use crate::own_context::OwnContext;
use crate::shared::PluginSharedData;
use crate::stream::Stream;

/// What the requests of one plugin configuration share.
///
/// It belongs to its root context: plugins of one image, and the old and the new configuration
/// during an update, live in one VM side by side.
pub(crate) struct Running<C> {
    pub(crate) composition: C,
    pub(crate) ids: IdGenerator,
    pub(crate) metrics: Metrics,
    pub(crate) shared: PluginSharedData,
    /// Lent to one callback at a time.
    pub(crate) arena: Cell<Arena>,
    pub(crate) expressions: Expressions,
    /// Where the composition needs it.
    pub(crate) own_context: Option<OwnContext>,
    /// What the host was last told of how often to wake the root context, in milliseconds.
    pub(crate) tick: Cell<u32>,
    /// Whether its root context runs something else by now.
    pub(crate) is_replaced: Cell<bool>,
}

impl<C> fmt::Debug for Running<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl<C> Running<C> {
    /// Takes the arena back from a callback, empty again.
    pub(crate) fn give_back(&self, mut arena: Arena) {
        arena.reset();
        self.arena.set(arena);
    }
}

struct Root<C: Composition> {
    context: u32,
    /// `None` while the filter is inert.
    running: RefCell<Option<Rc<Running<C>>>>,
    /// Whether it was given a bad configuration.
    is_invalid: bool,
}

/// Makes a root context for the composition `C`: what the SDK's dispatcher is given.
#[must_use]
pub fn new_root<C: Composition>(context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root::<C> {
        context: context_id,
        running: RefCell::new(None),
        is_invalid: false,
    })
}

impl<C: Composition> Root<C> {
    fn running(&self) -> Option<Rc<Running<C>>> {
        // It is changed between two looks at it, and never during one.
        self.running
            .try_borrow()
            .ok()
            .and_then(|running| running.clone())
    }

    /// Runs `composition` from now on, or nothing.
    fn start(&self, composition: Option<C>) {
        if let Some(running) = self.running() {
            running.on_replaced();
        }
        let running = composition.and_then(run).map(Rc::new);
        if let Some(running) = &running {
            http_calls::register(self.context, running);
        }
        if let Ok(mut place) = self.running.try_borrow_mut() {
            *place = running;
        }
    }
}

impl<C: Composition> Context for Root<C> {
    fn on_done(&mut self) -> bool {
        let running = self.running();
        running.is_none_or(|running| running.on_done() && http_calls::is_done(self.context))
    }
}

impl<C: Composition> Drop for Root<C> {
    fn drop(&mut self) {
        http_calls::forget(self.context);
        configuration::unload(self.context);
    }
}

impl<C: Composition> RootContext for Root<C> {
    fn on_configure(&mut self, _size: usize) -> bool {
        let load = configuration::load(self.context, self.running().is_some());
        self.is_invalid = !matches!(load, Load::Good(_));
        match load {
            Load::Good(composition) | Load::LastGood(composition) => self.start(Some(composition)),
            Load::Keep => {}
            Load::Inert => self.start(None),
            Load::Refuse => return false,
        }
        true
    }

    fn on_tick(&mut self) {
        if let Some(running) = self.running() {
            running.on_tick();
            http_calls::end_if_done(self.context);
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        if self.is_invalid
            && let Some(composition) = configuration::successor(self.context)
        {
            self.start(Some(composition));
        }
        Some(Box::new(Stream {
            running: self.running(),
            state: C::RequestState::default(),
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

#[inline(never)]
fn run<C: Composition>(composition: C) -> Option<Running<C>> {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        call::log(
            LogLevel::Error,
            &format!("inert, for the host gives no randomness to make ids from: {error}"),
        );
        return None;
    }
    let expressions = Expressions::compile(&composition.expressions());
    let ids = IdGenerator::from_seed(seed);
    let needs_own_context = composition.needs().own_context;
    Some(Running {
        own_context: needs_own_context
            .then(|| OwnContext::declare(&ids))
            .flatten(),
        ids,
        metrics: Metrics::define(C::STAGES, &composition.counters()),
        shared: PluginSharedData::of_this_plugin(),
        composition,
        arena: Cell::new(arena()),
        expressions,
        tick: Cell::new(0),
        is_replaced: Cell::new(false),
    })
}

/// One chunk, which no request can make grow.
fn arena() -> Arena {
    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    arena
}
