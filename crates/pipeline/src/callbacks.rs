//! What the host knows, callback by callback.

use core::fmt;

use meshtrace_envoy::traffic_direction;
use meshtrace_headers::{Arena, Headers};
use meshtrace_propagation::{Direction, IdGenerator, Peer};

/// The arena's first and only chunk, in bytes: room for an [`Outcome`](crate::Outcome), for
/// thirty-two attributes of 256 bytes, once raw and once transformed, and for what a header is made
/// of.
pub const ARENA_BYTES: usize = 64 * 1024;

/// Concatenates `parts`; `None` where memory is short.
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

/// What the host must look up for every request: each costs a call that returns bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// [`Peer::address`].
    pub address: bool,
    /// [`Peer::direction`].
    pub direction: bool,
    /// [`Peer::own`], and that the host keeps [`Outcome::own_context`] as long as the request lives.
    ///
    /// [`Outcome::own_context`]: crate::Outcome::own_context
    pub own_context: bool,
    /// [`Request::cluster`].
    pub cluster: bool,
    /// [`Request::properties`]: paths whose elements are separated by NUL.
    pub request_properties: &'a [Box<[u8]>],
    /// [`Response::headers`].
    pub response_headers: bool,
    /// [`Response::properties`].
    pub response_properties: &'a [Box<[u8]>],
}

/// A request as the host knows it when its headers have come.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The header block.
    pub headers: Headers<'a>,
    /// Who sent it; looked up as far as [`Needs`] says.
    pub peer: Peer<'a>,
    /// The upstream cluster that it is routed to; looked up as far as [`Needs`] says.
    pub cluster: Option<&'a [u8]>,
    /// What [`Needs::request_properties`] asks for, in that order.
    pub properties: &'a [Option<Box<[u8]>>],
    /// The time.
    pub clock: &'a dyn Clock,
    /// Where to build what must outlive the stage.
    pub arena: &'a Arena,
    /// What the workers of the proxy share.
    pub shared: &'a dyn SharedData,
}

/// The clocks of the host. Each reading is a call of the host.
pub trait Clock: fmt::Debug {
    /// Nanoseconds of the monotonic clock, which is never set and which all workers share. Durations
    /// are measured by it. `None` when the host does not tell the time.
    fn monotonic(&self) -> Option<u64>;

    /// Nanoseconds since the Unix epoch, by the clock that a person may set at any time. `None` when
    /// the host does not tell the time.
    fn wall(&self) -> Option<u64>;
}

/// What a stage asks of the host while it decides: most requests ask for nothing of it.
pub trait SharedData: fmt::Debug {
    /// Changes the entry `key` of the plugin, which all workers see: `change` is given what is
    /// there, and once more for every time that another worker was faster. Returns
    /// whether that has come to pass.
    fn update(&self, key: &[u8], change: &mut Change<'_>) -> bool;
}

/// What an entry that the workers share becomes, given what it is; `None` leaves it as it is.
pub type Change<'c> = dyn FnMut(Option<&[u8]>) -> Option<[u8; 8]> + 'c;

/// No clock and no store: for compositions that need neither, and natively.
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

/// A response as the host knows it when its headers have come.
#[derive(Clone, Copy)]
pub struct Response<'a> {
    /// The header block; empty unless [`Needs::response_headers`].
    pub headers: Headers<'a>,
    /// What [`Needs::response_properties`] asks for, in that order.
    pub properties: &'a [Option<Box<[u8]>>],
    /// Where to ask for more.
    pub lookup: &'a dyn Lookup,
    /// Where to build what must outlive the stage.
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

/// What the host can be asked once a response has begun: each answer of bytes costs a call.
pub trait Lookup: Clock {
    /// The block of the response's trailers, while they come.
    fn response_trailers(&self) -> Option<Box<[u8]>>;

    /// The request's header block, as [`LoggedRequest::request_headers`].
    fn request_headers(&self) -> Option<Box<[u8]>>;

    /// The property at `path`, whose elements are separated by NUL.
    fn property(&self, path: &[u8]) -> Option<Box<[u8]>>;

    /// Whether the host has taken the expression at that place in
    /// [`Composition::expressions`](crate::Composition::expressions).
    fn is_compiled(&self, expression: usize) -> bool;

    /// The value of the expression at that place in
    /// [`Composition::expressions`](crate::Composition::expressions); `None` where it has none for
    /// this request: a list has no value where an element has none.
    fn evaluate(&self, expression: usize) -> Option<Box<[u8]>>;
}

/// A request that is over.
#[derive(Clone, Copy)]
pub struct LoggedRequest<'a> {
    /// The request's header block as it stands then, with what the proxy's tracer has injected.
    /// Where the proxy made an answer before any filter ran, it is as it came in. Empty without
    /// [`Composition::LOG_NEEDS_HEADERS`](crate::Composition::LOG_NEEDS_HEADERS).
    pub request_headers: Headers<'a>,
    /// Where to ask for more.
    pub lookup: &'a dyn Lookup,
    /// Makes ids for what begins only now.
    pub ids: &'a IdGenerator,
    /// Where to build what must outlive the stage.
    pub arena: &'a Arena,
    /// What the workers of the proxy share.
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
