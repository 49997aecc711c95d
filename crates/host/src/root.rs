//! The root context: what Envoy makes for one plugin configuration on one worker.

use std::cell::RefCell;
use std::rc::Rc;

use meshtrace_pipeline::Composition;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::configuration::{self, Load, Plugin};
use crate::http_calls;
use crate::metrics::ConfigGauges;
use crate::running::Running;
use crate::stream::Stream;

struct Root<C: Composition> {
    context: u32,
    /// `None` while the filter is inert.
    running: RefCell<Option<Rc<Running<C>>>>,
    /// Whether it was given a bad configuration.
    is_invalid: bool,
    /// The plugin and its gauges, once it has a configuration.
    plugin: Option<(Plugin, ConfigGauges)>,
}

/// Makes a root context for the composition `C`: what the SDK's dispatcher is given.
#[must_use]
pub fn new_root<C: Composition>(context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root::<C> {
        context: context_id,
        running: RefCell::new(None),
        is_invalid: false,
        plugin: None,
    })
}

impl<C: Composition> Root<C> {
    fn running(&self) -> Option<Rc<Running<C>>> {
        // The value is replaced only while it is not borrowed.
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
        let running = composition.and_then(|composition| {
            Running::new(composition, configuration::warned(self.context)).map(Rc::new)
        });
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
        if let Some((plugin, gauges)) = &self.plugin {
            configuration::unload::<C>(plugin, *gauges, self.context);
        }
    }
}

impl<C: Composition> RootContext for Root<C> {
    fn on_configure(&mut self, _size: usize) -> bool {
        let plugin = Plugin::identify();
        let gauges = plugin.gauges();
        let load = configuration::load(&plugin, gauges, self.context, self.running().is_some());
        self.plugin = Some((plugin, gauges));
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
        let running = self.running();
        if running.is_some() {
            configuration::serves(self.context);
        }
        Some(Box::new(Stream {
            running,
            state: C::RequestState::default(),
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
