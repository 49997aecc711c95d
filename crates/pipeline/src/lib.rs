//! The stages of a filter in their order: what comes in, what should change.
//!
//! A [`Composition`] is what one filter does with a request. It calls no host: it is given what the
//! host knows as a [`Request`], and answers with an [`Outcome`] for the host crate to apply.

#![forbid(unsafe_code)]

mod outcome;
mod trace_context;

use meshtrace_config::ConfigError;
use meshtrace_headers::{Headers, Scratch};
use meshtrace_propagation::{IdGenerator, Peer};

pub use outcome::{MAX_EDITS, Outcome, Property};
pub use trace_context::TraceContext;

/// What one filter does with a request.
pub trait Composition: Sized + 'static {
    /// The filter's name: the root of its configuration paths.
    const NAME: &'static str;

    /// The callbacks that it needs from the host, besides those of every filter's life.
    const CALLBACKS: &'static [Callback];

    /// Compiles a plugin configuration.
    ///
    /// # Errors
    /// When the configuration is not one of this filter, with the path of what is wrong.
    fn from_json(json: &[u8]) -> Result<Self, ConfigError>;

    /// What the host must look up for every request, besides the headers.
    fn needs(&self) -> Needs;

    /// What a person should know about this configuration although it is a good one.
    fn caution(&self) -> Option<&'static str> {
        None
    }

    /// Says what should change about `request`.
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    );
}

/// A callback that a filter can ask the host for. Envoy skips what a module does not export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// The request's headers have come.
    RequestHeaders,
}

impl Callback {
    /// The module export behind it (proxy-wasm ABI 0.2.1).
    #[must_use]
    pub const fn export(self) -> &'static str {
        match self {
            Self::RequestHeaders => "proxy_on_request_headers",
        }
    }
}

/// What the host must look up for every request: each costs a call that returns bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`Peer::address`].
    pub address: bool,
    /// [`Peer::direction`].
    pub direction: bool,
    /// [`Request::cluster`].
    pub cluster: bool,
}

/// A request as the host knows it when its headers have come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The header block.
    pub headers: Headers<'a>,
    /// Who sent it; looked up as far as [`Needs`] says.
    pub peer: Peer<'a>,
    /// The upstream cluster that it is routed to; looked up as far as [`Needs`] says.
    pub cluster: Option<&'a [u8]>,
    /// Where a long value can be built; without it, no baggage is joined.
    pub scratch: Option<&'a Scratch>,
}
