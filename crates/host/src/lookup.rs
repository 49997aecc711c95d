//! What a composition asks about a request that is over.

use meshtrace_pipeline::{Composition, Lookup};
use proxy_wasm::types::MapType;

use crate::call;
use crate::root::Running;

impl<C: Composition> Lookup for Running<C> {
    fn now(&self) -> u64 {
        call::now().unwrap_or_else(|_| {
            self.metrics.host_error();
            0
        })
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
