//! `mesh_tracing` as the proxy's own tracer: the proxy itself starts spans, injects their contexts
//! and ends the spans.
//!
//! A filter joins the trace and injects the context for the next hop in one pass. A tracer has one
//! call for each step: [`MeshTracing::start_span`] starts a request's span once, and
//! [`MeshTracing::inject_span`] writes the context for every span that calls another service.

use meshtrace_attributes::{Gathered, Tally};
use meshtrace_headers::{Headers, Value};
use meshtrace_propagation::{Field, IdGenerator, Peer, Read, SpanId, TraceContext, TraceId};
use meshtrace_sampling::Chosen;

use super::super::hop::Hop;
use super::super::{MeshTracing, Mode};
use super::AsTracer;
use crate::stage::propagation::inject;
use crate::{Arena, Outcome, Request};

/// The data of a request's span that is known when the span starts.
#[derive(Clone, Copy, Debug)]
pub struct SpanStart<'a> {
    hop: Hop<'a>,
    is_overruled: bool,
}

impl<'a> SpanStart<'a> {
    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.hop.participation.context.trace_id
    }

    /// The span.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.hop.participation.context.span_id
    }

    /// The calling span; `None` for the root of a trace.
    #[must_use]
    pub fn parent(&self) -> Option<SpanId> {
        self.hop.participation.parent
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.hop.sampled
    }

    /// Whether the request is not reported even where it fails.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.hop.identity(None).never
    }

    /// The rule of the request, where the rules were searched.
    #[must_use]
    pub fn chosen(&self) -> Option<Chosen> {
        self.hop.chosen
    }

    /// W3C's `tracestate` of the span; empty where there is none.
    #[must_use]
    pub fn tracestate(&self) -> &'a [u8] {
        self.hop.tracestate()
    }

    /// Returns the same start with `text` as its `tracestate`, so that it can outlive the request's
    /// arena.
    #[must_use]
    pub fn with_tracestate(self, text: &[u8]) -> SpanStart<'_> {
        SpanStart {
            hop: self.hop.with_tracestate(text),
            ..self
        }
    }

    /// Returns the same start for a call that is not sampled whatever was decided.
    #[must_use]
    pub fn overruled(self) -> Self {
        Self {
            is_overruled: true,
            ..self
        }
    }
}

impl MeshTracing {
    fn as_tracer(&self) -> Option<&AsTracer> {
        match &self.mode {
            Mode::AsTracer(mode) => Some(mode),
            Mode::BesideTracer(_) => None,
        }
    }

    /// Joins the trace of a request: finds the place of its span in the trace, and decides whether
    /// the trace is recorded. Returns that and what was read of the request's context. Returns
    /// `None` without `report`.
    pub fn start_span<'a>(
        &self,
        request: &Request<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) -> Option<(SpanStart<'a>, Read)> {
        let mode = self.as_tracer()?;
        let forced = mode.sampler.is_forced(request, outcome);
        let (hop, incoming) = mode.join(request, forced, ids, outcome);
        let start = SpanStart {
            hop,
            is_overruled: false,
        };
        Some((start, incoming.to_read()))
    }

    /// Starts the span of a request that comes a second time, as after an internal redirect, with the
    /// headers that the call of the span `caller` was told. It stays in the trace, with the decision
    /// of the `first` pass. Returns the same as [`start_span`](Self::start_span).
    pub fn start_again<'a>(
        &self,
        request: &Request<'a>,
        first: &SpanStart<'a>,
        caller: SpanId,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) -> Option<(SpanStart<'a>, Read)> {
        let stage = &self.as_tracer()?.propagation;
        let told = TraceContext {
            span_id: caller,
            ..first.hop.own_context()
        };
        let told = told.to_bytes();
        let peer = Peer {
            own: Some(&told),
            ..request.peer
        };
        let tally = &mut outcome.tallies.propagation;
        let incoming = stage.extract(request.headers, peer, tally);
        let start = SpanStart {
            hop: first.hop.again(caller, ids.span_id()),
            is_overruled: false,
        };
        Some((start, incoming.to_read()))
    }

    /// Adds to `outcome` the header changes of a call that is made by the span `caller`, whose
    /// parent is `parent`. `request` is the one that was given to [`start_span`](Self::start_span),
    /// which returned `start` and `read`.
    pub fn inject_span<'a>(
        &'a self,
        request: &Request<'a>,
        (start, read): (&SpanStart<'a>, &Read),
        (caller, parent): (SpanId, Option<SpanId>),
        outcome: &mut Outcome<'a>,
    ) {
        let Some(mode) = self.as_tracer() else {
            return;
        };
        if let Some(stage) = &mode.attributes
            && stage.writes_headers()
        {
            stage.gather_request(request, outcome);
        }
        mode.sampler.remove_force_header(request, outcome);
        let stage = &mode.propagation;
        let incoming = stage.extract_again(request.headers, read);
        let hop = match start.is_overruled {
            false => start.hop,
            true => start.hop.not_sampled(&incoming, request.arena, outcome),
        };
        let mut identity = hop.identity(None);
        if let Some(parent) = parent.filter(|_| caller != identity.span_id) {
            identity.span_id = parent;
            identity.client_id = Some(caller);
        }
        let decision = hop.decision(&identity);
        let injected = inject(stage, &incoming, &decision, request, outcome);
        hop.write_tracestate(stage, injected, request, outcome);
    }

    /// Adds the `tracestate` to a call that carries none of the request's headers. An injection
    /// does not write a `tracestate` that stays as it came in.
    pub fn inject_tracestate<'a>(&self, request: &Request<'a>, outcome: &mut Outcome<'a>) {
        let name = Field::Tracestate.name();
        if outcome.headers.change_of(name).is_none()
            && let Some(list) = request.headers.lines(name).next()
        {
            outcome.headers.replace(name, Value::Borrowed(list));
        }
    }

    /// The request's attributes, for a span that is reported.
    pub fn gather<'a>(
        &'a self,
        headers: Headers<'a>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Gathered<'a> {
        let stage = self.as_tracer().and_then(|mode| mode.attributes.as_ref());
        stage.map_or_else(Gathered::default, |stage| {
            stage.gather(headers, arena, tally)
        })
    }

    /// The template that the path of the request fits: that of its rule, or of an attribute.
    #[must_use]
    pub fn template(&self, chosen: Option<Chosen>, headers: &Headers<'_>) -> Option<&[u8]> {
        self.as_tracer()?.route(chosen, headers)
    }

    /// Whether there are attributes to [`gather`](Self::gather).
    #[must_use]
    pub fn has_attributes(&self) -> bool {
        self.as_tracer()
            .is_some_and(|mode| mode.attributes.is_some())
    }

    /// The names of the request headers that the trace context and the attributes may change.
    #[must_use]
    pub fn managed_names(&self) -> Vec<Box<[u8]>> {
        let mode = self.as_tracer();
        let managed = mode.map(|mode| mode.managed_headers(None));
        let managed = managed.and_then(Result::ok).unwrap_or_default();
        managed.iter().map(|header| header.name.into()).collect()
    }
}
