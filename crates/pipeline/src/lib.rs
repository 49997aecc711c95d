//! The filters: what each of them changes about a request.
//!
//! A [`Composition`] is one filter: it puts stages in order. It calls no host. The host crate gives
//! it a [`Request`], a [`Response`] and a [`LoggedRequest`], and applies the [`Outcome`] that it
//! returns. Data of one callback that a later one needs is kept in [`Composition::RequestState`].

#![forbid(unsafe_code)]

mod background;
mod by_filter_state;
mod callbacks;
mod filter;
mod outcome;
mod properties;
mod stage;
mod warning;

use core::fmt;

use meshtrace_config::ConfigError;
use meshtrace_propagation::IdGenerator;

pub use background::{Background, export_error};
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
pub use meshtrace_counters::{CONFIG_INVALID, config_invalid_of};
pub use meshtrace_headers::Arena;
pub use meshtrace_otlp::{CallError, Dispatch, HttpCall, HttpCallResponse, Node};
pub use outcome::{
    Configured, MAX_EDITS, MAX_PROPERTIES, Outcome, Properties, Property, Stage, Tallies,
};

pub use warning::{Warning, WarningLimit};

/// One filter.
pub trait Composition: Sized + 'static {
    /// The filter's name: the root of its configuration paths.
    const NAME: &'static str;

    /// The callbacks that it needs, besides those that create, configure and delete a context.
    const CALLBACKS: &'static [Callback];

    /// Its stages that have counters.
    const STAGES: &'static [Stage];

    /// Whether the host looks up [`LoggedRequest::request_headers`] for every request.
    const LOG_NEEDS_HEADERS: bool = true;

    /// What one callback of a request keeps for the later ones. It is owned, and its size is
    /// bounded.
    type RequestState: Default + 'static;

    /// Compiles a plugin configuration for `proxy`.
    ///
    /// # Errors
    /// When the configuration is not valid for this filter. The error has the path of the key.
    fn from_json(json: &[u8], proxy: &Proxy<'_>) -> Result<Self, ConfigError>;

    /// The names of the counters that the configuration adds to those of [`STAGES`](Self::STAGES).
    fn counters(&self) -> Vec<String> {
        Vec::new()
    }

    /// The expressions (CEL) that [`Lookup::evaluate`] evaluates, each by its index. The host
    /// compiles them once.
    fn expressions(&self) -> Vec<String> {
        Vec::new()
    }

    /// The work of the filter besides requests; `None` where it has none.
    fn background(&self) -> Option<&dyn Background> {
        None
    }

    /// What the host looks up for every request, besides the headers.
    fn needs(&self) -> Needs<'_>;

    /// The request headers that the filter writes as filter state; `None` where it edits them.
    fn by_filter_state(&self) -> Option<&ByFilterState>;

    /// What the filter does with this configuration, in words. They follow "the filter".
    fn summary(&self) -> String;

    /// The warnings to log about this configuration, which is valid. Each begins with the path of
    /// what it is about.
    fn cautions(&self) -> Vec<String> {
        Vec::new()
    }

    /// The headers of the request have come. Adds to `outcome` what is to change.
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    );

    /// What the request shows of the place where the filter stands: it is a warning where that is not
    /// the place that its configuration is for. Called after [`on_request`](Self::on_request). Few
    /// requests are looked at.
    fn misplaced(&self, lookup: &dyn Lookup) -> Option<Warning> {
        let _ = lookup;
        None
    }

    /// The headers of the response have come. Adds to `outcome` what is to change. Called only with
    /// [`Callback::ResponseHeaders`].
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        let _ = (response, state, outcome);
    }

    /// The trailers of the response have come. Called only with [`Callback::ResponseTrailers`].
    fn on_response_trailers(&self, lookup: &dyn Lookup, state: &mut Self::RequestState) {
        let _ = (lookup, state);
    }

    /// The request is over and about to be logged. Adds to `outcome` the filter state to set.
    /// Called only with [`Callback::Log`], for every request, also for one that had no other
    /// callback.
    fn on_log<'a>(
        &'a self,
        request: &LoggedRequest<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        let _ = (request, state, outcome);
    }
}

/// The data about the proxy that a filter runs in.
#[derive(Clone, Copy)]
pub struct Proxy<'p> {
    /// The node, as the bootstrap of the proxy describes it.
    pub node: Node<'p>,
    /// The variables of the VM's environment.
    pub environment: Environment<'p>,
}

impl Proxy<'static> {
    /// A proxy without any known data.
    pub const UNKNOWN: Self = Self {
        node: &|_| None,
        environment: &|_| None,
    };
}

impl<'p> Proxy<'p> {
    /// A proxy of which only the variables of its VM's environment are known.
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

/// A callback of the host. Envoy does not make a callback that the module does not export.
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
    /// The tick period of the root context has passed.
    Tick,
    /// The response to an HTTP call of the root context has come.
    HttpCallResponse,
    /// A context is about to end.
    Done,
}

impl Callback {
    /// The name of the module's export (proxy-wasm ABI 0.2.1).
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
