//! `mesh_tracing`: every stage in one pass.

use meshtrace_attributes::{self as attributes, Attributes, SpanAttributesConfig};
use meshtrace_config::ConfigError;
use meshtrace_headers::{Change, Headers, Value};
use meshtrace_log_ids::{AccessLogTraceConfig, Arrival, Ids, LogIds};
use meshtrace_otlp::{Node, Report, ReportConfig};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    self as propagation, Counter, Decision, Field, IdGenerator, Incoming, OnMissing, Outgoing,
    Participation, Peer, Placement, Propagation, Sampling, TraceContext, TraceContextConfig,
    tracestate,
};
use serde::Deserialize;

use crate::background::Background;
use crate::trace_context::tell;
use crate::tracer::{self, Identity, OpenSpan, Tracer, Tracestate};
use crate::view::concat;
use crate::{
    Arena, Callback, Composition, End, Environment, Lookup, Needs, Outcome, Request, Response,
    Stage, access_log_trace, span_attributes,
};

/// `mesh_tracing.wasm`'s configuration: a stage that is absent is off, `{}` is on with its
/// defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MeshTracingConfig {
    /// One context, in every format.
    pub trace_context: Option<TraceContextConfig>,
    /// Business attributes, on the spans of `report` too.
    pub span_attributes: Option<SpanAttributesConfig>,
    /// The ids of the span, for the access log.
    pub access_log: Option<AccessLogTraceConfig>,
    /// The hop's own spans, exported over OTLP.
    pub report: Option<ReportConfig>,
}

/// The `mesh_tracing` filter.
#[derive(Debug)]
pub struct MeshTracing {
    /// Present where `trace_context` is, and where `report` needs it.
    propagation: Option<Propagation>,
    attributes: Option<Attributes>,
    log_ids: Option<LogIds>,
    report: Option<Report>,
    /// Made of `report` once the node is known.
    tracer: Option<Tracer>,
}

/// What a request leaves for its end.
#[derive(Debug, Default)]
pub struct MeshTracingKept {
    span: Option<OpenSpan>,
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
        Callback::Log,
        Callback::Tick,
        Callback::HttpCallResponse,
        Callback::Done,
    ];
    const STAGES: &'static [Stage] = &[
        Stage::Propagation,
        Stage::Attributes,
        Stage::LogIds,
        Stage::Report,
    ];
    const END_HEADERS: bool = false;
    type Kept = MeshTracingKept;

    fn from_json(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_config::read::<MeshTracingConfig>(json)
            .and_then(|config| Self::new(&config, environment))
            .map_err(|error| error.below(Self::NAME))
    }

    fn on_start(&mut self, node: Node<'_>) {
        self.tracer = self.report.clone().map(|report| Tracer::new(report, node));
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
            cluster: propagation.is_some_and(Propagation::needs_cluster),
            request_properties: attributes.map_or(&[], Attributes::request_properties),
            now: self.tracer.is_some(),
            response_headers: attributes.is_some_and(Attributes::needs_response_headers),
            response_properties: attributes.map_or(&[], Attributes::response_properties),
        }
    }

    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        kept: &mut MeshTracingKept,
        outcome: &mut Outcome<'a>,
    ) {
        let gathered = match &self.attributes {
            Some(attributes) => span_attributes::of_request(attributes, request, outcome),
            None => attributes::Gathered::default(),
        };
        let (Some(propagation), Some(tracer)) = (&self.propagation, &self.tracer) else {
            return self.pass(request, ids, kept, outcome);
        };
        let tally = &mut outcome.tallies.propagation;
        let incoming = propagation.extract(request.headers, request.peer, tally);
        let hop = Hop::join(propagation, &incoming, ids, tally);
        let mut span = hop.open(tracer, &incoming, request.headers, request.now, ids);
        span.describe(gathered);
        let decision = hop.decision(&span);
        tell(propagation, &incoming, &decision, request, outcome);
        hop.write_tracestate(&incoming, request.arena, outcome);
        kept.own_ids = self.log(&hop, &incoming, request.arena, outcome);
        kept.span = Some(span);
    }

    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        kept: &mut MeshTracingKept,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(attributes) = &self.attributes {
            let gathered = span_attributes::of_response(attributes, response, outcome);
            if let Some(span) = &mut kept.span {
                span.describe(gathered);
            }
        }
        if let Some(log_ids) = &self.log_ids {
            let put = |name, value| access_log_trace::answer(name, value, response.arena, outcome);
            match &kept.arrival {
                Some(arrival) => log_ids.tell_response(arrival, put),
                None => log_ids.tell_caller(&kept.own_ids, put),
            }
        }
    }

    fn on_end<'a>(&'a self, end: &End<'a>, kept: &mut MeshTracingKept, outcome: &mut Outcome<'a>) {
        let (Some(propagation), Some(tracer)) = (&self.propagation, &self.tracer) else {
            return self.finish(end, kept, outcome);
        };
        let span = kept.span.take().or_else(|| {
            // The proxy answered before this filter saw the request.
            let tally = &mut outcome.tallies.propagation;
            let block = end.lookup.request_headers()?;
            let headers = Headers::parse(&block)?;
            let start = end.lookup.property(b"request\0time")?;
            let start = start.first_chunk().copied().map(u64::from_le_bytes)?;
            let incoming = propagation.extract(headers, Peer::default(), tally);
            let hop = Hop::join(propagation, &incoming, end.ids, tally);
            let mut span = hop.open(tracer, &incoming, headers, start, end.ids);
            self.gather_late(headers, end.lookup, end.arena, |late| span.describe(late));
            self.log(&hop, &incoming, end.arena, outcome);
            Some(span)
        });
        if let Some(span) = span {
            let describe = |headers: Headers<'_>, record: &mut meshtrace_otlp::Attributes| {
                self.gather_late(headers, end.lookup, end.arena, |late| {
                    tracer::add(late, record);
                });
            };
            tracer.close(span, end.lookup, describe, &mut outcome.tallies.report);
        }
    }
}

impl MeshTracing {
    fn new(config: &MeshTracingConfig, environment: Environment<'_>) -> Result<Self, ConfigError> {
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
        let attributes = match &config.span_attributes {
            Some(config) => Some(
                Attributes::new(config, environment)
                    .map_err(|error| error.below("span_attributes"))?,
            ),
            None => None,
        };
        let log_ids = match &config.access_log {
            Some(config) => Some(
                refuse_what_report_knows(config, report.is_some())
                    .and_then(|()| LogIds::new(config))
                    .map_err(|error| error.below("access_log"))?,
            ),
            None => None,
        };
        Ok(Self {
            propagation,
            attributes,
            log_ids,
            report,
            tracer: None,
        })
    }

    /// Without a span of its own the filter is `trace_context` and `access_log_trace`.
    fn pass<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        kept: &mut MeshTracingKept,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(log_ids) = &self.log_ids {
            kept.arrival = Some(access_log_trace::arrive(log_ids, request, outcome));
        }
        if let Some(propagation) = &self.propagation {
            let tally = &mut outcome.tallies.propagation;
            let incoming = propagation.extract(request.headers, request.peer, tally);
            let decision = propagation.decide(&incoming, ids, tally);
            tell(propagation, &incoming, &decision, request, outcome);
        }
    }

    fn finish<'a>(&self, end: &End<'a>, kept: &MeshTracingKept, outcome: &mut Outcome<'a>) {
        let Some(log_ids) = &self.log_ids else {
            return;
        };
        let Some(block) = end.lookup.request_headers() else {
            return;
        };
        let headers = Headers::parse(&block).unwrap_or_default();
        access_log_trace::finish(log_ids, kept.arrival.as_ref(), headers, end.arena, outcome);
    }

    /// Tells the access log the ids of the hop's own span.
    fn log<'a>(
        &self,
        hop: &Hop,
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        outcome: &mut Outcome<'a>,
    ) -> Ids {
        let Some(log_ids) = &self.log_ids else {
            return Ids::default();
        };
        let Participation {
            context, parent, ..
        } = hop.participation;
        let context = TraceContext {
            sampling: hop.sampling(),
            ..context
        };
        let format = parent.and_then(|_| incoming.format());
        let ids = Ids::of_own_span(&context, parent, format);
        access_log_trace::set(log_ids, &ids, &Ids::default(), arena, outcome);
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
            let paths = attributes.request_properties().iter();
            let properties: Vec<_> = paths.map(|path| lookup.property(path)).collect();
            let tally = &mut attributes::Tally::default();
            describe(attributes.of_request(headers, &properties, arena, tally));
        }
    }
}

fn refuse_what_report_knows(
    config: &AccessLogTraceConfig,
    reports: bool,
) -> Result<(), ConfigError> {
    let of_a_tracer = [
        (
            "ids",
            config.ids.trace_id_header.is_some() || config.ids.span_id_header.is_some(),
        ),
        ("tracer", config.tracer.is_some()),
        ("extract", config.extract.is_some()),
        ("spawn_upstream_span", config.spawn_upstream_span.is_some()),
        ("shared_span_context", config.shared_span_context.is_some()),
    ];
    match of_a_tracer.iter().find(|(_, is_set)| reports && *is_set) {
        Some((key, _)) => Err(ConfigError::new(
            *key,
            "not with `report`, which opens the span itself and knows its ids",
        )),
        None => Ok(()),
    }
}

fn refuse_what_report_decides(
    config: &TraceContextConfig,
    reports: bool,
) -> Result<(), ConfigError> {
    if config.placement == Placement::Upstream {
        return Err(ConfigError::new(
            "placement",
            "\"downstream\" alone: this filter stands among the listener's",
        ));
    }
    if reports && config.on_missing == Some(OnMissing::Pass) {
        return Err(ConfigError::new(
            "on_missing",
            "not \"pass\" with `report`, which starts a trace where none came in",
        ));
    }
    if reports && config.generate_sampled {
        return Err(ConfigError::new(
            "generate_sampled",
            "not with `report`, which decides about the traces that start here",
        ));
    }
    Ok(())
}

/// The part of the traces that start here which is reported: one in a hundred, as the least
/// right-most 56 bits of a trace id that is (OpenTelemetry, "TraceState: Probability Sampling").
const THRESHOLD: u64 = 0xfd_70a4_0000_0000;
const THRESHOLD_MEMBER: &[u8] = b"ot=th:fd70a4";

/// This hop in its trace.
#[derive(Clone, Copy, Debug)]
struct Hop {
    participation: Participation,
    sampled: bool,
    /// What `tracestate` is to say about a decision that was made here.
    own_member: &'static [u8],
}

impl Hop {
    fn join(
        propagation: &Propagation,
        incoming: &Incoming<'_>,
        ids: &IdGenerator,
        tally: &mut propagation::Tally,
    ) -> Self {
        let participation = propagation.participate(incoming, ids, tally);
        let context = &participation.context;
        let (sampled, by_ratio) = match context.sampling.decision() {
            Some(sampled) => (sampled, false),
            None => {
                let randomness = context.trace_id.low() & ((1 << 56) - 1);
                (randomness >= THRESHOLD, true)
            }
        };
        let starts_here = participation.parent.is_none();
        Self {
            participation,
            sampled,
            own_member: if by_ratio && sampled && starts_here {
                THRESHOLD_MEMBER
            } else {
                b""
            },
        }
    }

    fn open(
        &self,
        tracer: &Tracer,
        incoming: &Incoming<'_>,
        headers: Headers<'_>,
        now: u64,
        ids: &IdGenerator,
    ) -> OpenSpan {
        let Participation {
            context, parent, ..
        } = self.participation;
        let continues_w3c = parent.is_some() && incoming.format() == Some(Format::Tracecontext);
        let members = (continues_w3c && self.sampled)
            .then(|| members(incoming))
            .flatten();
        let identity = Identity {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent,
            sampled: self.sampled,
            tracestate: match parent {
                Some(_) => Tracestate::Continued(members.as_deref().unwrap_or_default()),
                None => Tracestate::Started(self.own_member),
            },
        };
        tracer.open(&identity, &headers, now, ids)
    }

    fn sampling(&self) -> Sampling {
        match (self.participation.context.sampling, self.sampled) {
            (Sampling::Debug, _) => Sampling::Debug,
            (_, true) => Sampling::Sampled,
            (_, false) => Sampling::NotSampled,
        }
    }

    /// What the next hop is told: the span that calls it, and what was decided.
    fn decision(&self, span: &OpenSpan) -> Decision {
        let (span_id, b3_parent) = span.injected();
        let sampling = self.sampling();
        Decision {
            outgoing: Outgoing::Context(TraceContext {
                span_id,
                b3_parent,
                sampling,
                ..self.participation.context
            }),
            previous_trace_id: self.participation.previous_trace_id,
        }
    }

    /// Where W3C is written at all, says with what probability a trace that starts here was
    /// sampled, and makes one line of the `tracestate` that goes on: many applications copy but the
    /// first line of a header to what they call.
    fn write_tracestate<'a>(
        &self,
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        outcome: &mut Outcome<'a>,
    ) {
        let edits = &outcome.headers;
        let is_written = edits.iter().any(|edit| {
            edit.name == Field::Traceparent.name() && matches!(edit.change, Change::Replace(_))
        });
        if !is_written {
            return;
        }
        let name = Field::Tracestate.name();
        if !self.own_member.is_empty() {
            let member = Value::Borrowed(self.own_member);
            return outcome.headers.replace(name, member);
        }
        let goes_on = !edits.iter().any(|edit| edit.name == name);
        if !goes_on || !incoming.arrived().is_repeated(Field::Tracestate) {
            return;
        }
        let Some(members) = members(incoming) else {
            return;
        };
        match concat(arena, tracestate::one_line(&members)) {
            // Nothing but empty lines.
            Some([]) => outcome.headers.remove(name),
            Some(line) => outcome.headers.replace(name, Value::Borrowed(line)),
            None => outcome.tallies.propagation.count(Counter::EditsDropped),
        }
    }
}

/// The `tracestate` that came in, where it is valid.
fn members<'a>(incoming: &Incoming<'a>) -> Option<tracestate::Members<'a>> {
    tracestate::parse(incoming.arrived().lines(Field::Tracestate))
}
