//! `mesh_tracing`: every stage in one pass.

use meshtrace_config::ConfigError;
use meshtrace_headers::{Change, Headers, Value};
use meshtrace_otlp::{Node, Report, ReportConfig};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    self as propagation, Decision, IdGenerator, Incoming, OnMissing, Outgoing, Participation, Peer,
    Placement, Propagation, Sampling, TraceContext, TraceContextConfig,
};
use serde::Deserialize;

use crate::background::Background;
use crate::trace_context::tell;
use crate::tracer::{Identity, OpenSpan, Tracer};
use crate::{Callback, Composition, End, Environment, Needs, Outcome, Request, Stage};

/// `mesh_tracing.wasm`'s configuration: a stage that is absent is off, `{}` is on with its
/// defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshTracingConfig {
    /// One context, in every format.
    pub trace_context: Option<TraceContextConfig>,
    /// The hop's own spans, exported over OTLP.
    pub report: Option<ReportConfig>,
}

/// The `mesh_tracing` filter.
#[derive(Debug)]
pub struct MeshTracing {
    /// Present where `trace_context` is, and where `report` needs it.
    propagation: Option<Propagation>,
    report: Option<Report>,
    /// Made of `report` once the node is known.
    tracer: Option<Tracer>,
}

/// What a request leaves for its end.
#[derive(Debug, Default)]
pub struct MeshTracingKept {
    span: Option<OpenSpan>,
}

impl Composition for MeshTracing {
    const NAME: &'static str = "mesh_tracing";
    const CALLBACKS: &'static [Callback] = &[
        Callback::RequestHeaders,
        Callback::Log,
        Callback::Tick,
        Callback::HttpCallResponse,
        Callback::Done,
    ];
    const STAGES: &'static [Stage] = &[Stage::Propagation, Stage::Report];
    const END_HEADERS: bool = false;
    type Kept = MeshTracingKept;

    fn from_json(json: &[u8], _environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_config::read::<MeshTracingConfig>(json)
            .and_then(|config| Self::new(&config))
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
        Needs {
            address: propagation.is_some_and(Propagation::needs_address),
            direction: propagation.is_some_and(Propagation::needs_direction),
            cluster: propagation.is_some_and(Propagation::needs_cluster),
            now: self.tracer.is_some(),
            ..Needs::default()
        }
    }

    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        kept: &mut MeshTracingKept,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(propagation) = &self.propagation else {
            return;
        };
        let tally = &mut outcome.tallies.propagation;
        let incoming = propagation.extract(request.headers, request.peer, tally);
        let Some(tracer) = &self.tracer else {
            let decision = propagation.decide(&incoming, ids, tally);
            return tell(propagation, &incoming, &decision, request, outcome);
        };
        let hop = Hop::join(propagation, &incoming, ids, tally);
        let span = hop.open(tracer, &incoming, request.headers, request.now, ids);
        let decision = hop.decision(&span);
        tell(propagation, &incoming, &decision, request, outcome);
        hop.write_tracestate(outcome);
        kept.span = Some(span);
    }

    fn on_end<'a>(&'a self, end: &End<'a>, kept: &mut MeshTracingKept, outcome: &mut Outcome<'a>) {
        let (Some(propagation), Some(tracer)) = (&self.propagation, &self.tracer) else {
            return;
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
            Some(hop.open(tracer, &incoming, headers, start, end.ids))
        });
        if let Some(span) = span {
            tracer.close(span, end.lookup, &mut outcome.tallies.report);
        }
    }
}

impl MeshTracing {
    fn new(config: &MeshTracingConfig) -> Result<Self, ConfigError> {
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
        Ok(Self {
            propagation,
            report,
            tracer: None,
        })
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
        let identity = Identity {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent,
            sampled: self.sampled,
            tracestate: if continues_w3c {
                headers
            } else {
                Headers::default()
            },
            own_member: self.own_member,
        };
        tracer.open(&identity, &headers, now, ids)
    }

    /// What the next hop is told: the span that calls it, and what was decided.
    fn decision(&self, span: &OpenSpan) -> Decision {
        let (span_id, b3_parent) = span.injected();
        let sampling = match (self.participation.context.sampling, self.sampled) {
            (Sampling::Debug, _) => Sampling::Debug,
            (_, true) => Sampling::Sampled,
            (_, false) => Sampling::NotSampled,
        };
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

    /// Says with what probability the trace was sampled, where W3C is written at all.
    fn write_tracestate(&self, outcome: &mut Outcome<'_>) {
        let is_written = outcome
            .headers
            .iter()
            .any(|edit| edit.name == b"traceparent" && matches!(edit.change, Change::Replace(_)));
        if is_written && !self.own_member.is_empty() {
            let member = Value::Borrowed(self.own_member);
            outcome.headers.replace(b"tracestate", member);
        }
    }
}
