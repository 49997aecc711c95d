//! The mode with `report`: this filter is the tracer, and the proxy's own tracer is off.

mod proxy_tracer;

use meshtrace_access_log::{AccessLogIds, Ids};
use meshtrace_attributes::Gathered;
use meshtrace_config::{ConfigError, Mistakes, RequestHeaders, both};
use meshtrace_envoy::attribute;
use meshtrace_headers::{Arena, Headers, Managed};
use meshtrace_otlp::{Report, ReportConfig, conventions};
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::{
    IdGenerator, Incoming, Peer, Placement, Propagation, SpanId, TraceContext, TraceContextConfig,
};
use meshtrace_sampling::Chosen;

pub use self::proxy_tracer::SpanStart;
use super::hop::Hop;
use super::refusal::{
    access_log_stage, refuse_upstream, refuse_what_report_decides, refuse_what_report_knows,
    refuse_what_report_says, refuse_what_tells_a_tracer,
};
use super::{ATTRIBUTES, SAMPLING};
use crate::by_filter_state;
use crate::callbacks::direction_of;
use crate::properties::{PropertyHandle, PropertyPaths};
use crate::stage::attributes::AttributesStage;
use crate::stage::report::{self, OpenSpan, Start, Tracer};
use crate::stage::sampling::{Joined, ParsedTracestate, Rules, Sampler};
use crate::stage::{access_log, propagation};
use crate::{LoggedRequest, Lookup, Needs, Outcome, Proxy, Request, Response};

/// The stages. The stages that a tracer must have are always present.
#[derive(Debug)]
pub(super) struct AsTracer {
    propagation: Propagation,
    sampler: Sampler,
    attributes: Option<AttributesStage>,
    access_log: Option<AccessLogIds>,
    tracer: Tracer,
    request_properties: PropertyPaths,
    response_properties: PropertyPaths,
    /// The property that has a value as soon as an upstream was chosen. It is looked up where the
    /// response has the id of a span whose id changes without an upstream.
    upstream: Option<PropertyHandle>,
}

/// A request whose span is open.
#[derive(Debug)]
pub(super) struct TracedRequest {
    span: OpenSpan,
    chosen: Option<Chosen>,
    /// The ids that the access log has of the span.
    ids: Ids,
    /// What the filter needs to know of this request where it is redirected.
    own: [u8; TraceContext::BYTES],
}

impl AsTracer {
    #[inline(never)]
    pub(super) fn new(
        config: &MeshTracingConfig,
        report: &ReportConfig,
        proxy: &Proxy<'_>,
    ) -> Result<Self, ConfigError> {
        let environment = proxy.environment;
        let mut request_properties = PropertyPaths::default();
        let mut response_properties = PropertyPaths::default();
        let mut mistakes = Mistakes::default();
        let has_envoy_attributes = report.envoy_attributes;
        let report = Report::new(report).map_err(|error| error.below("report"));
        let report = mistakes.keep(report);
        let propagation = match &config.trace_context {
            None => Propagation::new(&TraceContextConfig::default()),
            Some(stage) => both(refuse_what_report_decides(stage), Propagation::new(stage))
                .map_err(|error| error.below("trace_context")),
        };
        let propagation = mistakes.keep(propagation);
        let sampling = config.sampling.as_ref();
        let alone = sampling.map_or(Ok(()), |stage| {
            both(
                refuse_upstream(stage.placement),
                refuse_what_tells_a_tracer(stage),
            )
        });
        let sampler = Sampler::new(sampling, environment, &mut request_properties);
        let sampler = both(alone, sampler).map_err(|error| error.below("sampling"));
        let sampler = mistakes.keep(sampler);
        let attributes = config.span_attributes.as_ref().map(|stage| {
            let compiled = AttributesStage::new(
                stage,
                environment,
                &mut request_properties,
                &mut response_properties,
            );
            both(
                refuse_what_report_says(stage, has_envoy_attributes),
                compiled,
            )
            .map_err(|error| error.below("span_attributes"))
        });
        let attributes = mistakes.keep(attributes.transpose());
        if let Some(stage) = &config.access_log {
            let refused = refuse_what_report_knows(stage);
            mistakes.keep(refused.map_err(|error| error.below("access_log")));
        }
        let access_log = mistakes.keep(access_log_stage(config));
        let compiled = report.zip(propagation).zip(sampler).zip(attributes);
        let ((((report, propagation), sampler), attributes), access_log) =
            mistakes.finish(compiled.zip(access_log))?;
        let is_taken = |key: &str| config.names_attribute(key);
        let tracer = Tracer::new(report, proxy.node, &is_taken);
        let names_span = access_log.as_ref().is_some_and(AccessLogIds::injects_span);
        let upstream = || response_properties.add(attribute::UPSTREAM_ADDRESS.property);
        Ok(Self {
            upstream: (tracer.is_gateway() && names_span).then(upstream),
            propagation: propagation.of_participant(),
            sampler,
            attributes,
            access_log,
            tracer,
            request_properties,
            response_properties,
        })
    }

    pub(super) fn managed_headers(
        &self,
        asked: Option<RequestHeaders>,
    ) -> Result<Vec<Managed<'_>>, ConfigError> {
        let propagation = &self.propagation;
        let mut managed =
            by_filter_state::of_propagation(propagation, asked, Placement::Downstream)?;
        let rules = self.sampler.rules().into_iter();
        managed.extend(rules.flat_map(|rules| rules.managed_headers(None)));
        managed.extend(
            self.attributes
                .iter()
                .flat_map(AttributesStage::managed_headers),
        );
        managed.extend(
            self.access_log
                .iter()
                .flat_map(AccessLogIds::managed_headers),
        );
        Ok(managed)
    }

    pub(super) fn counters(&self) -> Vec<String> {
        let rules = self.sampler.rules();
        rules.map_or_else(Vec::new, |rules| rules.sampling().counters())
    }

    pub(super) fn summary(&self) -> String {
        let mut parts = vec![
            self.propagation.summary(),
            self.sampler.summary(),
            self.tracer.summary(),
        ];
        parts.extend(self.attributes.as_ref().map(AttributesStage::summary));
        parts.extend(self.access_log.as_ref().map(AccessLogIds::summary));
        parts.join("; it ")
    }

    pub(super) fn cautions(&self) -> Vec<String> {
        let rules = self.sampler.rules();
        let mut cautions =
            rules.map_or_else(Vec::new, |rules| rules.cautions_where_decided(SAMPLING));
        let attributes = self.attributes.as_ref();
        cautions.extend(attributes.map_or_else(Vec::new, |stage| stage.cautions(ATTRIBUTES)));
        cautions
    }

    pub(super) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    pub(super) fn needs(&self) -> Needs<'_> {
        let attributes = self.attributes.as_ref();
        Needs {
            address: self.propagation.needs_address(),
            direction: self.propagation.needs_direction(),
            own_context: self.propagation.needs_own_context(),
            own_context_of_redirected: true,
            cluster: self.propagation.needs_cluster() || self.rules_need_cluster(),
            request_properties: &self.request_properties,
            response_headers: attributes.is_some_and(AttributesStage::needs_response_headers),
            response_properties: &self.response_properties,
        }
    }

    fn rules_need_cluster(&self) -> bool {
        let needs_cluster = |rules: &Rules| rules.sampling().needs_cluster();
        self.sampler.rules().is_some_and(needs_cluster)
    }

    pub(super) fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) -> TracedRequest {
        // Extract, and sample.
        let forced = self.sampler.is_forced(request, outcome);
        let (hop, incoming) = self.join(request, forced, ids, outcome);
        let start = match self.tracer.may_report(hop.sampled, hop.never) {
            true => Start::now(request.clock, hop.sampled),
            false => Start::UNUSED,
        };
        // Gather. This step is before the injection: an attribute in `baggage` comes before the
        // entries that are joined to the list from a client's other headers.
        let gathered = match &self.attributes {
            Some(stage) => stage.gather_request(request, outcome),
            None => Gathered::default(),
        };
        self.sampler.remove_force_header(request, outcome);
        // Inject.
        let identity = hop.identity(self.tracer.client_id(ids));
        let decision = hop.decision(&identity);
        let stage = &self.propagation;
        let injected = propagation::inject(stage, &incoming, &decision, request, outcome);
        hop.write_tracestate(stage, injected, request, outcome);
        // Ids.
        let own_ids = self.record_ids(&hop, &incoming, request.arena, outcome);
        // Open.
        let details = hop.details(self.route_of(&hop, &request.headers));
        let mut span = self.tracer.open(identity, start, &request.headers, details);
        span.describe(gathered);
        TracedRequest {
            span,
            chosen: hop.chosen,
            ids: own_ids,
            own: hop.injected(&identity).to_bytes(),
        }
    }

    /// Finds this hop's place in the trace, and decides whether it is recorded.
    fn join<'a>(
        &self,
        request: &Request<'a>,
        forced: bool,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> (Hop<'a>, Incoming<'a>) {
        let tally = &mut outcome.tallies.propagation;
        let incoming = self
            .propagation
            .extract(request.headers, request.peer, tally);
        let participation = self.propagation.participate(&incoming, ids, tally);
        let members = incoming.tracestate(participation.context.trace_id);
        let state = ParsedTracestate::new(members.as_deref().unwrap_or_default());
        let trace = Joined {
            incoming: &incoming,
            participation: &participation,
            tracestate: &state,
        };
        let keeps_any = self.tracer.keeps_any();
        let sampled = self
            .sampler
            .sample(trace, forced, keeps_any, request, ids, outcome);
        let hop = Hop::new(
            participation,
            sampled,
            self.sampler.is_never(sampled.chosen),
            (&state, members.as_ref()),
            &incoming,
            request.arena,
            &mut outcome.tallies.sampling,
        );
        (hop, incoming)
    }

    /// Records the ids of the request's own span for the access log. Returns them.
    fn record_ids<'a>(
        &self,
        hop: &Hop<'_>,
        incoming: &Incoming<'_>,
        arena: &'a Arena,
        outcome: &mut Outcome<'a>,
    ) -> Ids {
        let Some(stage) = &self.access_log else {
            return Ids::default();
        };
        let context = hop.own_context();
        let parent = hop.participation.parent;
        let is_continued = parent.is_some() || incoming.continues(context.trace_id);
        let format = is_continued.then(|| incoming.trace_format()).flatten();
        let ids = Ids::of_own_span(&context, parent, format);
        access_log::record(stage, &ids, &Ids::default(), arena, outcome);
        ids
    }

    pub(super) fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        mut traced: Option<&mut TracedRequest>,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(traced) = &mut traced {
            self.tracer.on_response(&mut traced.span, response.lookup);
        }
        if let Some(stage) = &self.attributes {
            let gathered = stage.gather_response(response, outcome);
            if let Some(traced) = &mut traced {
                traced.span.describe(gathered);
            }
        }
        if let (Some(stage), Some(traced)) = (&self.access_log, traced) {
            self.settle_span_id(stage, response, traced, outcome);
            stage.inject_response_ids(&traced.ids, |header, value| {
                access_log::write_response_header(header, value, response.arena, outcome);
            });
        }
    }

    /// Without an upstream the reported span has the injected id. Then this records the injected
    /// id, for the response and for the access log.
    fn settle_span_id<'a>(
        &self,
        stage: &AccessLogIds,
        response: &Response<'a>,
        traced: &mut TracedRequest,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(upstream) = self.upstream else {
            return;
        };
        if upstream.of(response.properties).is_none()
            && let Some(client_id) = traced.span.client_id()
        {
            record_span_id(stage, client_id, &mut traced.ids, response.arena, outcome);
        }
    }

    pub(super) fn on_response_trailers(&self, lookup: &dyn Lookup, traced: &mut TracedRequest) {
        self.tracer.on_response_trailers(&mut traced.span, lookup);
    }

    pub(super) fn on_log<'a>(
        &'a self,
        request: &LoggedRequest<'a>,
        traced: Option<TracedRequest>,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(traced) = traced.or_else(|| self.open_late(request, outcome)) else {
            return;
        };
        let TracedRequest {
            span,
            chosen,
            mut ids,
            own,
        } = traced;
        let responded = span.responded;
        let route = |headers: &Headers<'_>| self.route(chosen, headers);
        let describe = |headers: Headers<'_>, attributes: &mut meshtrace_otlp::Attributes| {
            if let Some(stage) = &self.attributes {
                stage.gather_late(headers, request.lookup, request.arena, |gathered| {
                    report::add(gathered, attributes);
                });
            }
        };
        let tally = &mut outcome.tallies.report;
        let injected_id = self
            .tracer
            .close(span, request.lookup, route, describe, tally);
        if let (Some(stage), Some(span_id)) = (&self.access_log, injected_id) {
            record_span_id(stage, span_id, &mut ids, request.arena, outcome);
        }
        if report::is_redirected(responded, request.lookup) {
            outcome.own_context = Some(own);
        }
    }

    /// Opens the span of a request that the proxy answered before this filter saw it. One that was
    /// sent on without this filter, as a matcher can say, is none of its own.
    fn open_late<'a>(
        &'a self,
        logged: &LoggedRequest<'a>,
        outcome: &mut Outcome<'a>,
    ) -> Option<TracedRequest> {
        let lookup = logged.lookup;
        let sent = lookup.property(attribute::UPSTREAM_REQUEST_ATTEMPT_COUNT.property);
        if sent.as_deref().and_then(conventions::integer) > Some(0) {
            return None;
        }
        let block = lookup.request_headers()?;
        let headers = Headers::parse(&block)?;
        let duration = lookup.property(attribute::REQUEST_DURATION.property);
        let duration = duration.as_deref().and_then(conventions::integer);
        // The properties of the peer are looked up now, as far as the callback of the request's
        // headers would have needed them. A context of a peer that is not trusted is not trusted in
        // a request that was refused either.
        let ask = |path: attribute::AttributePath, is_needed: bool| {
            is_needed.then(|| lookup.property(path.property)).flatten()
        };
        let address = ask(attribute::SOURCE_ADDRESS, self.propagation.needs_address());
        let direction = ask(
            attribute::LISTENER_DIRECTION,
            self.propagation.needs_direction(),
        );
        let cluster = ask(attribute::CLUSTER_NAME, self.rules_need_cluster());
        let properties = self.request_properties.look_up(lookup);
        let own = lookup.own_context(&headers);
        let request = Request {
            headers,
            peer: Peer {
                address: address.as_deref(),
                direction: direction_of(direction.as_deref()),
                own: own.as_deref(),
            },
            cluster: cluster.as_deref(),
            properties: &properties,
            clock: lookup,
            arena: logged.arena,
            shared: logged.shared,
        };
        // Extract, and sample.
        let forced = self.sampler.is_forced(&request, outcome);
        let (hop, incoming) = self.join(&request, forced, logged.ids, outcome);
        let start = Start::earlier(lookup, duration.unwrap_or(0), hop.sampled);
        // Ids.
        let ids = self.record_ids(&hop, &incoming, logged.arena, outcome);
        // Open. No upstream was called, so there is no CLIENT span.
        let details = hop.details(self.route_of(&hop, &headers));
        let identity = hop.identity(None);
        let mut span = self.tracer.open(identity, start, &headers, details);
        // A response came already, where one was begun: none of it is a redirect.
        span.responded = true;
        if let Some(stage) = &self.attributes {
            stage.describe_late(&request, |gathered| span.describe(gathered));
        }
        Some(TracedRequest {
            span,
            chosen: hop.chosen,
            ids,
            own: hop.injected(&identity).to_bytes(),
        })
    }

    /// The template that the path of a request fits: that of its rule, or of an attribute.
    fn route(&self, chosen: Option<Chosen>, headers: &Headers<'_>) -> Option<&[u8]> {
        let of_attribute = || self.attributes.as_ref()?.template(headers);
        let template = self.sampler.template(chosen).or_else(of_attribute);
        template.map(str::as_bytes)
    }

    fn route_of(&self, hop: &Hop<'_>, headers: &Headers<'_>) -> Option<&[u8]> {
        hop.sampled
            .then(|| self.route(hop.chosen, headers))
            .flatten()
    }
}

/// Records the new id of the request's own span for the access log.
fn record_span_id<'a>(
    stage: &AccessLogIds,
    span_id: SpanId,
    ids: &mut Ids,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    let changed = Ids {
        span_id: Some(span_id),
        ..*ids
    };
    access_log::record(stage, &changed, ids, arena, outcome);
    *ids = changed;
}
