//! The mode without `report`: the proxy may have a tracer of its own, and this filter does the work
//! of the single filters in one pass.

use meshtrace_access_log::{AccessLogIds, Arrival};
use meshtrace_config::{ConfigError, Mistakes, RequestHeaders, both};
use meshtrace_headers::{Headers, Managed};
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::{IdGenerator, Placement, Propagation};
use meshtrace_sampling::Counter;

use super::refusal::{access_log_stage, refuse_upstream};
use super::{ATTRIBUTES, SAMPLING};
use crate::by_filter_state;
use crate::properties::PropertyPaths;
use crate::stage::attributes::AttributesStage;
use crate::stage::sampling::BeforeTracer;
use crate::stage::{access_log, propagation};
use crate::warning::Watch;
use crate::{Environment, LoggedRequest, Needs, Outcome, Request, Response};

/// The stages. A stage is present where it is configured.
#[derive(Debug)]
pub(super) struct BesideTracer {
    propagation: Option<Propagation>,
    sampling: Option<BeforeTracer>,
    attributes: Option<AttributesStage>,
    access_log: Option<AccessLogIds>,
    request_properties: PropertyPaths,
    response_properties: PropertyPaths,
    ids_watch: Watch,
}

impl BesideTracer {
    #[inline(never)]
    pub(super) fn new(
        config: &MeshTracingConfig,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let mut request_properties = PropertyPaths::default();
        let mut response_properties = PropertyPaths::default();
        let propagation = config.trace_context.as_ref().map(|config| {
            both(refuse_upstream(config.placement), Propagation::new(config))
                .map_err(|error| error.below("trace_context"))
        });
        let mut mistakes = Mistakes::default();
        let propagation = mistakes.keep(propagation.transpose());
        let sampling = config.sampling.as_ref().map(|stage| {
            let asked = config.request_headers;
            let compiled = BeforeTracer::new(stage, asked, environment, &mut request_properties);
            both(refuse_upstream(stage.placement), compiled)
                .map_err(|error| error.below("sampling"))
        });
        let sampling = mistakes.keep(sampling.transpose());
        let attributes = config.span_attributes.as_ref().map(|config| {
            AttributesStage::new(
                config,
                environment,
                &mut request_properties,
                &mut response_properties,
            )
            .map_err(|error| error.below("span_attributes"))
        });
        let attributes = mistakes.keep(attributes.transpose());
        let access_log = mistakes.keep(access_log_stage(config));
        let compiled = propagation.zip(sampling).zip(attributes).zip(access_log);
        let (((propagation, sampling), attributes), access_log) = mistakes.finish(compiled)?;
        Ok(Self {
            propagation,
            sampling,
            attributes,
            access_log,
            request_properties,
            response_properties,
            ids_watch: Watch::default(),
        })
    }

    pub(super) fn managed_headers(
        &self,
        asked: Option<RequestHeaders>,
    ) -> Result<Vec<Managed<'_>>, ConfigError> {
        let mut managed = match &self.propagation {
            Some(propagation) => {
                by_filter_state::of_propagation(propagation, asked, Placement::Downstream)?
            }
            None => Vec::new(),
        };
        managed.extend(self.sampling.iter().flat_map(BeforeTracer::managed_headers));
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
        let sampling = self.sampling.as_ref();
        sampling.map_or_else(Vec::new, |stage| stage.rules().sampling().counters())
    }

    pub(super) fn writes_context(&self) -> bool {
        self.propagation.is_some()
    }

    pub(super) fn summary(&self) -> String {
        let stages = [
            self.propagation.as_ref().map(Propagation::summary),
            self.sampling.as_ref().map(BeforeTracer::summary),
            self.attributes.as_ref().map(AttributesStage::summary),
            self.access_log.as_ref().map(AccessLogIds::summary),
        ];
        let mut parts: Vec<String> = stages.into_iter().flatten().collect();
        parts.push(match parts.is_empty() {
            true => "does nothing: no stage is configured".to_owned(),
            false => "makes no spans: `report` is not configured".to_owned(),
        });
        parts.join("; it ")
    }

    pub(super) fn cautions(&self) -> Vec<String> {
        let sampling = self.sampling.as_ref();
        let attributes = self.attributes.as_ref();
        let mut cautions = sampling.map_or_else(Vec::new, |stage| stage.rules().cautions(SAMPLING));
        cautions.extend(attributes.map_or_else(Vec::new, |stage| stage.cautions(ATTRIBUTES)));
        let has_others = self.propagation.is_some() || self.access_log.is_some();
        if sampling.is_none() && attributes.is_none() && !has_others {
            cautions.push(
                "mesh_tracing: no stage is configured, so the filter does nothing; write \
                 {\"report\": {\"cluster\": \"CLUSTER\"}} for spans, with the name of your \
                 collector's cluster, or {\"trace_context\": {}} for trace headers alone"
                    .to_owned(),
            );
        }
        cautions
    }

    pub(super) fn needs(&self) -> Needs<'_> {
        let propagation = self.propagation.as_ref();
        let sampling = self.sampling.as_ref();
        let attributes = self.attributes.as_ref();
        Needs {
            address: propagation.is_some_and(Propagation::needs_address),
            direction: propagation.is_some_and(Propagation::needs_direction),
            own_context: propagation.is_some_and(Propagation::needs_own_context),
            own_context_of_redirected: false,
            cluster: propagation.is_some_and(Propagation::needs_cluster)
                || sampling.is_some_and(|stage| stage.rules().sampling().needs_cluster()),
            request_properties: &self.request_properties,
            response_headers: attributes.is_some_and(AttributesStage::needs_response_headers),
            response_properties: &self.response_properties,
        }
    }

    /// Returns the contexts that came in, where the access log needs them later.
    pub(super) fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) -> Option<Arrival> {
        // Extract.
        let context = self.propagation.as_ref().map(|stage| {
            let tally = &mut outcome.tallies.propagation;
            let incoming = stage.extract(request.headers, request.peer, tally);
            let decision = stage.decide(&incoming, ids, tally);
            (stage, incoming, decision)
        });
        // Gather.
        if let Some(stage) = &self.attributes {
            stage.gather_request(request, outcome);
        }
        // Ids. This step is before the injection: the helper headers of the ids are removed, and
        // one of them may have the name of a header of the context.
        let believed = context
            .as_ref()
            .is_none_or(|(_, incoming, _)| incoming.is_believed());
        let access_log = self.access_log.as_ref();
        let arrival = access_log
            .map(|stage| access_log::read(stage, &self.ids_watch, request, believed, outcome));
        // Inject.
        if let Some((stage, incoming, decision)) = &context {
            propagation::inject(stage, incoming, decision, request, outcome);
            propagation::erase_threshold(stage, incoming, decision, request, outcome);
        }
        // Sample. This step writes a header by which the proxy's tracer decides later. It is the
        // last step, so that the header is kept where the stages above remove a client's header of
        // the same name.
        if let Some(stage) = &self.sampling {
            stage.sample(request, ids, outcome);
        }
        if self.sampling.is_some() && outcome.headers.overflowed() {
            outcome.tallies.sampling.count(Counter::EditsDropped);
        }
        arrival
    }

    pub(super) fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        arrival: Option<&Arrival>,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(stage) = &self.attributes {
            stage.gather_response(response, outcome);
        }
        if let (Some(stage), Some(arrival)) = (&self.access_log, arrival) {
            stage.inject_response(arrival, |header, value| {
                access_log::write_response_header(header, value, response.arena, outcome);
            });
        }
    }

    pub(super) fn on_log<'a>(
        &self,
        request: &LoggedRequest<'a>,
        arrival: Option<&Arrival>,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(stage) = &self.access_log else {
            return;
        };
        let Some(block) = request.lookup.request_headers() else {
            return;
        };
        let headers = Headers::parse(&block).unwrap_or_default();
        // A request that was answered before this filter saw it: its trace is the caller's claim.
        let of_stage = self.propagation.as_ref();
        if arrival.is_none()
            && of_stage
                .is_some_and(|stage| !propagation::believes_late(stage, &headers, request.lookup))
        {
            return;
        }
        access_log::record_end(stage, arrival, headers, request.arena, outcome);
    }
}
