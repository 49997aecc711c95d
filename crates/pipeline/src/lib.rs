//! The stages of a filter in their order: what comes in, what should change.
//!
//! A [`Composition`] is what one filter does with a request. It calls no host: it is given what the
//! host knows, as a [`Request`], a [`Response`] and a [`LoggedRequest`], and answers with an [`Outcome`] for
//! the host crate to apply. What a later callback needs of an earlier one is [`Composition::RequestState`].

#![forbid(unsafe_code)]

mod background;
mod by_filter_state;
mod callbacks;
mod filter;
mod outcome;
mod properties;
mod stage;

use core::fmt;

use meshtrace_config::ConfigError;
use meshtrace_propagation::IdGenerator;

pub use background::Background;
pub use by_filter_state::ByFilterState;
pub use callbacks::{
    ARENA_BYTES, Change, Clock, LoggedRequest, Lookup, Needs, NoHost, Request, Response,
    SharedData, direction_of,
};
pub use filter::{
    AccessLogTrace, MeshTracing, MeshTracingState, RouteSampling, SpanAttributes, SpanStart,
    TraceContext,
};
pub use meshtrace_config::Environment;
pub use meshtrace_headers::Arena;
pub use meshtrace_otlp::{CallError, Dispatch, HttpCall, HttpCallResponse, Node};
pub use outcome::{
    Configured, MAX_EDITS, MAX_PROPERTIES, Outcome, Properties, Property, Stage, Tallies,
};

/// What one filter does with a request.
pub trait Composition: Sized + 'static {
    /// The filter's name: the root of its configuration paths.
    const NAME: &'static str;

    /// The callbacks that it needs from the host, besides those of every filter's life.
    const CALLBACKS: &'static [Callback];

    /// Its stages, as far as they count.
    const STAGES: &'static [Stage];

    /// Whether [`LoggedRequest::request_headers`] is to be fetched for every request that ends.
    const LOG_NEEDS_HEADERS: bool = true;

    /// What one request leaves for its later callbacks: owned and bounded.
    type RequestState: Default + 'static;

    /// Compiles a plugin configuration for `proxy`.
    ///
    /// # Errors
    /// When the configuration is not one of this filter, with the path of what is wrong.
    fn from_json(json: &[u8], proxy: &Proxy<'_>) -> Result<Self, ConfigError>;

    /// The counters that the configuration names, besides those of [`STAGES`](Self::STAGES).
    fn counters(&self) -> Vec<String> {
        Vec::new()
    }

    /// The expressions (CEL) that [`Lookup::evaluate`] is asked for, by their places; compiled once.
    fn expressions(&self) -> Vec<String> {
        Vec::new()
    }

    /// What it does besides requests; `None` where that is nothing.
    fn background(&self) -> Option<&dyn Background> {
        None
    }

    /// What the host must look up for every request, besides the headers.
    fn needs(&self) -> Needs<'_>;

    /// The request headers that leave by filter state; `None` where the filter edits them.
    fn by_filter_state(&self) -> Option<&ByFilterState>;

    /// What a person should know about this configuration although it is a good one.
    fn caution(&self) -> Option<&'static str> {
        None
    }

    /// Says what should change about `request`.
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    );

    /// Says what should change about `response`; not called without
    /// [`Callback::ResponseHeaders`].
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        let _ = (response, state, outcome);
    }

    /// The trailers of the response have come; not called without [`Callback::ResponseTrailers`].
    fn on_response_trailers(&self, lookup: &dyn Lookup, state: &mut Self::RequestState) {
        let _ = (lookup, state);
    }

    /// Says what should be logged; not called without [`Callback::Log`]. Runs for every request,
    /// also for those that no other callback saw.
    fn on_log<'a>(
        &'a self,
        end: &LoggedRequest<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        let _ = (end, state, outcome);
    }
}

/// What a filter is told of the proxy that it runs in.
#[derive(Clone, Copy)]
pub struct Proxy<'p> {
    /// The node, as the bootstrap of the proxy describes it.
    pub node: Node<'p>,
    /// The variables of the VM's environment.
    pub environment: Environment<'p>,
}

impl Proxy<'static> {
    /// A proxy of which nothing is known.
    pub const UNKNOWN: Self = Self {
        node: &|_| None,
        environment: &|_| None,
    };
}

impl<'p> Proxy<'p> {
    /// A proxy of which the variables of its VM's environment are known.
    #[must_use]
    pub const fn with_environment(environment: Environment<'p>) -> Self {
        Self {
            node: &|_| None,
            environment,
        }
    }
}

impl fmt::Debug for Proxy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// A callback that a filter can ask the host for. Envoy skips what a module does not export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// The request's headers have come.
    RequestHeaders,
    /// The response's headers have come.
    ResponseHeaders,
    /// The response's trailers have come.
    ResponseTrailers,
    /// The request is over and about to be logged.
    Log,
    /// A root context's time has come.
    Tick,
    /// A call that a root context made is answered.
    HttpCallResponse,
    /// A context is about to end.
    Done,
}

impl Callback {
    /// The module export behind it (proxy-wasm ABI 0.2.1).
    #[must_use]
    pub const fn export(self) -> &'static str {
        match self {
            Self::RequestHeaders => "proxy_on_request_headers",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::ResponseTrailers => "proxy_on_response_trailers",
            Self::Log => "proxy_on_log",
            Self::Tick => "proxy_on_tick",
            Self::HttpCallResponse => "proxy_on_http_call_response",
            Self::Done => "proxy_on_done",
        }
    }
}
