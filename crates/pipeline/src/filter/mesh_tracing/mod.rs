//! `mesh_tracing`: every stage in one pass.
//!
//! With `report` the filter is the tracer. Without it, the filter runs beside a tracer of the
//! proxy. Each mode is a type of its own: [`AsTracer`] and [`BesideTracer`].

mod as_tracer;
mod beside_tracer;
mod hop;
mod refusal;

use core::mem;

use meshtrace_access_log::Arrival;
use meshtrace_attributes::AttributeConfig;
use meshtrace_config::{ConfigError, Draft, both};
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::{Counter, IdGenerator};

pub use self::as_tracer::SpanStart;
use self::as_tracer::{AsTracer, TracedRequest};
use self::beside_tracer::BesideTracer;
use self::refusal::refuse_below_the_top;
use crate::background::Background;
use crate::by_filter_state::write_all;
use crate::{
    ByFilterState, Callback, Composition, LoggedRequest, Lookup, Needs, Outcome, Proxy, Request,
    Response, Stage,
};

/// The paths of two stages in the configuration.
const SAMPLING: &str = "mesh_tracing.sampling";
const ATTRIBUTES: &str = "mesh_tracing.span_attributes";

/// The `mesh_tracing` filter.
#[derive(Debug)]
pub struct MeshTracing {
    mode: Mode,
    by_filter_state: Option<ByFilterState>,
}

/// The tracer that makes the spans.
#[derive(Debug)]
enum Mode {
    /// This filter.
    AsTracer(Box<AsTracer>),
    /// The proxy's own tracer, if any.
    BesideTracer(Box<BesideTracer>),
}

/// The state that a request keeps for its later callbacks.
#[derive(Debug, Default)]
pub struct MeshTracingState(State);

#[derive(Debug, Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "a request costs no heap, and its state is one of the two"
)]
enum State {
    /// No callback of the request has run, or none had any state to keep.
    #[default]
    Unseen,
    /// This filter has opened the request's span.
    Traced(TracedRequest),
    /// Beside a tracer: the contexts that came in, for the ids of the access log.
    Arrived(Arrival),
}

impl State {
    fn traced(&mut self) -> Option<&mut TracedRequest> {
        match self {
            Self::Traced(traced) => Some(traced),
            Self::Unseen | Self::Arrived(_) => None,
        }
    }

    fn take_traced(&mut self) -> Option<TracedRequest> {
        match mem::take(self) {
            Self::Traced(traced) => Some(traced),
            Self::Unseen | Self::Arrived(_) => None,
        }
    }

    fn arrival(&self) -> Option<&Arrival> {
        match self {
            Self::Arrived(arrival) => Some(arrival),
            Self::Unseen | Self::Traced(_) => None,
        }
    }
}

impl MeshTracing {
    #[inline(never)]
    fn new(config: &MeshTracingConfig, proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        let asked = config.request_headers;
        let mode = match &config.report {
            Some(report) => {
                AsTracer::new(config, report, proxy).map(|mode| Mode::AsTracer(Box::new(mode)))
            }
            None => BesideTracer::new(config, proxy.environment)
                .map(|mode| Mode::BesideTracer(Box::new(mode))),
        };
        let mode = both(refuse_below_the_top(config), mode)?;
        let managed = match &mode {
            Mode::AsTracer(mode) => mode.managed_headers(asked)?,
            Mode::BesideTracer(mode) => mode.managed_headers(asked)?,
        };
        let attributes = config.span_attributes.as_ref();
        let attributes: &[AttributeConfig] = attributes.map_or(&[], |config| &config.attributes);
        Ok(Self {
            by_filter_state: ByFilterState::new(asked, &managed, attributes)?,
            mode,
        })
    }
}

impl Composition for MeshTracing {
    const NAME: &'static str = "mesh_tracing";
    const CALLBACKS: &'static [Callback] = &[
        Callback::RequestHeaders,
        Callback::ResponseHeaders,
        Callback::ResponseTrailers,
        Callback::Log,
        Callback::Tick,
        Callback::HttpCallResponse,
        Callback::Done,
    ];
    const STAGES: &'static [Stage] = &[
        Stage::Propagation,
        Stage::Sampling,
        Stage::Attributes,
        Stage::AccessLog,
        Stage::Report,
    ];
    const LOG_NEEDS_HEADERS: bool = false;
    type RequestState = MeshTracingState;

    fn from_json(json: &[u8], proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        Draft::<MeshTracingConfig>::read(json)
            .compile(|config| Self::new(config, proxy))
            .map_err(|error| error.below(Self::NAME))
    }

    fn counters(&self) -> Vec<String> {
        match &self.mode {
            Mode::AsTracer(mode) => mode.counters(),
            Mode::BesideTracer(mode) => mode.counters(),
        }
    }

    fn expressions(&self) -> Vec<String> {
        match &self.mode {
            Mode::AsTracer(mode) => mode.tracer().expressions(),
            Mode::BesideTracer(_) => Vec::new(),
        }
    }

    fn background(&self) -> Option<&dyn Background> {
        match &self.mode {
            Mode::AsTracer(mode) => Some(mode.tracer()),
            Mode::BesideTracer(_) => None,
        }
    }

    fn needs(&self) -> Needs<'_> {
        match &self.mode {
            Mode::AsTracer(mode) => mode.needs(),
            Mode::BesideTracer(mode) => mode.needs(),
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn summary(&self) -> String {
        match &self.mode {
            Mode::AsTracer(mode) => mode.summary(),
            Mode::BesideTracer(mode) => mode.summary(),
        }
    }

    fn cautions(&self) -> Vec<String> {
        match &self.mode {
            Mode::AsTracer(mode) => mode.cautions(),
            Mode::BesideTracer(mode) => mode.cautions(),
        }
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        MeshTracingState(state): &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        *state = match &self.mode {
            Mode::AsTracer(mode) => State::Traced(mode.on_request(request, ids, outcome)),
            Mode::BesideTracer(mode) => mode
                .on_request(request, ids, outcome)
                .map_or(State::Unseen, State::Arrived),
        };
        if !write_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.propagation.count(Counter::EditsDropped);
        }
    }

    #[inline(never)]
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        MeshTracingState(state): &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        match &self.mode {
            Mode::AsTracer(mode) => mode.on_response(response, state.traced(), outcome),
            Mode::BesideTracer(mode) => mode.on_response(response, state.arrival(), outcome),
        }
    }

    fn on_response_trailers(
        &self,
        lookup: &dyn Lookup,
        MeshTracingState(state): &mut MeshTracingState,
    ) {
        if let (Mode::AsTracer(mode), Some(traced)) = (&self.mode, state.traced()) {
            mode.on_response_trailers(lookup, traced);
        }
    }

    #[inline(never)]
    fn on_log<'a>(
        &'a self,
        request: &LoggedRequest<'a>,
        MeshTracingState(state): &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        match &self.mode {
            Mode::AsTracer(mode) => mode.on_log(request, state.take_traced(), outcome),
            Mode::BesideTracer(mode) => mode.on_log(request, state.arrival(), outcome),
        }
    }
}
