//! The stage behind the proxy's own tracer. It can change the context for the next hop, but not the
//! proxy's own span.

use meshtrace_config::{ConfigError, Mistakes, RequestHeaders};
use meshtrace_headers::{Managed, Value};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    Field, IdGenerator, Outgoing, Propagation, SamplingState, Tally, TraceContext, tracestate,
};
use meshtrace_sampling::{Parent, SamplingConfig, SamplingDecision, Threshold};

use super::before_tracer::extraction;
use super::{DECISION, ParsedTracestate, Rules, count_parent};
use crate::by_filter_state;
use crate::properties::{PropertyHandle, PropertyPaths};
use crate::{Environment, Outcome, Request};

/// The stage behind a tracer.
#[derive(Clone, Debug)]
pub(crate) struct AfterTracer {
    rules: Rules,
    propagation: Propagation,
    /// Where the decision of the filter in front of the tracer is found.
    decided: PropertyHandle,
}

impl AfterTracer {
    pub(crate) fn new(
        config: &SamplingConfig,
        environment: Environment<'_>,
        properties: &mut PropertyPaths,
    ) -> Result<Self, ConfigError> {
        let decided = properties.add(DECISION);
        let mut mistakes = Mistakes::default();
        let rules = mistakes.keep(Rules::new(config, environment, properties));
        mistakes.require(
            config.ids.trace_id_header.is_none(),
            "ids.trace_id_header",
            "not with placement \"upstream\", where the tracer has written the trace id",
        );
        let propagation = mistakes.keep(extraction(config));
        if config.request_headers == Some(RequestHeaders::FilterState) {
            mistakes.keep(by_filter_state::refuse_upstream(config.placement));
        }
        let (rules, propagation) = mistakes.finish(rules.zip(propagation))?;
        Ok(Self {
            rules,
            propagation,
            decided,
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn summary(&self) -> String {
        let tracer = self.propagation.tracer_format().map_or("", Format::name);
        let rules = self.rules.sampling().summary("as the tracer decided");
        format!("changes what this proxy's tracer decided in its {tracer} headers: {rules}")
    }

    pub(crate) fn managed_headers(&self) -> Vec<Managed<'_>> {
        self.rules.managed_headers(None)
    }

    /// Changes the decision that the tracer has written, where the filter in front of it or a rule
    /// decided otherwise.
    pub(crate) fn sample<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) {
        let forced = self.rules.take_force_header(&request.headers, outcome);
        let tally = &mut Tally::default();
        let incoming = self
            .propagation
            .extract(request.headers, request.peer, tally);
        if let Some(name) = self.rules.sampling().request_header()
            && request.headers.contains(name)
        {
            outcome.headers.remove(name);
        }
        let Some(context) = incoming.context() else {
            return;
        };
        let Some(sampled) = context.sampling.decision() else {
            return;
        };
        let arrived = incoming.arrived();
        let lines = arrived.lines(Field::Tracestate);
        let members = match incoming.format() {
            Some(Format::Tracecontext) => Some(tracestate::parse(lines).unwrap_or_default()),
            _ => None,
        };
        let state = ParsedTracestate::new(members.as_deref().unwrap_or_default());
        let parent = state.parent(context.trace_id, sampled);
        let decision = match self.decided.of(request.properties) {
            Some(decided) if !forced && decided != b"force" => as_decided(decided, parent),
            decided => {
                let forced = forced || decided.is_some();
                let sampled = self
                    .rules
                    .sample_child(parent, forced, request, ids, outcome);
                sampled.decision
            }
        };
        count_parent(parent, decision, &mut outcome.tallies.sampling);
        if sampled != decision.sampled {
            // W3C Trace Context, section 3.4: a changed flag needs a new parent id.
            let outgoing = Outgoing::Context(TraceContext {
                span_id: ids.span_id(),
                sampling: match decision.sampled {
                    true => SamplingState::Sampled,
                    false => SamplingState::NotSampled,
                },
                b3_parent: Some(context.span_id),
                ..*context
            });
            let (edits, tally) = (&mut outcome.headers, &mut Tally::default());
            let policy = self
                .propagation
                .policy_for(&request.headers, request.cluster);
            self.propagation
                .inject(&incoming, &outgoing, policy, edits, tally);
        }
        if members.is_some() {
            let tally = &mut outcome.tallies.sampling;
            let name = Field::Tracestate.name();
            match state.with_threshold(decision.threshold, request.arena, tally) {
                None => {}
                Some([]) => outcome.headers.remove(name),
                Some(text) => outcome.headers.replace(name, Value::Borrowed(text)),
            }
        }
    }
}

/// The decision of the filter in front of the tracer about a trace that began in this proxy. The
/// tracer's own decision stands: there is a span, or there is none.
fn as_decided(decided: &[u8], parent: Parent) -> SamplingDecision {
    let threshold = decided.strip_prefix(b"th:").and_then(Threshold::parse);
    let threshold =
        threshold.filter(|threshold| parent.sampled && threshold.keeps(parent.randomness));
    SamplingDecision {
        sampled: parent.sampled,
        threshold,
    }
}
