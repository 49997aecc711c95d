//! What a composition asks about a request that is over.

use meshtrace_pipeline::{Clock, Composition, Lookup};
use proxy_wasm::types::MapType;

use crate::call;
use crate::root::Running;

impl<C: Composition> Clock for Running<C> {
    /// A host that does not offer its monotonic clock has one clock.
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

    /// No error of the host's: an expression has no value where an attribute in it has none.
    fn evaluate(&self, expression: usize) -> Option<Box<[u8]>> {
        self.expressions.evaluate(expression).ok()
    }
}
