//! The root context: one plugin configuration on one worker.

use std::cell::Cell;
use std::rc::Rc;

use meshtrace_pipeline::{ARENA_BYTES, Arena, Composition};
use meshtrace_propagation::IdGenerator;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::call;
use crate::configuration::{self, Load};
use crate::metrics::Metrics;
use crate::shared::SharedByWorkers;
use crate::stream::Stream;

/// What the requests of one plugin configuration share.
///
/// It belongs to its root context: plugins of one image, and the old and the new configuration
/// during an update, live in one VM side by side.
pub(crate) struct Running<C> {
    pub(crate) composition: C,
    pub(crate) ids: IdGenerator,
    pub(crate) metrics: Metrics,
    pub(crate) shared: SharedByWorkers,
    /// Lent to one callback at a time.
    pub(crate) arena: Cell<Arena>,
}

impl<C> Running<C> {
    /// Takes the arena back from a callback, empty again.
    pub(crate) fn give_back(&self, mut arena: Arena) {
        arena.reset();
        self.arena.set(arena);
    }
}

struct Root<C: Composition> {
    /// `None` while the filter is inert.
    running: Option<Rc<Running<C>>>,
}

/// Makes a root context for the composition `C`: what the SDK's dispatcher is given.
#[must_use]
pub fn new_root<C: Composition>(_context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root::<C> { running: None })
}

impl<C: Composition> Context for Root<C> {}

impl<C: Composition> RootContext for Root<C> {
    fn on_configure(&mut self, _size: usize) -> bool {
        match configuration::load() {
            Load::Run(composition) => {
                self.running = run(composition).map(Rc::new);
                true
            }
            Load::Inert => {
                self.running = None;
                true
            }
            Load::Refuse => false,
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            running: self.running.clone(),
            kept: C::Kept::default(),
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn run<C: Composition>(composition: C) -> Option<Running<C>> {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        call::log(
            LogLevel::Error,
            &format!("inert, for the host gives no randomness to make ids from: {error}"),
        );
        return None;
    }
    Some(Running {
        ids: IdGenerator::from_seed(seed),
        metrics: Metrics::define(C::STAGES, &composition.counters()),
        shared: SharedByWorkers::of_this_plugin(),
        composition,
        arena: Cell::new(arena()),
    })
}

/// One chunk, which no request can make grow.
fn arena() -> Arena {
    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    arena
}
