//! `route_sampling`: which traces are recorded, by rule.

use meshtrace_config::ConfigError;
use meshtrace_headers::Value;
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    Field, IdGenerator, Incoming, InjectConfig, Outgoing, Placement, Propagation, Sampling as Flag,
    Tally, TraceContext, TraceContextConfig, TraceId, tracestate,
};
use meshtrace_sampling::{
    Bucket, Counter, Decision, Forcing, OtelState, Parent, Randomness, RequestView, Sampling,
    SamplingConfig, Take, Threshold, Verdict,
};

use crate::view::concat;
use crate::{Callback, Composition, Environment, Needs, Outcome, Request, Shared, Stage};

/// The filter state by which the downstream filter tells the upstream one, and access logs, what
/// was decided: `keep`, `drop`, `force`, or `th:` and the threshold that keeps it.
const DECISION: &[u8] = b"sampling_decision";
const ROUTE: &[u8] = b"xds\0route_name";
const CLUSTER: &[u8] = b"xds\0cluster_name";

/// The `route_sampling` filter.
#[derive(Clone, Debug)]
pub struct RouteSampling {
    sampling: Sampling,
    propagation: Propagation,
    placement: Placement,
    trace_id_header: Option<Box<[u8]>>,
    properties: Vec<Box<[u8]>>,
}

impl Composition for RouteSampling {
    const NAME: &'static str = "route_sampling";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders];
    const STAGES: &'static [Stage] = &[Stage::Sampling];
    type Kept = ();

    fn from_json(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_config::read::<SamplingConfig>(json)
            .and_then(|config| Self::new(&config, environment))
            .map_err(|error| error.below(Self::NAME))
    }

    fn counters(&self) -> Vec<String> {
        self.sampling.counters()
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            request_properties: &self.properties,
            ..Needs::default()
        }
    }

    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        let forced = self.take_force_header(request, outcome);
        let incoming =
            self.propagation
                .extract(request.headers, request.peer, &mut Tally::default());
        match self.placement {
            Placement::Downstream => self.downstream(request, forced, &incoming, ids, outcome),
            Placement::Upstream => self.upstream(request, forced, &incoming, ids, outcome),
        }
        if outcome.headers.overflowed() {
            outcome.tallies.sampling.count(Counter::EditsDropped);
        }
    }
}

impl RouteSampling {
    /// Compiles `config`; `environment` tells the VM's variables.
    ///
    /// # Errors
    /// When a value is impossible or two contradict each other, with the key's path.
    pub fn new(config: &SamplingConfig, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let sampling = Sampling::new(config, environment)?;
        let is_upstream = config.placement == Placement::Upstream;
        if is_upstream && config.ids.trace_id_header.is_some() {
            return Err(ConfigError::new(
                "ids.trace_id_header",
                "not with placement \"upstream\", where the tracer has written the trace id",
            ));
        }
        let propagation = Propagation::new(&TraceContextConfig {
            placement: config.placement,
            extract: config.extract.clone(),
            tracer: config.tracer,
            inject: Some(InjectConfig::Formats(Vec::new())),
            ..TraceContextConfig::default()
        })?;
        let asked = [
            (is_upstream, DECISION),
            (sampling.needs_route(), ROUTE),
            (sampling.needs_cluster(), CLUSTER),
        ];
        Ok(Self {
            propagation,
            placement: config.placement,
            trace_id_header: config.trace_id_header()?,
            properties: asked
                .iter()
                .filter(|(is_needed, _)| *is_needed)
                .map(|(_, path)| (*path).into())
                .collect(),
            sampling,
        })
    }

    /// Whether the request is to be kept whatever the rules say. The secret goes no further.
    fn take_force_header<'a>(&'a self, request: &Request<'a>, outcome: &mut Outcome<'a>) -> bool {
        let forcing = self.sampling.forcing(&request.headers);
        let tally = &mut outcome.tallies.sampling;
        match forcing {
            Forcing::Absent => return false,
            Forcing::Forced => tally.count(Counter::Forced),
            Forcing::Refused => tally.count(Counter::ForceRefused),
            Forcing::Off => tally.count(Counter::ForceOff),
        }
        if let Some(header) = self.sampling.force_header() {
            outcome.headers.remove(header);
        }
        forcing == Forcing::Forced
    }

    /// Before the tracer writes: its own decision about a trace that begins here follows a header.
    /// A trace that came in is out of reach.
    fn downstream<'a>(
        &'a self,
        request: &Request<'a>,
        forced: bool,
        incoming: &Incoming<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) {
        let trace_id = self.take_trace_id_header(request, outcome);
        // Envoy's tracer decides about a context without a decision when it reads it, too.
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
            true => Verdict::Keep(None),
            false => self.ask_rules(request, trace_id.map(of_trace_id), ids, outcome),
        };
        if let Some(name) = self.sampling.request_header() {
            let is_there = request.headers.contains(name);
            match verdict {
                Verdict::Keep(_) => outcome.headers.replace(name, Value::Borrowed(b"true")),
                Verdict::Drop if is_there => outcome.headers.remove(name),
                Verdict::Drop | Verdict::Unchanged => {}
            }
        }
        let told: Option<&[u8]> = match verdict {
            Verdict::Unchanged => None,
            Verdict::Drop => Some(b"drop"),
            Verdict::Keep(_) if forced => Some(b"force"),
            Verdict::Keep(None) => Some(b"keep"),
            Verdict::Keep(Some(threshold)) => {
                let text: &[u8] = &threshold.to_text();
                build(request, [b"th:", text], outcome)
            }
        };
        if let Some(told) = told {
            outcome.properties.set(DECISION, told);
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

    /// After the tracer has written: what the next hop is told can be changed, the proxy's own span
    /// cannot.
    fn upstream<'a>(
        &'a self,
        request: &Request<'a>,
        forced: bool,
        incoming: &Incoming<'a>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(name) = self.sampling.request_header()
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
        let own = members.iter().flatten().find(|m| m.key == OtelState::KEY);
        let state = own.map_or_else(OtelState::default, |m| OtelState::parse(m.value));
        let randomness = state
            .randomness
            .unwrap_or_else(|| of_trace_id(context.trace_id));
        let parent = Parent {
            sampled,
            threshold: state.threshold,
            randomness,
        };
        let told = request.properties.first().and_then(Option::as_deref);
        let decision = match (forced, told) {
            (true, _) | (_, Some(b"force")) => Decision {
                sampled: true,
                threshold: parent.consistent_threshold().filter(|_| sampled),
            },
            (_, Some(told)) => as_told(told, parent),
            (_, None) => {
                let policy = self.sampling.parent_policy();
                let verdict = match policy.keeps(sampled) {
                    true => Verdict::Unchanged,
                    false => self.ask_rules(request, Some(randomness), ids, outcome),
                };
                Decision::of(parent, policy, verdict)
            }
        };
        outcome
            .tallies
            .sampling
            .count(match (sampled, decision.sampled) {
                (true, true) => Counter::ParentSampled,
                (false, false) => Counter::ParentDropped,
                _ => Counter::ParentChanged,
            });
        if sampled != decision.sampled {
            // W3C Trace Context, section 3.4: a changed flag needs a new parent id.
            let outgoing = Outgoing::Context(TraceContext {
                span_id: ids.span_id(),
                sampling: match decision.sampled {
                    true => Flag::Sampled,
                    false => Flag::NotSampled,
                },
                b3_parent: Some(context.span_id),
                ..*context
            });
            let (edits, tally) = (&mut outcome.headers, &mut Tally::default());
            let egress = self.propagation.egress(&request.headers, request.cluster);
            self.propagation
                .inject(incoming, &outgoing, egress, edits, tally);
        }
        if let Some(members) = &members
            && state.threshold != decision.threshold
        {
            if decision.threshold.is_none() {
                outcome.tallies.sampling.count(Counter::ThresholdErased);
            }
            self.write_threshold(request, members, &state, decision.threshold, outcome);
        }
    }

    fn write_threshold<'a>(
        &self,
        request: &Request<'a>,
        members: &[tracestate::Member<'_>],
        state: &OtelState<'_>,
        threshold: Option<Threshold>,
        outcome: &mut Outcome<'a>,
    ) {
        let name = Field::Tracestate.name();
        let value = state.with_threshold(threshold);
        let value = (!value.is_empty()).then_some(value.as_slice());
        let parts = tracestate::with_member(members, OtelState::KEY, value);
        match build(request, parts, outcome) {
            None => {}
            Some([]) => outcome.headers.remove(name),
            Some(text) => outcome.headers.replace(name, Value::Borrowed(text)),
        }
    }

    /// What the rule of the request says, counted.
    fn ask_rules(
        &self,
        request: &Request<'_>,
        randomness: Option<Randomness>,
        ids: &IdGenerator,
        outcome: &mut Outcome<'_>,
    ) -> Verdict {
        let mut view = RequestView::of(request.headers);
        let property = |path: &[u8]| {
            let place = self.properties.iter().position(|known| **known == *path)?;
            request.properties.get(place)?.as_deref()
        };
        if self.sampling.needs_route() {
            view.route = property(ROUTE);
        }
        if self.sampling.needs_cluster() {
            view.cluster = property(CLUSTER);
        }
        let chosen = self.sampling.choose(&view);
        let verdict = self.sampling.verdict(
            chosen,
            || match randomness {
                Some(randomness) => (randomness, true),
                None => (Randomness::from_low_bits(ids.random()), false),
            },
            |bucket| {
                take(bucket, request.shared).unwrap_or_else(|| {
                    outcome.tallies.sampling.count(Counter::BucketFailed);
                    false
                })
            },
        );
        let counter = self.sampling.counter(chosen, verdict);
        outcome.configured.count(counter);
        verdict
    }
}

/// Concatenates `parts` in the request's arena.
fn build<'a, 'p>(
    request: &Request<'a>,
    parts: impl IntoIterator<Item = &'p [u8]>,
    outcome: &mut Outcome<'_>,
) -> Option<&'a [u8]> {
    let text = concat(request.arena, parts);
    if text.is_none() {
        outcome.tallies.sampling.count(Counter::EditsDropped);
    }
    text
}

fn of_trace_id(id: TraceId) -> Randomness {
    Randomness::from_low_bits(id.low())
}

/// What the downstream filter decided about a trace that began in this proxy. The tracer's own
/// decision stands: it tells whether there is a span.
fn as_told(told: &[u8], parent: Parent) -> Decision {
    let threshold = told.strip_prefix(b"th:").and_then(Threshold::parse);
    let threshold =
        threshold.filter(|threshold| parent.sampled && threshold.keeps(parent.randomness));
    Decision {
        sampled: parent.sampled,
        threshold,
    }
}

/// Whether a token was there; `None` when that cannot be told.
fn take(bucket: &Bucket, shared: &dyn Shared) -> Option<bool> {
    let now = shared.now()?;
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
