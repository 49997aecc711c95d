//! A plugin configuration that runs, and what its requests share.

use std::cell::Cell;
use std::fmt;

use meshtrace_pipeline::{ARENA_BYTES, Arena, Clock as _, Composition, Warning, WarningLimit};
use meshtrace_propagation::IdGenerator;
use proxy_wasm::types::{LogLevel, MapType};

use crate::call;
use crate::expressions::Expressions;
use crate::metrics::Metrics;
use crate::own_context::OwnContext;
use crate::shared::PluginSharedData;
use crate::warned::Warned;

/// The data that the requests of one plugin configuration share.
///
/// It belongs to its root context: plugins of one image, and the old and the new configuration
/// during an update, live in one VM side by side.
pub(crate) struct Running<C> {
    pub(crate) composition: C,
    pub(crate) ids: IdGenerator,
    pub(crate) metrics: Metrics,
    pub(crate) shared: PluginSharedData,
    /// The arena is lent to one callback at a time.
    pub(crate) arena: Cell<Arena>,
    pub(crate) expressions: Expressions,
    /// Where the composition needs it.
    pub(crate) own_context: Option<OwnContext>,
    /// The tick period that was last set, in milliseconds; 0 for none.
    pub(crate) tick: Cell<u32>,
    pub(crate) warnings: WarningLimit,
    pub(crate) warned: Warned,
    /// Whether its root context runs another configuration by now.
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

impl<C: Composition> Running<C> {
    /// Runs `composition`; `None` where the host gives no randomness.
    #[inline(never)]
    pub(crate) fn new(composition: C, warned: Warned) -> Option<Self> {
        let mut seed = [0; 32];
        if let Err(error) = getrandom::fill(&mut seed) {
            call::log(
                LogLevel::Error,
                &format!("inert: the host gives no randomness, which ids are made of: {error}"),
            );
            return None;
        }
        let expressions = Expressions::compile(&composition.expressions());
        let ids = IdGenerator::from_seed(seed);
        let needs = composition.needs();
        let needs_own_context = needs.own_context || needs.own_context_of_redirected;
        Some(Self {
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
            warnings: WarningLimit::default(),
            warned,
            is_replaced: Cell::new(false),
        })
    }

    /// Logs what a request shows, unless a worker has said it within the last hour.
    #[inline(never)]
    pub(crate) fn warn(&self, warning: Warning) {
        let now = self.monotonic().unwrap_or_default();
        if self.warnings.admits(warning, now) && self.warned.admits(warning, now) {
            call::log(LogLevel::Warn, &warning.line(C::NAME));
        }
    }

    pub(crate) fn headers(&self, map: MapType) -> Option<Box<[u8]>> {
        call::headers(map)
            .inspect_err(|_| self.metrics.host_error())
            .ok()
    }

    pub(crate) fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        call::property(path).unwrap_or_else(|_| {
            self.metrics.host_error();
            None
        })
    }

    pub(crate) fn properties(&self, paths: &[Box<[u8]>]) -> Vec<Option<Box<[u8]>>> {
        paths.iter().map(|path| self.property(path)).collect()
    }
}

/// Makes an arena of one chunk, which no request can enlarge.
fn arena() -> Arena {
    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    arena
}
