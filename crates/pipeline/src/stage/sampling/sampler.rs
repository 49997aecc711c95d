//! The decision where this filter is the tracer.

use meshtrace_config::ConfigError;
use meshtrace_propagation::{IdGenerator, Incoming, Participation};
use meshtrace_sampling::{
    Chosen, Counter, Forcing, Randomness, RuleDecision, SamplingConfig, SamplingDecision, Threshold,
};

use super::{ParsedTracestate, Rules, count_parent};
use crate::properties::PropertyPaths;
use crate::{Environment, Outcome, Request};

/// Decides which traces are recorded. In OpenTelemetry this is the sampler.
#[derive(Debug)]
pub(crate) enum Sampler {
    /// The stage `sampling` of the configuration.
    ByRules(Box<Rules>),
    /// Without that stage, a decision that came in is kept. Of the other traces one in a hundred is
    /// recorded.
    ParentBased,
}

/// The decision about a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampled {
    pub(crate) decision: SamplingDecision,
    /// The rule that the request fits, where the rules were searched.
    pub(crate) chosen: Option<Chosen>,
}

impl Sampled {
    pub(super) fn without_rule(decision: SamplingDecision) -> Self {
        Self {
            decision,
            chosen: None,
        }
    }
}

/// The trace to decide about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined<'t> {
    pub(crate) incoming: &'t Incoming<'t>,
    pub(crate) participation: &'t Participation,
    pub(crate) tracestate: &'t ParsedTracestate<'t>,
}

impl Sampler {
    pub(crate) fn new(
        config: Option<&SamplingConfig>,
        environment: Environment<'_>,
        properties: &mut PropertyPaths,
    ) -> Result<Self, ConfigError> {
        let Some(config) = config else {
            return Ok(Self::ParentBased);
        };
        let rules = Rules::new(config, environment, properties)?;
        Ok(Self::ByRules(Box::new(rules)))
    }

    pub(crate) fn rules(&self) -> Option<&Rules> {
        match self {
            Self::ByRules(rules) => Some(rules),
            Self::ParentBased => None,
        }
    }

    pub(crate) fn summary(&self) -> String {
        let one_in_a_hundred = Threshold::ONE_IN_A_HUNDRED.in_words();
        match self {
            Self::ByRules(rules) => rules.sampling().summary(&one_in_a_hundred),
            Self::ParentBased => format!(
                "samples {one_in_a_hundred} of those that begin here; a caller's decision stands"
            ),
        }
    }

    /// Returns whether the header of `force` requests that the trace is kept, and counts it.
    pub(crate) fn is_forced(&self, request: &Request<'_>, outcome: &mut Outcome<'_>) -> bool {
        let tally = &mut outcome.tallies.sampling;
        self.rules()
            .is_some_and(|rules| rules.forcing(&request.headers, tally) == Forcing::Forced)
    }

    /// Removes the header of `force`, because it holds a secret. It is removed also where an
    /// attribute is written under its name.
    pub(crate) fn remove_force_header<'a>(
        &'a self,
        request: &Request<'_>,
        outcome: &mut Outcome<'a>,
    ) {
        let header = self
            .rules()
            .and_then(|rules| rules.sampling().force_header());
        if let Some(header) = header.filter(|header| request.headers.contains(header)) {
            outcome.headers.remove(header);
        }
    }

    /// Whether a `never` rule applies to the request.
    pub(crate) fn is_never(&self, chosen: Option<Chosen>) -> bool {
        let is_never = |rules: &Rules| Some(rules.sampling().is_never(chosen?));
        self.rules().and_then(is_never).unwrap_or(false)
    }

    /// The path template of the rule.
    pub(crate) fn template(&self, chosen: Option<Chosen>) -> Option<&str> {
        self.rules()?.sampling().template(chosen?)
    }

    /// Decides about a trace. `keeps_any` is whether a trace that is not sampled may be reported.
    pub(crate) fn sample(
        &self,
        trace: Joined<'_>,
        forced: bool,
        keeps_any: bool,
        request: &Request<'_>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> Sampled {
        let rules = match self {
            Self::ByRules(rules) => rules,
            Self::ParentBased => return Sampled::without_rule(parent_based(trace)),
        };
        let sampled = sample_by_rules(rules, trace, forced, request, ids, outcome);
        let compiled = rules.sampling();
        let needs_rule = match sampled.decision.sampled {
            true => compiled.has_templates(),
            false => keeps_any && (compiled.has_nevers() || compiled.has_templates()),
        };
        let rule = || needs_rule.then(|| rules.choose(request));
        Sampled {
            chosen: sampled.chosen.or_else(rule),
            ..sampled
        }
    }
}

fn parent_based(trace: Joined<'_>) -> SamplingDecision {
    let context = &trace.participation.context;
    let Some(sampled) = context.sampling.decision() else {
        let randomness = trace.tracestate.randomness(context.trace_id);
        return sample_root(RuleDecision::Unchanged, randomness);
    };
    let parent = trace.tracestate.parent(context.trace_id, sampled);
    match trace.incoming.w3c_decision(context.trace_id) {
        Some(own) if own == sampled => SamplingDecision::untouched(parent),
        _ => SamplingDecision::stands(parent),
    }
}

fn sample_by_rules(
    rules: &Rules,
    trace: Joined<'_>,
    forced: bool,
    request: &Request<'_>,
    ids: &IdGenerator,
    outcome: &mut Outcome<'_>,
) -> Sampled {
    let context = &trace.participation.context;
    if let Some(sampled) = context.sampling.decision() {
        let parent = trace.tracestate.parent(context.trace_id, sampled);
        let sampled = match trace.incoming.is_decided() {
            true => Sampled::without_rule(SamplingDecision::stands(parent)),
            false => rules.sample_child(parent, forced, request, ids, outcome),
        };
        count_parent(parent, sampled.decision, &mut outcome.tallies.sampling);
        return sampled;
    }
    if trace.participation.parent.is_some() {
        let tally = &mut outcome.tallies.sampling;
        tally.count(Counter::ParentDeferred);
    }
    let randomness = trace.tracestate.randomness(context.trace_id);
    if forced {
        return Sampled::without_rule(sample_root(RuleDecision::Keep(None), randomness));
    }
    let (chosen, verdict) = rules.should_sample(request, Some(randomness), ids, outcome);
    Sampled {
        decision: sample_root(verdict, randomness),
        chosen: Some(chosen),
    }
}

/// Decides about a trace that came without a decision, by the decision of its rule. Where the rule
/// has none, one in a hundred is recorded.
fn sample_root(verdict: RuleDecision, randomness: Randomness) -> SamplingDecision {
    let by_ratio = Threshold::ONE_IN_A_HUNDRED;
    let (sampled, threshold) = match verdict {
        RuleDecision::Keep(threshold) => (true, threshold),
        RuleDecision::Unchanged if by_ratio.keeps(randomness) => (true, Some(by_ratio)),
        RuleDecision::Unchanged | RuleDecision::Drop => (false, None),
    };
    SamplingDecision { sampled, threshold }
}
