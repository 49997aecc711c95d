//! What the host gives to each callback.

use core::fmt;

use meshtrace_envoy::traffic_direction;
use meshtrace_headers::{Arena, Headers};
use meshtrace_propagation::{Direction, IdGenerator, Peer};

/// The size of an arena in bytes. It has room for an [`Outcome`](crate::Outcome), for thirty-two
/// attributes of 256 bytes, once raw and once transformed, and for the values of the headers that
/// are written.
pub const ARENA_BYTES: usize = 64 * 1024;

/// Concatenates `parts`; `None` where the arena is full.
pub(crate) fn concat<'a, 'p>(
    arena: &'a Arena,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Option<&'a [u8]> {
    let mut text = bumpalo::collections::Vec::new_in(arena);
    for part in parts {
        text.try_reserve(part.len()).ok()?;
        text.extend_from_slice(part);
    }
    Some(text.into_bump_slice())
}

/// What the host looks up for every request. Each lookup is a call that returns bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// [`Peer::address`].
    pub address: bool,
    /// [`Peer::direction`].
    pub direction: bool,
    /// [`Peer::own`]. The host also keeps [`Outcome::own_context`] as long as the request lives.
    ///
    /// [`Outcome::own_context`]: crate::Outcome::own_context
    pub own_context: bool,
    /// [`Peer::own`], of a request that was redirected. No other request costs a call of the host.
    pub own_context_of_redirected: bool,
    /// [`Request::cluster`].
    pub cluster: bool,
    /// The paths of [`Request::properties`], with NUL between the elements.
    pub request_properties: &'a [Box<[u8]>],
    /// [`Response::headers`].
    pub response_headers: bool,
    /// [`Response::properties`].
    pub response_properties: &'a [Box<[u8]>],
}

/// A request whose headers have come.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The header block.
    pub headers: Headers<'a>,
    /// The client or proxy that sent the request. It has the values that [`Needs`] requests.
    pub peer: Peer<'a>,
    /// The upstream cluster that the request is routed to; looked up where [`Needs::cluster`] is
    /// set.
    pub cluster: Option<&'a [u8]>,
    /// The values of [`Needs::request_properties`], in the same order.
    pub properties: &'a [Option<Box<[u8]>>],
    /// The clocks of the host.
    pub clock: &'a dyn Clock,
    /// Memory for values that are used after the stage has returned.
    pub arena: &'a Arena,
    /// The data that the workers of the proxy share.
    pub shared: &'a dyn SharedData,
}

/// The clocks of the host. Each reading is a call of the host.
pub trait Clock: fmt::Debug {
    /// Nanoseconds on the monotonic clock, which is never set and which all workers share.
    /// Durations are measured on it. `None` when the call fails.
    fn monotonic(&self) -> Option<u64>;

    /// Nanoseconds since the Unix epoch on the wall clock, which may be set at any time. `None`
    /// when the call fails.
    fn wall(&self) -> Option<u64>;
}

/// The shared data of the plugin. Most requests do not use it.
pub trait SharedData: fmt::Debug {
    /// Changes the entry `key`, which all workers see. `change` is called with the content of the
    /// entry, and called again when another worker has changed the entry meanwhile. Returns whether
    /// the change succeeded.
    fn update(&self, key: &[u8], change: &mut Change<'_>) -> bool;
}

/// Returns the new content of an entry, given its content; `None` leaves the entry as it is.
pub type Change<'c> = dyn FnMut(Option<&[u8]>) -> Option<[u8; 8]> + 'c;

/// A host without clocks and without shared data, for a composition that needs neither.
#[derive(Clone, Copy, Debug)]
pub struct NoHost;

impl Clock for NoHost {
    fn monotonic(&self) -> Option<u64> {
        None
    }

    fn wall(&self) -> Option<u64> {
        None
    }
}

impl SharedData for NoHost {
    fn update(&self, _: &[u8], _: &mut Change<'_>) -> bool {
        false
    }
}

/// A response whose headers have come.
#[derive(Clone, Copy)]
pub struct Response<'a> {
    /// The header block; empty unless [`Needs::response_headers`].
    pub headers: Headers<'a>,
    /// The values of [`Needs::response_properties`], in the same order.
    pub properties: &'a [Option<Box<[u8]>>],
    /// Looks up further values.
    pub lookup: &'a dyn Lookup,
    /// Memory for values that are used after the stage has returned.
    pub arena: &'a Arena,
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("headers", &self.headers)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}

/// Lookups that a stage makes itself. Each is a call of the host.
pub trait Lookup: Clock {
    /// The header block of the response's trailers. It can be read only while their callback runs.
    fn response_trailers(&self) -> Option<Box<[u8]>>;

    /// The request's header block, with the content of [`LoggedRequest::request_headers`].
    fn request_headers(&self) -> Option<Box<[u8]>>;

    /// [`Peer::own`] of a request with these headers.
    fn own_context(&self, headers: &Headers<'_>) -> Option<Box<[u8]>> {
        let _ = headers;
        None
    }

    /// The property at `path`, with NUL between the elements.
    fn property(&self, path: &[u8]) -> Option<Box<[u8]>>;

    /// Whether the host has compiled the expression at this index of
    /// [`Composition::expressions`](crate::Composition::expressions).
    fn is_compiled(&self, expression: usize) -> bool;

    /// The value of the expression at this index of
    /// [`Composition::expressions`](crate::Composition::expressions). `None` where it has no value
    /// for this request: a list has no value when an element has none.
    fn evaluate(&self, expression: usize) -> Option<Box<[u8]>>;
}

/// A request that is over.
#[derive(Clone, Copy)]
pub struct LoggedRequest<'a> {
    /// The header block of the request at its end, with the headers that the proxy's tracer has
    /// injected. Where the proxy responded before any filter ran, it is as it came in. Empty
    /// without [`Composition::LOG_NEEDS_HEADERS`](crate::Composition::LOG_NEEDS_HEADERS).
    pub request_headers: Headers<'a>,
    /// Looks up further values.
    pub lookup: &'a dyn Lookup,
    /// Makes the ids of a span that is opened only at the end of the request.
    pub ids: &'a IdGenerator,
    /// Memory for values that are used after the stage has returned.
    pub arena: &'a Arena,
    /// The data that the workers of the proxy share.
    pub shared: &'a dyn SharedData,
}

/// The direction in the property `xds.listener_direction`: eight little-endian bytes.
#[must_use]
pub fn direction_of(property: Option<&[u8]>) -> Direction {
    let bytes = property.and_then(|bytes| bytes.try_into().ok());
    match bytes.map(u64::from_le_bytes) {
        Some(traffic_direction::INBOUND) => Direction::Inbound,
        Some(traffic_direction::OUTBOUND) => Direction::Outbound,
        _ => Direction::Unspecified,
    }
}

impl fmt::Debug for LoggedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedRequest")
            .field("request_headers", &self.request_headers)
            .finish_non_exhaustive()
    }
}
