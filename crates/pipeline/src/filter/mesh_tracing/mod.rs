//! `mesh_tracing`: every stage in one pass.

mod hop;
mod refusal;

use arrayvec::ArrayVec;
use meshtrace_access_log::{AccessLogIds, Arrival, Ids};
use meshtrace_attributes::{self as attributes, Attributes, MAX_ATTRIBUTES};
use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_envoy::attribute;
use meshtrace_headers::{Headers, Managed};
use meshtrace_otlp::{Node, Report, conventions};
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::{
    Field, IdGenerator, Incoming, Participation, Peer, Placement, Propagation, SpanId,
    TraceContext, TraceContextConfig, tracestate,
};
use meshtrace_sampling::{self as sampling, Chosen, Forcing, SamplingConfig, Verdict};

use self::hop::{Hop, TraceState, judge, start};
use self::refusal::{
    refuse_below_the_top, refuse_upstream, refuse_what_report_decides, refuse_what_report_knows,
    refuse_what_report_says, refuse_what_tells_a_tracer,
};
use crate::background::Background;
use crate::by_filter_state::{self, refuse_header_keys, say_all};
use crate::callbacks::direction_of;
use crate::filter::trace_context::{erase_threshold, tell};
use crate::filter::{access_log_trace, route_sampling, span_attributes};
use crate::stage::report::{self as tracer, OpenSpan, Start, Tracer};
use crate::stage::sampling::{self as rules, Asked, Rules, State};
use crate::{
    Arena, ByFilterState, Callback, Composition, Environment, LoggedRequest, Lookup, Needs,
    Outcome, Request, Response, RouteSampling, Stage,
};

/// The `mesh_tracing` filter.
#[derive(Debug)]
pub struct MeshTracing {
    /// Present where `trace_context` is, and where `report` needs it.
    propagation: Option<Propagation>,
    sampling: Option<SamplingStage>,
    attributes: Option<Attributes>,
    /// What `attributes` looks up of a request, and then what `sampling` does.
    properties: Vec<Box<[u8]>>,
    access_log: Option<AccessLogIds>,
    report: Option<Report>,
    /// Made of `report` once the node is known.
    tracer: Option<Tracer>,
    by_filter_state: Option<ByFilterState>,
    /// What `attributes` looks up of a response, and then [`UPSTREAM`] where it matters.
    response_properties: Vec<Box<[u8]>>,
}

/// There as soon as an upstream was chosen.
const UPSTREAM: &[u8] = attribute::UPSTREAM_ADDRESS.property;

/// Who makes the decision.
#[derive(Debug)]
enum SamplingStage {
    /// This filter, which is the tracer.
    Here(Box<Rules>),
    /// The proxy's own tracer, which follows.
    InTracer(Box<RouteSampling>),
}

/// What a request leaves for its end.
#[derive(Debug, Default)]
pub struct MeshTracingState {
    span: Option<OpenSpan>,
    chosen: Option<Chosen>,
    /// What the access log was told of a span of this filter.
    own_ids: Ids,
    /// Without a span of its own: what came in, for the ids of the access log.
    arrival: Option<Arrival>,
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

    fn from_json(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_plugin_config::mesh_tracing(json)
            .and_then(|config| Self::new(&config, environment))
            .map_err(|error| error.below(Self::NAME))
    }

    fn counters(&self) -> Vec<String> {
        match &self.sampling {
            None => Vec::new(),
            Some(SamplingStage::Here(rules)) => rules.sampling().counters(),
            Some(SamplingStage::InTracer(filter)) => filter.counters(),
        }
    }

    #[inline(never)]
    fn on_start(&mut self, node: Node<'_>) {
        self.tracer = self.report.clone().map(|report| Tracer::new(report, node));
        if self.tells_span_of_response() {
            self.response_properties.push(UPSTREAM.into());
        }
    }

    fn expressions(&self) -> Vec<String> {
        self.tracer
            .as_ref()
            .map_or_else(Vec::new, Tracer::expressions)
    }

    fn background(&self) -> Option<&dyn Background> {
        self.tracer.as_ref().map(|tracer| tracer as &dyn Background)
    }

    fn needs(&self) -> Needs<'_> {
        let propagation = self.propagation.as_ref();
        let attributes = self.attributes.as_ref();
        Needs {
            address: propagation.is_some_and(Propagation::needs_address),
            direction: propagation.is_some_and(Propagation::needs_direction),
            own_context: propagation.is_some_and(Propagation::needs_own_context),
            cluster: propagation.is_some_and(Propagation::needs_cluster)
                || self
                    .sampling
                    .as_ref()
                    .is_some_and(SamplingStage::needs_cluster),
            request_properties: &self.properties,
            response_headers: attributes.is_some_and(Attributes::needs_response_headers),
            response_properties: &self.response_properties,
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        self.begin(request, ids, state, outcome);
        if !say_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome
                .tallies
                .propagation
                .count(meshtrace_propagation::Counter::EditsDropped);
        }
    }

    #[inline(never)]
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        if let (Some(tracer), Some(span)) = (&self.tracer, &mut state.span) {
            tracer.on_response(span, response.lookup);
        }
        if let Some(attributes) = &self.attributes {
            let gathered = span_attributes::of_response(attributes, response, outcome);
            if let Some(span) = &mut state.span {
                span.describe(gathered);
            }
        }
        if let Some(access_log) = &self.access_log {
            self.settle_own_ids(access_log, response, state, outcome);
            let put = |header, value| {
                access_log_trace::answer(header, value, response.arena, outcome);
            };
            match &state.arrival {
                Some(arrival) => access_log.inject_response(arrival, put),
                None => access_log.inject_response_ids(&state.own_ids, put),
            }
        }
    }

    fn on_response_trailers(&self, lookup: &dyn Lookup, state: &mut MeshTracingState) {
        if let (Some(tracer), Some(span)) = (&self.tracer, &mut state.span) {
            tracer.on_response_trailers(span, lookup);
        }
    }

    #[inline(never)]
    fn on_log<'a>(
        &'a self,
        end: &LoggedRequest<'a>,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        let (Some(propagation), Some(tracer)) = (&self.propagation, &self.tracer) else {
            return self.finish(end, state, outcome);
        };
        let span = match state.span.take() {
            Some(span) => Some(span),
            None => self.open_late(propagation, tracer, end, state, outcome),
        };
        let Some(span) = span else {
            return;
        };
        let chosen = state.chosen;
        let route = |headers: &Headers<'_>| self.route(chosen, headers);
        let describe = |headers: Headers<'_>, record: &mut meshtrace_otlp::Attributes| {
            self.gather_late(headers, end.lookup, end.arena, |late| {
                tracer::add(late, record);
            });
        };
        let tally = &mut outcome.tallies.report;
        let told_id = tracer.close(span, end.lookup, route, describe, tally);
        if let (Some(access_log), Some(span_id)) = (&self.access_log, told_id) {
            log_own_id(access_log, span_id, state, end.arena, outcome);
        }
    }
}

/// Tells the access log that the request's own span has another id.
fn log_own_id<'a>(
    access_log: &AccessLogIds,
    span_id: SpanId,
    state: &mut MeshTracingState,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    let known = Ids {
        span_id: Some(span_id),
        ..state.own_ids
    };
    access_log_trace::set(access_log, &known, &state.own_ids, arena, outcome);
    state.own_ids = known;
}

impl SamplingStage {
    fn new(
        config: &SamplingConfig,
        reports: bool,
        request_headers: Option<RequestHeaders>,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        refuse_upstream(config.placement)?;
        if !reports {
            let config = SamplingConfig {
                request_headers,
                ..config.clone()
            };
            let filter = RouteSampling::new(&config, environment)?;
            return Ok(Self::InTracer(Box::new(filter)));
        }
        refuse_what_tells_a_tracer(config)?;
        let rules = Rules::new(config, environment)?;
        Ok(Self::Here(Box::new(rules)))
    }

    fn needs_cluster(&self) -> bool {
        match self {
            Self::Here(rules) => rules.sampling().needs_cluster(),
            Self::InTracer(filter) => filter.needs().cluster,
        }
    }

    fn managed_headers(&self) -> Vec<Managed<'_>> {
        match self {
            Self::Here(rules) => route_sampling::managed_headers(rules, None),
            Self::InTracer(filter) => filter.managed_headers(),
        }
    }

    fn properties(&self) -> Vec<Box<[u8]>> {
        match self {
            Self::Here(rules) => rules.property().into_iter().map(Into::into).collect(),
            Self::InTracer(filter) => filter.needs().request_properties.to_vec(),
        }
    }
}

impl MeshTracing {
    #[inline(never)]
    fn new(config: &MeshTracingConfig, environment: Environment<'_>) -> Result<Self, ConfigError> {
        refuse_below_the_top(config)?;
        let asked = config.request_headers;
        let report = match &config.report {
            Some(report) => Some(Report::new(report).map_err(|error| error.below("report"))?),
            None => None,
        };
        let propagation = match (&config.trace_context, &report) {
            (None, None) => None,
            (None, Some(_)) => Some(Propagation::new(&TraceContextConfig::default())?),
            (Some(config), report) => Some(
                refuse_what_report_decides(config, report.is_some())
                    .and_then(|()| Propagation::new(config))
                    .map_err(|error| error.below("trace_context"))?,
            ),
        };
        let propagation = match report {
            Some(_) => propagation.map(Propagation::of_participant),
            None => propagation,
        };
        let sampling = match &config.sampling {
            Some(config) => Some(
                SamplingStage::new(config, report.is_some(), asked, environment)
                    .map_err(|error| error.below("sampling"))?,
            ),
            None => None,
        };
        let attributes = match &config.span_attributes {
            Some(config) => Some(
                refuse_what_report_says(config, report.is_some())
                    .and_then(|()| refuse_header_keys(&config.attributes))
                    .and_then(|()| Attributes::new(config, environment))
                    .map_err(|error| error.below("span_attributes"))?,
            ),
            None => None,
        };
        let response_properties = attributes.as_ref().map(Attributes::response_properties);
        let response_properties = response_properties.unwrap_or_default().to_vec();
        let access_log = match &config.access_log {
            Some(config) => Some(
                refuse_what_report_knows(config, report.is_some())
                    .and_then(|()| AccessLogIds::new(config))
                    .map_err(|error| error.below("access_log"))?,
            ),
            None => None,
        };
        let access_log = match (access_log, &config.trace_context) {
            (Some(ids), Some(stage)) => Some(ids.beside(stage.on_repeated.unwrap_or_default())),
            (access_log, _) => access_log,
        };
        let of_attributes = attributes.as_ref().map(Attributes::request_properties);
        let mut properties = of_attributes.unwrap_or_default().to_vec();
        properties.extend(sampling.iter().flat_map(SamplingStage::properties));
        let mut managed = match &propagation {
            Some(propagation) => {
                by_filter_state::of_propagation(propagation, asked, Placement::Downstream)?
            }
            None => Vec::new(),
        };
        managed.extend(sampling.iter().flat_map(SamplingStage::managed_headers));
        managed.extend(attributes.iter().flat_map(Attributes::managed_headers));
        managed.extend(access_log.iter().flat_map(AccessLogIds::managed_headers));
        let keys = config.span_attributes.as_ref();
        let keys = keys.map_or(&[][..], |config| &config.attributes);
        Ok(Self {
            by_filter_state: ByFilterState::new(asked, &managed, keys)?,
            propagation,
            sampling,
            attributes,
            properties,
            access_log,
            report,
            tracer: None,
            response_properties,
        })
    }

    /// Joins the trace, and says what the next hop is told.
    fn begin<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        let gathered = match &self.attributes {
            Some(attributes) => span_attributes::of_request(attributes, request, outcome),
            None => attributes::Gathered::default(),
        };
        let (Some(propagation), Some(tracer)) = (&self.propagation, &self.tracer) else {
            return self.pass(request, ids, state, outcome);
        };
        let forced = self
            .rules()
            .is_some_and(|rules| rules.take_force_header(&request.headers, outcome));
        let (hop, incoming) = self.join(propagation, tracer, request, forced, ids, outcome);
        let route = self.route_of(&hop, &request.headers);
        let start = Start::now(request.clock, hop.sampled);
        let identity = hop.identity(tracer.client_id(ids));
        let details = hop.details(route);
        let mut span = tracer.open(identity, start, &request.headers, details);
        span.describe(gathered);
        let decision = hop.decision(&identity);
        let injected = tell(propagation, &incoming, &decision, request, outcome);
        hop.write_tracestate(propagation, injected, request, outcome);
        state.own_ids = self.log(&hop, &incoming, request.arena, outcome);
        state.chosen = hop.chosen;
        state.span = Some(span);
    }

    /// Whether responses name a span that has another id where no upstream was called.
    fn tells_span_of_response(&self) -> bool {
        self.tracer.as_ref().is_some_and(Tracer::is_gateway)
            && self
                .access_log
                .as_ref()
                .is_some_and(AccessLogIds::injects_span)
    }

    /// What the caller is told, and the log with it, is the span that will be reported.
    fn settle_own_ids<'a>(
        &self,
        access_log: &AccessLogIds,
        response: &Response<'a>,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        let has_upstream = || response.properties.last().is_some_and(Option::is_some);
        if !self.tells_span_of_response() || has_upstream() {
            return;
        }
        if let Some(told_id) = state.span.as_ref().and_then(OpenSpan::client_id) {
            log_own_id(access_log, told_id, state, response.arena, outcome);
        }
    }

    /// The rules, where this filter decides.
    fn rules(&self) -> Option<&Rules> {
        match &self.sampling {
            Some(SamplingStage::Here(rules)) => Some(rules),
            Some(SamplingStage::InTracer(_)) | None => None,
        }
    }

    /// Those of `properties` that the stage `sampling` asked for.
    fn of_sampling<'p>(&self, properties: &'p [Option<Box<[u8]>>]) -> &'p [Option<Box<[u8]>>] {
        let attributes = self.attributes.as_ref();
        let others = attributes.map_or(0, |attributes| attributes.request_properties().len());
        properties.get(others..).unwrap_or_default()
    }

    /// Finds this hop's place in the trace, and whether it is recorded.
    fn join<'a>(
        &self,
        propagation: &Propagation,
        tracer: &Tracer,
        request: &Request<'a>,
        forced: bool,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> (Hop<'a>, Incoming<'a>) {
        let tally = &mut outcome.tallies.propagation;
        let incoming = propagation.extract(request.headers, request.peer, tally);
        let participation = propagation.participate(&incoming, ids, tally);
        let trace_id = participation.context.trace_id;
        let members = incoming.tracestate(trace_id);
        let state = State::of(members.as_deref().unwrap_or_default());
        let asked = Asked {
            headers: request.headers,
            route: self
                .of_sampling(request.properties)
                .first()
                .and_then(Option::as_deref),
            cluster: request.cluster,
            clock: request.clock,
            shared: request.shared,
        };
        let (decision, chosen) = match self.rules() {
            Some(rules) => {
                let (decision, chosen) =
                    judge(rules, forced, &participation, &state, &asked, ids, outcome);
                let compiled = rules.sampling();
                let tells = match decision.sampled {
                    true => compiled.has_templates(),
                    false => {
                        tracer.keeps_any() && (compiled.has_nevers() || compiled.has_templates())
                    }
                };
                let rule = || tells.then(|| rules.choose(&asked));
                (decision, chosen.or_else(rule))
            }
            // What came in stands as it is.
            None => match participation.context.sampling.decision() {
                Some(sampled) => {
                    let parent = state.parent(trace_id, sampled);
                    let decision = match incoming.w3c_decision(trace_id) {
                        Some(own) if own == sampled => sampling::Decision::untouched(parent),
                        _ => sampling::Decision::stands(parent),
                    };
                    (decision, None)
                }
                None => (start(Verdict::Unchanged, state.randomness(trace_id)), None),
            },
        };
        let is_never = |rules: &Rules| Some(rules.sampling().is_never(chosen?));
        // Many applications copy but the first line of a header to what they call.
        let is_repeated = incoming.arrived().is_repeated(Field::Tracestate);
        let tally = &mut outcome.tallies.sampling;
        let hop = Hop {
            participation,
            sampled: decision.sampled,
            never: self.rules().and_then(is_never).unwrap_or(false),
            chosen,
            tracestate: match (
                state.telling(decision.threshold, request.arena, tally),
                &members,
            ) {
                (Some(text), _) => TraceState { text, is_new: true },
                (None, Some(members)) if decision.sampled || is_repeated => {
                    let parts = tracestate::one_line(members);
                    let text = rules::build(parts, request.arena, tally);
                    text.map_or_else(TraceState::default, |text| TraceState {
                        text,
                        is_new: is_repeated,
                    })
                }
                (None, _) => TraceState::default(),
            },
        };
        (hop, incoming)
    }

    /// Opens the span of a request that the proxy answered before this filter saw it.
    fn open_late<'a>(
        &'a self,
        propagation: &Propagation,
        tracer: &Tracer,
        end: &LoggedRequest<'a>,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) -> Option<OpenSpan> {
        let block = end.lookup.request_headers()?;
        let headers = Headers::parse(&block)?;
        let duration = end.lookup.property(attribute::REQUEST_DURATION.property);
        let duration = duration.as_deref().and_then(conventions::integer);
        // Who sent it is asked now, as far as it would have been then: what is not believed of a peer
        // is not believed of a request that was refused either.
        let property = |path: &[u8]| end.lookup.property(path);
        let needs_address = propagation.needs_address();
        let address = needs_address
            .then(|| property(attribute::SOURCE_ADDRESS.property))
            .flatten();
        let needs_direction = propagation.needs_direction();
        let direction = needs_direction.then(|| property(attribute::LISTENER_DIRECTION.property));
        let needs_cluster = self
            .sampling
            .as_ref()
            .is_some_and(SamplingStage::needs_cluster);
        let cluster = needs_cluster.then(|| end.lookup.property(attribute::CLUSTER_NAME.property));
        let cluster = cluster.flatten();
        let properties = look_up(&self.properties, end.lookup);
        let request = Request {
            headers,
            peer: Peer {
                address: address.as_deref(),
                direction: direction_of(direction.flatten().as_deref()),
                own: None,
            },
            cluster: cluster.as_deref(),
            properties: &properties,
            clock: end.lookup,
            arena: end.arena,
            shared: end.shared,
        };
        let tally = &mut outcome.tallies.sampling;
        let forced = self
            .rules()
            .is_some_and(|rules| rules.forcing(&headers, tally) == Forcing::Forced);
        let (hop, incoming) = self.join(propagation, tracer, &request, forced, end.ids, outcome);
        let route = self.route_of(&hop, &headers);
        let start = Start::earlier(end.lookup, duration.unwrap_or(0), hop.sampled);
        // The proxy had answered before this filter saw the request: no upstream was called.
        let identity = hop.identity(None);
        let mut span = tracer.open(identity, start, &headers, hop.details(route));
        if let Some(attributes) = &self.attributes {
            let tally = &mut attributes::Tally::default();
            span.describe(attributes.of_request(headers, &properties, end.arena, tally));
        }
        self.log(&hop, &incoming, end.arena, outcome);
        state.chosen = hop.chosen;
        Some(span)
    }

    /// The template that the path of a request fits: that of its rule, or of an attribute.
    fn route(&self, chosen: Option<Chosen>, headers: &Headers<'_>) -> Option<&[u8]> {
        let of_rule = || self.rules()?.sampling().template(chosen?);
        let of_attribute = || self.attributes.as_ref()?.template(headers);
        of_rule().or_else(of_attribute).map(str::as_bytes)
    }

    fn route_of(&self, hop: &Hop<'_>, headers: &Headers<'_>) -> Option<&[u8]> {
        hop.sampled
            .then(|| self.route(hop.chosen, headers))
            .flatten()
    }

    /// Without a span of its own the filter is the single ones.
    fn pass<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        state: &mut MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(access_log) = &self.access_log {
            state.arrival = Some(access_log_trace::arrive(access_log, request, outcome));
        }
        if let Some(propagation) = &self.propagation {
            let tally = &mut outcome.tallies.propagation;
            let incoming = propagation.extract(request.headers, request.peer, tally);
            let decision = propagation.decide(&incoming, ids, tally);
            tell(propagation, &incoming, &decision, request, outcome);
            erase_threshold(propagation, &incoming, &decision, request, outcome);
        }
        if let Some(SamplingStage::InTracer(filter)) = &self.sampling {
            let request = Request {
                properties: self.of_sampling(request.properties),
                ..*request
            };
            filter.on_request(&request, ids, &mut (), outcome);
        }
    }

    fn finish<'a>(
        &self,
        end: &LoggedRequest<'a>,
        state: &MeshTracingState,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(access_log) = &self.access_log else {
            return;
        };
        let Some(block) = end.lookup.request_headers() else {
            return;
        };
        let headers = Headers::parse(&block).unwrap_or_default();
        access_log_trace::finish(
            access_log,
            state.arrival.as_ref(),
            headers,
            end.arena,
            outcome,
        );
    }

    /// Tells the access log the ids of the hop's own span.
    fn log<'a>(
        &self,
        hop: &Hop<'_>,
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        outcome: &mut Outcome<'a>,
    ) -> Ids {
        let Some(access_log) = &self.access_log else {
            return Ids::default();
        };
        let Participation {
            context, parent, ..
        } = hop.participation;
        let context = TraceContext {
            sampling: hop.sampling(),
            ..context
        };
        let is_continued = parent.is_some() || incoming.continues(context.trace_id);
        let format = is_continued.then(|| incoming.trace_format()).flatten();
        let ids = Ids::of_own_span(&context, parent, format);
        access_log_trace::set(access_log, &ids, &Ids::default(), arena, outcome);
        ids
    }

    /// Gathers the attributes of a request that was seen at its end alone, or of which nothing was
    /// kept: only a span is told them.
    fn gather_late(
        &self,
        headers: Headers<'_>,
        lookup: &dyn Lookup,
        arena: &Arena,
        describe: impl FnOnce(attributes::Gathered<'_>),
    ) {
        if let Some(attributes) = &self.attributes {
            let properties = look_up(attributes.request_properties(), lookup);
            let tally = &mut attributes::Tally::default();
            describe(attributes.of_request(headers, &properties, arena, tally));
        }
    }
}

/// One attribute takes at most one, and the rules another.
const MAX_PROPERTIES: usize = MAX_ATTRIBUTES + 1;

fn look_up(
    paths: &[Box<[u8]>],
    lookup: &dyn Lookup,
) -> ArrayVec<Option<Box<[u8]>>, MAX_PROPERTIES> {
    let paths = paths.iter().take(MAX_PROPERTIES);
    paths.map(|path| lookup.property(path)).collect()
}
