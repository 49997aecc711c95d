//! The lookups that a composition makes itself.

use meshtrace_pipeline::{Clock, Composition, Lookup};
use proxy_wasm::types::MapType;

use crate::call;
use crate::running::Running;

impl<C: Composition> Clock for Running<C> {
    /// The wall clock where the host does not offer its monotonic clock.
    fn monotonic(&self) -> Option<u64> {
        call::monotonic().ok().or_else(|| self.wall())
    }

    fn wall(&self) -> Option<u64> {
        call::now().inspect_err(|_| self.metrics.host_error()).ok()
    }
}

impl<C: Composition> Lookup for Running<C> {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        self.headers(MapType::HttpResponseTrailers)
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        self.headers(MapType::HttpRequestHeaders)
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        Self::property(self, path)
    }

    fn is_compiled(&self, expression: usize) -> bool {
        self.expressions.is_compiled(expression)
    }

    /// A failure is no error of the host: an expression has no value when an attribute in it has
    /// none.
    fn evaluate(&self, expression: usize) -> Option<Box<[u8]>> {
        self.expressions.evaluate(expression).ok()
    }
}
