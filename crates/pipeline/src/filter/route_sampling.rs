//! `route_sampling`: which traces are recorded, by rule.

use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Managed, Value};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{
    Field, IdGenerator, Incoming, InjectConfig, Outgoing, Placement, Propagation, SamplingState,
    Tally, TraceContext, TraceContextConfig, TraceId, tracestate,
};
use meshtrace_sampling::{
    Counter, Decision, Parent, Randomness, Sampling, SamplingConfig, Threshold, Verdict,
};

use crate::by_filter_state::{self, say_all};
use crate::stage::sampling::{self as rules, Asked, Rules, State, of_trace_id};
use crate::{ByFilterState, Callback, Composition, Environment, Needs, Outcome, Request, Stage};

/// The filter state by which the downstream filter tells the upstream one, and access logs, what
/// was decided: `keep`, `drop`, `force`, or `th:` and the threshold that keeps it.
const DECISION: &[u8] = filter_state::SAMPLING_DECISION.as_bytes();

/// The `route_sampling` filter.
#[derive(Clone, Debug)]
pub struct RouteSampling {
    rules: Rules,
    propagation: Propagation,
    placement: Placement,
    trace_id_header: Option<Box<[u8]>>,
    by_filter_state: Option<ByFilterState>,
    /// Upstream the decision that was told, and what the rules ask for.
    properties: Vec<Box<[u8]>>,
}

impl Composition for RouteSampling {
    const NAME: &'static str = "route_sampling";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders];
    const STAGES: &'static [Stage] = &[Stage::Sampling];
    type RequestState = ();

    fn from_json(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_plugin_config::route_sampling(json)
            .and_then(|config| Self::new(&config, environment))
            .map_err(|error| error.below(Self::NAME))
    }

    fn counters(&self) -> Vec<String> {
        self.rules.sampling().counters()
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            cluster: self.rules.sampling().needs_cluster(),
            request_properties: &self.properties,
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        let forced = self.rules.take_force_header(&request.headers, outcome);
        let incoming =
            self.propagation
                .extract(request.headers, request.peer, &mut Tally::default());
        match self.placement {
            Placement::Downstream => self.downstream(request, forced, &incoming, ids, outcome),
            Placement::Upstream => self.upstream(request, forced, &incoming, ids, outcome),
        }
        if !say_all(self.by_filter_state.as_ref(), request, outcome) || outcome.headers.overflowed()
        {
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
        let rules = Rules::new(config, environment)?;
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
        let told = is_upstream.then_some(DECISION);
        let trace_id_header = config.trace_id_header()?;
        let asked = config.request_headers;
        if asked == Some(RequestHeaders::FilterState) {
            by_filter_state::refuse_upstream(config.placement)?;
            if rules.sampling().request_header().is_some() {
                return Err(by_filter_state::refusal(
                    "\"filter_state\" only with `request_header` null: this proxy's tracer reads \
                     that header among the request's own, and reads it because of the edit",
                ));
            }
        }
        let managed = managed_headers(&rules, trace_id_header.as_deref());
        let by_filter_state = ByFilterState::new(asked, &managed, &[])?;
        Ok(Self {
            by_filter_state,
            propagation,
            placement: config.placement,
            trace_id_header,
            properties: told
                .into_iter()
                .chain(rules.property())
                .map(Into::into)
                .collect(),
            rules,
        })
    }

    fn sampling(&self) -> &Sampling {
        self.rules.sampling()
    }

    pub(crate) fn managed_headers(&self) -> Vec<Managed<'_>> {
        managed_headers(&self.rules, self.trace_id_header.as_deref())
    }

    fn asked<'r>(&self, request: &'r Request<'_>) -> Asked<'r> {
        let route = self.rules.property();
        Asked {
            headers: request.headers,
            // It is the last one.
            route: route.and_then(|_| request.properties.last()?.as_deref()),
            cluster: request.cluster,
            clock: request.clock,
            shared: request.shared,
        }
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
            false => {
                let randomness: Option<Randomness> = trace_id.map(of_trace_id);
                let asked = self.asked(request);
                self.rules.ask(&asked, randomness, ids, outcome).1
            }
        };
        if let Some(name) = self.sampling().request_header() {
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
                let tally = &mut outcome.tallies.sampling;
                rules::build([b"th:", text], request.arena, tally)
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
        if let Some(name) = self.sampling().request_header()
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
        let state = State::of(members.as_deref().unwrap_or_default());
        let parent = state.parent(context.trace_id, sampled);
        let told = request.properties.first().and_then(Option::as_deref);
        let decision = match told {
            Some(told) if !forced && told != b"force" => as_told(told, parent),
            told => {
                let forced = forced || told.is_some();
                let asked = self.asked(request);
                self.rules.settle(parent, forced, &asked, ids, outcome).0
            }
        };
        rules::count_parent(parent, decision, &mut outcome.tallies.sampling);
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
                .inject(incoming, &outgoing, policy, edits, tally);
        }
        if members.is_some() {
            let tally = &mut outcome.tallies.sampling;
            let name = Field::Tracestate.name();
            match state.telling(decision.threshold, request.arena, tally) {
                None => {}
                Some([]) => outcome.headers.remove(name),
                Some(text) => outcome.headers.replace(name, Value::Borrowed(text)),
            }
        }
    }
}

/// Helper headers and secrets, which never leave.
pub(crate) fn managed_headers<'n>(
    rules: &'n Rules,
    trace_id_header: Option<&'n [u8]>,
) -> Vec<Managed<'n>> {
    let names = [rules.sampling().force_header(), trace_id_header];
    names
        .into_iter()
        .flatten()
        .map(|name| Managed {
            name,
            leaves: false,
        })
        .collect()
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
