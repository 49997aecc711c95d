//! What a composition asks about a request that is over.

use meshtrace_pipeline::{Composition, Lookup};
use proxy_wasm::types::MapType;

use crate::call;
use crate::root::Running;

impl<C: Composition> Lookup for Running<C> {
    /// A host that keeps its other clock to itself has one clock.
    fn now(&self) -> u64 {
        call::monotonic().unwrap_or_else(|_| self.wall())
    }

    fn wall(&self) -> u64 {
        call::now().unwrap_or_else(|_| {
            self.metrics.host_error();
            0
        })
    }

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
