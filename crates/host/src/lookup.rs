//! The lookups that a composition makes itself.

use meshtrace_envoy::request_header::ORIGINAL_URL;
use meshtrace_headers::Headers;
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

    /// Envoy writes the URL of a request that it redirects into a header. A client may send that
    /// header too, but cannot set the property.
    fn own_context(&self, headers: &Headers<'_>) -> Option<Box<[u8]>> {
        let own = self.own_context.as_ref()?;
        let is_wanted = self.composition.needs().own_context || headers.contains(ORIGINAL_URL);
        is_wanted.then(|| Self::property(self, own.key())).flatten()
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
