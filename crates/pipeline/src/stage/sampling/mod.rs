//! The stage `sampling`: which traces are recorded.
//!
//! [`Rules`] are evaluated for one request. [`Sampler`] decides where this project's filter is the
//! tracer. [`BeforeTracer`] and [`AfterTracer`] decide where the proxy has a tracer of its own.

mod after_tracer;
mod before_tracer;
mod sampler;
mod tracestate;

use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute;
use meshtrace_headers::{Headers, Managed};
use meshtrace_propagation::{IdGenerator, TraceId};
use meshtrace_sampling::{
    Bucket, Chosen, Counter, Forcing, Parent, Randomness, RequestView, RuleDecision, RuleSampler,
    SamplingConfig, SamplingDecision, Take, Tally,
};

pub(crate) use self::after_tracer::AfterTracer;
pub(crate) use self::before_tracer::BeforeTracer;
pub(crate) use self::sampler::{Joined, Sampled, Sampler};
pub(crate) use self::tracestate::{ParsedTracestate, build};
use crate::properties::{PropertyHandle, PropertyPaths};
use crate::stage::below;
use crate::{Clock, Environment, Outcome, Request, SharedData};

/// The filter state with the decision of the filter in front of the tracer, for the filter behind
/// the tracer and for access logs. Its value is `keep`, `drop`, `force`, or `th:` and the threshold
/// that keeps the trace.
const DECISION: &[u8] = meshtrace_envoy::filter_state::SAMPLING_DECISION.as_bytes();

/// Compiled rules, and where the name of the route is found.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    sampling: RuleSampler,
    /// `None` where no rule names a route.
    route: Option<PropertyHandle>,
}

impl Rules {
    pub(crate) fn new(
        config: &SamplingConfig,
        environment: Environment<'_>,
        properties: &mut PropertyPaths,
    ) -> Result<Self, ConfigError> {
        let sampling = RuleSampler::new(config, environment)?;
        let route = || properties.add(attribute::ROUTE_NAME.property);
        Ok(Self {
            route: sampling.needs_route().then(route),
            sampling,
        })
    }

    /// The compiled configuration.
    pub(crate) fn sampling(&self) -> &RuleSampler {
        &self.sampling
    }

    /// The warnings about the stage whose configuration is at `path`.
    pub(crate) fn cautions(&self, path: &str) -> Vec<String> {
        let mut cautions = self.cautions_where_decided(path);
        if self.sampling.is_idle() && self.sampling.force_header().is_none() {
            cautions.push(
                [
                    path,
                    ": no rule and no default decides about a request, so the stage does nothing; \
                     write `rules`, or a `default` such as {\"ratio\": 0.01}",
                ]
                .concat(),
            );
        }
        cautions
    }

    /// The same where there is a decision without a rule: the filter is the tracer, or it stands
    /// behind one and passes on what the filter in front of it decided.
    pub(crate) fn cautions_where_decided(&self, path: &str) -> Vec<String> {
        below(path, self.sampling.cautions())
    }

    /// The request headers that are removed: the secret of `force`, and this helper header.
    pub(crate) fn managed_headers<'n>(
        &'n self,
        trace_id_header: Option<&'n [u8]>,
    ) -> Vec<Managed<'n>> {
        let names = [self.sampling.force_header(), trace_id_header];
        names
            .into_iter()
            .flatten()
            .map(|name| Managed {
                name,
                leaves: false,
            })
            .collect()
    }

    /// Returns whether the header of `force` requests that the trace is kept, and counts it. The
    /// header is removed, because it holds a secret.
    pub(crate) fn take_force_header<'a>(
        &'a self,
        headers: &Headers<'_>,
        outcome: &mut Outcome<'a>,
    ) -> bool {
        let forcing = self.forcing(headers, &mut outcome.tallies.sampling);
        if forcing != Forcing::Absent
            && let Some(header) = self.sampling.force_header()
        {
            outcome.headers.remove(header);
        }
        forcing == Forcing::Forced
    }

    /// Reads what the header of `force` requests, and counts it.
    pub(crate) fn forcing(&self, headers: &Headers<'_>, tally: &mut Tally) -> Forcing {
        let forcing = self.sampling.forcing(headers);
        match forcing {
            Forcing::Absent => {}
            Forcing::Forced => tally.count(Counter::Forced),
            Forcing::Refused => tally.count(Counter::ForceRefused),
            Forcing::Off => tally.count(Counter::ForceOff),
        }
        forcing
    }

    /// The rule that the request fits. Nothing is counted, and no token is taken.
    pub(crate) fn choose(&self, request: &Request<'_>) -> Chosen {
        self.sampling.choose(&RequestView {
            route: self.route.and_then(|route| route.of(request.properties)),
            cluster: request.cluster,
            ..RequestView::of(request.headers)
        })
    }

    /// Returns the rule that the request fits and its decision, and counts them. Where the
    /// `randomness` of the trace is not known, a random one is drawn.
    pub(crate) fn should_sample(
        &self,
        request: &Request<'_>,
        randomness: Option<Randomness>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> (Chosen, RuleDecision) {
        let chosen = self.choose(request);
        let verdict = self.sampling.should_sample(
            chosen,
            || match randomness {
                Some(randomness) => (randomness, true),
                None => (Randomness::from_low_bits(ids.random()), false),
            },
            |bucket| {
                take(bucket, request.clock, request.shared).unwrap_or_else(|| {
                    outcome.tallies.sampling.count(Counter::BucketFailed);
                    false
                })
            },
        );
        let counter = self.sampling.counter(chosen, verdict);
        outcome.configured.count(counter);
        (chosen, verdict)
    }

    /// Decides about a trace whose decision came in.
    pub(crate) fn sample_child(
        &self,
        parent: Parent,
        forced: bool,
        request: &Request<'_>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> Sampled {
        let policy = self.sampling.parent_policy();
        if forced {
            Sampled::without_rule(SamplingDecision::forced(parent))
        } else if policy.keeps(parent.sampled) {
            Sampled::without_rule(SamplingDecision::of(
                parent,
                policy,
                RuleDecision::Unchanged,
            ))
        } else {
            let randomness = Some(parent.randomness);
            let (chosen, verdict) = self.should_sample(request, randomness, ids, outcome);
            Sampled {
                decision: SamplingDecision::of(parent, policy, verdict),
                chosen: Some(chosen),
            }
        }
    }
}

/// Counts what became of a decision that came in.
pub(crate) fn count_parent(parent: Parent, decision: SamplingDecision, tally: &mut Tally) {
    tally.count(match (parent.sampled, decision.sampled) {
        (true, true) => Counter::ParentSampled,
        (false, false) => Counter::ParentDropped,
        _ => Counter::ParentChanged,
    });
}

/// The randomness of a trace whose `tracestate` has none.
pub(crate) fn randomness_of(id: TraceId) -> Randomness {
    Randomness::from_low_bits(id.low())
}

/// Takes a token from the bucket. Returns whether it had one; `None` where that cannot be known.
fn take(bucket: &Bucket, clock: &dyn Clock, shared: &dyn SharedData) -> Option<bool> {
    let now = clock.monotonic()?;
    if bucket.is_known_empty(now) {
        return Some(false);
    }
    let mut taken = false;
    let done = shared.update(
        bucket.key(),
        &mut |content| match bucket.take(content, now) {
            Take::Write(content) => {
                taken = true;
                Some(content)
            }
            Take::Empty => {
                taken = false;
                None
            }
        },
    );
    done.then_some(taken)
}
