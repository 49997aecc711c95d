//! The stage in front of the proxy's own tracer. It writes a header that makes that tracer record a
//! trace that begins here.

use meshtrace_config::{ConfigError, Mistakes, RequestHeaders};
use meshtrace_headers::{Managed, Value};
use meshtrace_propagation::{
    IdGenerator, InjectConfig, Placement, Propagation, Tally, TraceContextConfig, TraceId,
};
use meshtrace_sampling::{Counter, RuleDecision, SamplingConfig};

use super::{DECISION, Rules, build, randomness_of};
use crate::by_filter_state;
use crate::properties::PropertyPaths;
use crate::{Environment, Outcome, Request};

/// The stage in front of a tracer.
#[derive(Clone, Debug)]
pub(crate) struct BeforeTracer {
    rules: Rules,
    /// Reads what came in, and writes nothing.
    propagation: Propagation,
    trace_id_header: Option<Box<[u8]>>,
}

impl BeforeTracer {
    pub(crate) fn new(
        config: &SamplingConfig,
        asked: Option<RequestHeaders>,
        environment: Environment<'_>,
        properties: &mut PropertyPaths,
    ) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let rules = mistakes.keep(Rules::new(config, environment, properties));
        let propagation = mistakes.keep(extraction(config));
        let trace_id_header = mistakes.keep(config.trace_id_header());
        let compiled = rules.zip(propagation).zip(trace_id_header);
        let ((rules, propagation), trace_id_header) = mistakes.finish(compiled)?;
        if asked == Some(RequestHeaders::FilterState) && rules.sampling().request_header().is_some()
        {
            return Err(by_filter_state::refusal(
                "\"filter_state\" only with `request_header` null: this proxy's tracer reads that \
                 header among the request's own, and reads it because of the edit",
            ));
        }
        Ok(Self {
            rules,
            propagation,
            trace_id_header,
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn summary(&self) -> String {
        self.rules
            .sampling()
            .summary("as this proxy's tracer decides")
    }

    pub(crate) fn managed_headers(&self) -> Vec<Managed<'_>> {
        self.rules.managed_headers(self.trace_id_header.as_deref())
    }

    /// Writes the header that makes the tracer record a trace that begins here, where a rule
    /// requires it. A trace that came in cannot be changed: the tracer has read its decision
    /// already.
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
        let trace_id = self.take_trace_id_header(request, outcome);
        // Envoy's tracer also decides about a context without a decision when it reads the context.
        let parent = match incoming.decision() {
            Some(true) => Some(Counter::ParentSampled),
            Some(false) => Some(Counter::ParentDropped),
            None => incoming.context().map(|_| Counter::ParentDeferred),
        };
        if let Some(parent) = parent {
            outcome.tallies.sampling.count(parent);
            if forced {
                outcome.properties.set(DECISION, b"force");
            }
            return;
        }
        let verdict = match forced {
            true => RuleDecision::Keep(None),
            false => {
                let randomness = trace_id.map(randomness_of);
                self.rules
                    .should_sample(request, randomness, ids, outcome)
                    .1
            }
        };
        if let Some(name) = self.rules.sampling().request_header() {
            let is_there = request.headers.contains(name);
            match verdict {
                RuleDecision::Keep(_) => outcome.headers.replace(name, Value::Borrowed(b"true")),
                RuleDecision::Drop if is_there => outcome.headers.remove(name),
                RuleDecision::Drop | RuleDecision::Unchanged => {}
            }
        }
        let decision: Option<&[u8]> = match verdict {
            RuleDecision::Unchanged => None,
            RuleDecision::Drop => Some(b"drop"),
            RuleDecision::Keep(_) if forced => Some(b"force"),
            RuleDecision::Keep(None) => Some(b"keep"),
            RuleDecision::Keep(Some(threshold)) => {
                let text: &[u8] = &threshold.to_text();
                let tally = &mut outcome.tallies.sampling;
                build([b"th:", text], request.arena, tally)
            }
        };
        if let Some(decision) = decision {
            outcome.properties.set(DECISION, decision);
        }
    }

    fn take_trace_id_header<'a>(
        &'a self,
        request: &Request<'a>,
        outcome: &mut Outcome<'a>,
    ) -> Option<TraceId> {
        let name = self.trace_id_header.as_deref()?;
        let text = request.headers.lines(name).next()?;
        outcome.headers.remove(name);
        TraceId::parse(text)
    }
}

/// Reads the formats that the configuration names, and injects none.
pub(super) fn extraction(config: &SamplingConfig) -> Result<Propagation, ConfigError> {
    let placement: Placement = config.placement;
    Propagation::new(&TraceContextConfig {
        placement,
        extract: config.extract.clone(),
        tracer: config.tracer,
        inject: Some(InjectConfig::Formats(Vec::new())),
        ..TraceContextConfig::default()
    })
}
