//! A compiled configuration: which rule decides about a request, and what it decides.

use meshtrace_config::{ConfigError, Environment, Mistakes, each};
use meshtrace_headers::Headers;

use crate::bucket::Bucket;
use crate::config::{ParentPolicy, RuleConfig, SamplingConfig};
use crate::decision::RuleDecision;
use crate::force::{Force, Forcing};
use crate::matcher::{Matcher, Regexes, RequestView};
use crate::probability::{Randomness, Threshold};
use crate::sample::Sample;

/// The beginning of the name of every counter of a rule.
const PREFIX: &str = "meshtrace.route_sampling";
/// The name of the default in its counters. No rule has this name in a counter.
const COUNTED_DEFAULT: &str = "default";

fn counted_rule(name: &str) -> String {
    format!("rule.{name}")
}

/// A compiled [`SamplingConfig`]: what to do with which requests.
#[derive(Clone, Debug)]
pub struct RuleSampler {
    matcher: Matcher,
    /// The decisions of the rules in their order. The default comes last.
    samples: Vec<Sample>,
    names: Vec<String>,
    /// The path template of each rule, where the rule has one.
    templates: Vec<Option<Box<str>>>,
    has_templates: bool,
    has_nevers: bool,
    parent: ParentPolicy,
    force: Option<Force>,
    request_header: Option<Box<[u8]>>,
    needs_route: bool,
    needs_cluster: bool,
}

/// The rule that decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen(usize);

impl RuleSampler {
    /// Compiles `config`. `environment` looks up the variables of the VM.
    ///
    /// # Errors
    /// When a value is impossible or two contradict each other, with the key's path.
    #[inline(never)]
    pub fn new(config: &SamplingConfig, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let conditions = mistakes.keep(config.conditions());
        let names = mistakes.keep(config.names()).unwrap_or_default();
        let samples = each("rules", &config.rules, |i, rule| {
            let name = names.get(i).map_or("", String::as_str);
            rule.sample.compile("sample", &counted_rule(name))
        });
        let mut samples = mistakes.keep(samples).unwrap_or_default();
        let has_nevers = samples.iter().any(|sample| matches!(sample, Sample::Never));
        let default = config.default.compile("default", COUNTED_DEFAULT);
        samples.extend(mistakes.keep(default));
        let templates: Vec<_> = config.rules.iter().map(RuleConfig::template).collect();
        let rules = config.rules.iter().enumerate();
        let regexes: Vec<_> = rules
            .filter_map(|(i, rule)| Some((i, rule.regex()?)))
            .collect();
        let regexes = mistakes.keep(Regexes::build(&regexes).map_err(ConfigError::from));
        let matcher = conditions.as_deref().zip(regexes);
        let matcher = matcher.map(|(rules, regexes)| Matcher::build(rules, regexes));
        let matcher = matcher.and_then(|matcher| mistakes.keep(matcher));
        let force = config.force.as_ref();
        let force = force
            .map(|force| Force::compile(force, environment))
            .transpose()
            .map_err(|error| error.below("force"));
        let force = mistakes.keep(force).flatten();
        let request_header = mistakes.keep(config.request_header());
        let compiled = matcher.zip(conditions).zip(request_header);
        let ((matcher, conditions), request_header) = mistakes.finish(compiled)?;
        Ok(Self {
            matcher,
            samples,
            names,
            has_templates: templates.iter().any(Option::is_some),
            has_nevers,
            templates,
            parent: config.parent,
            force,
            request_header,
            needs_route: conditions.iter().any(|rule| rule.route.is_some()),
            needs_cluster: conditions.iter().any(|rule| rule.cluster.is_some()),
        })
    }

    /// The rules with their names, without the default.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&str, &Sample)> {
        self.names.iter().map(String::as_str).zip(&self.samples)
    }

    /// The decision about a request that fits no rule.
    pub(crate) fn default_sample(&self) -> &Sample {
        self.samples.last().unwrap_or(&Sample::Unchanged)
    }

    /// Whether there is `force` without its secret.
    pub(crate) fn lacks_secret(&self) -> bool {
        self.force.as_ref().is_some_and(Force::is_off)
    }

    /// Whether a rule has a condition on Envoy's route.
    #[must_use]
    pub fn needs_route(&self) -> bool {
        self.needs_route
    }

    /// Whether a rule has a condition on Envoy's cluster.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        self.needs_cluster
    }

    /// Whether a rule has a [`template`](Self::template).
    #[must_use]
    pub fn has_templates(&self) -> bool {
        self.has_templates
    }

    /// Whether a rule [keeps nothing](Self::is_never).
    #[must_use]
    pub fn has_nevers(&self) -> bool {
        self.has_nevers
    }

    /// What becomes of a decision that comes in.
    #[must_use]
    pub fn parent_policy(&self) -> ParentPolicy {
        self.parent
    }

    /// The header that makes this proxy's tracer keep a trace.
    #[must_use]
    pub fn request_header(&self) -> Option<&[u8]> {
        self.request_header.as_deref()
    }

    /// The header of `force`. It must be removed from every request.
    #[must_use]
    pub fn force_header(&self) -> Option<&[u8]> {
        self.force.as_ref().map(|force| &*force.header)
    }

    /// The result of checking the header of `force` in `headers`.
    #[must_use]
    pub fn forcing(&self, headers: &Headers<'_>) -> Forcing {
        let force = self.force.as_ref();
        force.map_or(Forcing::Absent, |force| force.of(headers))
    }

    /// The rule that decides about `request`: the first that fits, else the default.
    #[must_use]
    pub fn choose(&self, request: &RequestView<'_>) -> Chosen {
        let first = self.matcher.first(request);
        Chosen(first.unwrap_or(self.names.len()))
    }

    /// As [`choose`](Self::choose), with the number of steps that it took: map look-ups, bytes of
    /// automata, words of rule sets, and candidates.
    #[must_use]
    pub fn choose_counting(&self, request: &RequestView<'_>) -> (Chosen, u64) {
        let (first, steps) = self.matcher.first_counting(request);
        (Chosen(first.unwrap_or(self.names.len())), steps)
    }

    /// The decision of the rule. `randomness` is called for a ratio only. `take` is called for a
    /// rate only, and returns whether a token is there. A randomness that is not the trace's own
    /// decides too, but then the threshold is not written for the next hop.
    pub fn should_sample(
        &self,
        chosen: Chosen,
        randomness: impl FnOnce() -> (Randomness, bool),
        take: impl FnOnce(&Bucket) -> bool,
    ) -> RuleDecision {
        match self.samples.get(chosen.0) {
            None | Some(Sample::Unchanged) => RuleDecision::Unchanged,
            Some(Sample::Always) => RuleDecision::Keep(Some(Threshold::ALWAYS)),
            Some(Sample::Never) => RuleDecision::Drop,
            Some(Sample::Ratio(threshold)) => {
                let (randomness, is_the_traces) = randomness();
                match threshold.keeps(randomness) {
                    true => RuleDecision::Keep(is_the_traces.then_some(*threshold)),
                    false => RuleDecision::Drop,
                }
            }
            Some(Sample::PerSecond(bucket)) => match take(bucket) {
                true => RuleDecision::Keep(None),
                false => RuleDecision::Drop,
            },
        }
    }

    /// The rule's name, as in its counters; `None` for the default.
    #[must_use]
    pub fn name(&self, chosen: Chosen) -> Option<&str> {
        self.names.get(chosen.0).map(String::as_str)
    }

    /// The path template that the request fits, where its rule has one.
    #[must_use]
    pub fn template(&self, chosen: Chosen) -> Option<&str> {
        self.templates.get(chosen.0)?.as_deref()
    }

    /// Whether the rule keeps no request at all. The default does not count as a rule.
    #[must_use]
    pub fn is_never(&self, chosen: Chosen) -> bool {
        chosen.0 < self.names.len() && matches!(self.samples.get(chosen.0), Some(Sample::Never))
    }

    /// The names of the rules' counters: three for each rule. Those of the default are the last.
    #[must_use]
    pub fn counters(&self) -> Vec<String> {
        let rules = self.names.iter().map(|name| counted_rule(name));
        rules
            .chain([COUNTED_DEFAULT.to_owned()])
            .flat_map(|rule| {
                ["sampled", "dropped", "unchanged"].map(|what| format!("{PREFIX}.{rule}.{what}"))
            })
            .collect()
    }

    /// The place in [`counters`](Self::counters) of the counter for this decision of the rule.
    #[must_use]
    pub fn counter(&self, chosen: Chosen, decision: RuleDecision) -> usize {
        chosen.0 * 3
            + match decision {
                RuleDecision::Keep(_) => 0,
                RuleDecision::Drop => 1,
                RuleDecision::Unchanged => 2,
            }
    }
}
