//! The stage `sampling`: what the rules say about a request, and how `tracestate` tells of it.

use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute;
use meshtrace_headers::Headers;
use meshtrace_propagation::{IdGenerator, TraceId, tracestate};
use meshtrace_sampling::{
    Bucket, Chosen, Counter, Decision, Forcing, OtelState, Parent, Randomness, RequestView,
    Sampling, SamplingConfig, Take, Tally, Threshold, Verdict,
};

use crate::callbacks::concat;
use crate::{Arena, Clock, Environment, Outcome, SharedData};

/// The property that a rule with `route` asks for.
const ROUTE: &[u8] = attribute::ROUTE_NAME.property;

/// Compiled rules.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Sampling);

/// A request as the rules are asked about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) headers: Headers<'r>,
    /// The value of [`Rules::property`].
    pub(crate) route: Option<&'r [u8]>,
    pub(crate) cluster: Option<&'r [u8]>,
    pub(crate) clock: &'r dyn Clock,
    pub(crate) shared: &'r dyn SharedData,
}

impl Rules {
    pub(crate) fn new(
        config: &SamplingConfig,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        Sampling::new(config, environment).map(Self)
    }

    /// The compiled configuration.
    pub(crate) fn sampling(&self) -> &Sampling {
        &self.0
    }

    /// What the host must look up, besides the cluster.
    pub(crate) fn property(&self) -> Option<&'static [u8]> {
        self.0.needs_route().then_some(ROUTE)
    }

    /// Whether the request is to be kept whatever the rules say. The secret goes no further.
    pub(crate) fn take_force_header<'a>(
        &'a self,
        headers: &Headers<'_>,
        outcome: &mut Outcome<'a>,
    ) -> bool {
        let forcing = self.forcing(headers, &mut outcome.tallies.sampling);
        if forcing != Forcing::Absent
            && let Some(header) = self.0.force_header()
        {
            outcome.headers.remove(header);
        }
        forcing == Forcing::Forced
    }

    /// What the header of `force` says, counted.
    pub(crate) fn forcing(&self, headers: &Headers<'_>, tally: &mut Tally) -> Forcing {
        let forcing = self.0.forcing(headers);
        match forcing {
            Forcing::Absent => {}
            Forcing::Forced => tally.count(Counter::Forced),
            Forcing::Refused => tally.count(Counter::ForceRefused),
            Forcing::Off => tally.count(Counter::ForceOff),
        }
        forcing
    }

    /// The rule that the request fits; nothing comes of it.
    pub(crate) fn choose(&self, asked: &Asked<'_>) -> Chosen {
        self.0.choose(&RequestView {
            route: asked.route,
            cluster: asked.cluster,
            ..RequestView::of(asked.headers)
        })
    }

    /// What the rule of the request says, counted. A `randomness` that is not the trace's is drawn.
    pub(crate) fn ask(
        &self,
        asked: &Asked<'_>,
        randomness: Option<Randomness>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> (Chosen, Verdict) {
        let chosen = self.choose(asked);
        let verdict = self.0.verdict(
            chosen,
            || match randomness {
                Some(randomness) => (randomness, true),
                None => (Randomness::from_low_bits(ids.random()), false),
            },
            |bucket| {
                take(bucket, asked.clock, asked.shared).unwrap_or_else(|| {
                    outcome.tallies.sampling.count(Counter::BucketFailed);
                    false
                })
            },
        );
        let counter = self.0.counter(chosen, verdict);
        outcome.configured.count(counter);
        (chosen, verdict)
    }

    /// What becomes of a decision that came in, and the rule where one was asked.
    pub(crate) fn settle(
        &self,
        parent: Parent,
        forced: bool,
        asked: &Asked<'_>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> (Decision, Option<Chosen>) {
        let policy = self.0.parent_policy();
        if forced {
            (Decision::forced(parent), None)
        } else if policy.keeps(parent.sampled) {
            (Decision::of(parent, policy, Verdict::Unchanged), None)
        } else {
            let (chosen, verdict) = self.ask(asked, Some(parent.randomness), ids, outcome);
            (Decision::of(parent, policy, verdict), Some(chosen))
        }
    }
}

/// Counts what became of a decision that came in.
pub(crate) fn count_parent(parent: Parent, decision: Decision, tally: &mut Tally) {
    tally.count(match (parent.sampled, decision.sampled) {
        (true, true) => Counter::ParentSampled,
        (false, false) => Counter::ParentDropped,
        _ => Counter::ParentChanged,
    });
}

/// The randomness of a trace of which nobody says another one.
pub(crate) fn of_trace_id(id: TraceId) -> Randomness {
    Randomness::from_low_bits(id.low())
}

/// The `tracestate` of a trace, and its member `ot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<'s> {
    members: &'s [tracestate::Member<'s>],
    ot: OtelState<'s>,
}

impl<'s> State<'s> {
    pub(crate) fn of(members: &'s [tracestate::Member<'s>]) -> Self {
        let own = members.iter().find(|member| member.key == OtelState::KEY);
        Self {
            members,
            ot: own.map_or_else(OtelState::default, |member| OtelState::parse(member.value)),
        }
    }

    /// The randomness of the trace `id`.
    pub(crate) fn randomness(&self, id: TraceId) -> Randomness {
        self.ot.randomness.unwrap_or_else(|| of_trace_id(id))
    }

    /// The decision that came in with the trace `id`.
    pub(crate) fn parent(&self, id: TraceId, sampled: bool) -> Parent {
        Parent {
            sampled,
            threshold: self.ot.threshold,
            randomness: self.randomness(id),
        }
    }

    /// The text that tells of `threshold`; `None` where it does already. Empty where nothing is left
    /// to tell.
    pub(crate) fn telling<'a>(
        &self,
        threshold: Option<Threshold>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Option<&'a [u8]> {
        if self.ot.threshold == threshold {
            return None;
        }
        if threshold.is_none() {
            tally.count(Counter::ThresholdErased);
        }
        let value = self.ot.with_threshold(threshold);
        let value = (!value.is_empty()).then_some(value.as_slice());
        let parts = tracestate::with_member(self.members, OtelState::KEY, value);
        build(parts, arena, tally)
    }
}

/// Concatenates `parts` in the request's arena.
pub(crate) fn build<'a, 'p>(
    parts: impl IntoIterator<Item = &'p [u8]>,
    arena: &'a Arena,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let text = concat(arena, parts);
    if text.is_none() {
        tally.count(Counter::EditsDropped);
    }
    text
}

/// Whether a token was there; `None` when that cannot be told.
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
