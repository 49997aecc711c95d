//! `route_sampling`: which traces are recorded, by rule.

use meshtrace_config::{ConfigError, Draft};
use meshtrace_propagation::{IdGenerator, Placement};
use meshtrace_sampling::{Counter, SamplingConfig};

use crate::by_filter_state::write_all;
use crate::properties::PropertyPaths;
use crate::stage::sampling::{AfterTracer, BeforeTracer, Rules};
use crate::warning::{Watch, among_upstream};
use crate::{
    ByFilterState, Callback, Composition, Lookup, Needs, Outcome, Proxy, Request, Stage, Warning,
};

/// The `route_sampling` filter.
#[derive(Clone, Debug)]
pub struct RouteSampling {
    stage: Placed,
    by_filter_state: Option<ByFilterState>,
    properties: PropertyPaths,
    watch: Watch,
}

/// The stage, by its placement.
#[derive(Clone, Debug)]
enum Placed {
    BeforeTracer(BeforeTracer),
    AfterTracer(AfterTracer),
}

impl Placed {
    fn rules(&self) -> &Rules {
        match self {
            Self::BeforeTracer(stage) => stage.rules(),
            Self::AfterTracer(stage) => stage.rules(),
        }
    }
}

impl Composition for RouteSampling {
    const NAME: &'static str = "route_sampling";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders];
    const STAGES: &'static [Stage] = &[Stage::Sampling];
    type RequestState = ();

    fn from_json(json: &[u8], proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        Draft::<SamplingConfig>::read(json)
            .compile(|config| Self::new(config, proxy))
            .map_err(|error| error.below(Self::NAME))
    }

    fn counters(&self) -> Vec<String> {
        self.stage.rules().sampling().counters()
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            cluster: self.stage.rules().sampling().needs_cluster(),
            request_properties: &self.properties,
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn summary(&self) -> String {
        match &self.stage {
            Placed::BeforeTracer(stage) => stage.summary(),
            Placed::AfterTracer(stage) => stage.summary(),
        }
    }

    fn cautions(&self) -> Vec<String> {
        match &self.stage {
            Placed::BeforeTracer(stage) => stage.rules().cautions(Self::NAME),
            Placed::AfterTracer(stage) => stage.rules().cautions_where_decided(Self::NAME),
        }
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        match &self.stage {
            Placed::BeforeTracer(stage) => stage.sample(request, ids, outcome),
            Placed::AfterTracer(stage) => stage.sample(request, ids, outcome),
        }
        let is_written = write_all(self.by_filter_state.as_ref(), request, outcome);
        if !is_written || outcome.headers.overflowed() {
            outcome.tallies.sampling.count(Counter::EditsDropped);
        }
    }

    fn misplaced(&self, lookup: &dyn Lookup) -> Option<Warning> {
        match &self.stage {
            Placed::BeforeTracer(_) => among_upstream(&self.watch, lookup),
            Placed::AfterTracer(_) => None,
        }
    }
}

impl RouteSampling {
    fn new(config: &SamplingConfig, proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        let mut properties = PropertyPaths::default();
        let asked = config.request_headers;
        let environment = proxy.environment;
        let stage = match config.placement {
            Placement::Downstream => {
                let stage = BeforeTracer::new(config, asked, environment, &mut properties)?;
                Placed::BeforeTracer(stage)
            }
            Placement::Upstream => {
                let stage = AfterTracer::new(config, environment, &mut properties)?;
                Placed::AfterTracer(stage)
            }
        };
        let managed = match &stage {
            Placed::BeforeTracer(stage) => stage.managed_headers(),
            Placed::AfterTracer(stage) => stage.managed_headers(),
        };
        Ok(Self {
            by_filter_state: ByFilterState::new(asked, &managed, &[])?,
            stage,
            properties,
            watch: Watch::default(),
        })
    }
}
