//! `trace_context`: one context, in every format.

use meshtrace_config::{ConfigError, Draft};
use meshtrace_propagation::{Counter, IdGenerator, Propagation, TraceContextConfig};

use crate::by_filter_state::{self, write_all};
use crate::stage::propagation;
use crate::{ByFilterState, Callback, Composition, Needs, Outcome, Proxy, Request, Stage};

/// The `trace_context` filter.
#[derive(Clone, Debug)]
pub struct TraceContext {
    propagation: Propagation,
    by_filter_state: Option<ByFilterState>,
}

impl Composition for TraceContext {
    const NAME: &'static str = "trace_context";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders];
    const STAGES: &'static [Stage] = &[Stage::Propagation];
    type RequestState = ();

    fn from_json(json: &[u8], _proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        Draft::<TraceContextConfig>::read(json)
            .compile(|config| {
                let propagation = Propagation::new(config)?;
                let asked = config.request_headers;
                let managed =
                    by_filter_state::of_propagation(&propagation, asked, config.placement)?;
                Ok(Self {
                    by_filter_state: ByFilterState::new(asked, &managed, &[])?,
                    propagation,
                })
            })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            address: self.propagation.needs_address(),
            direction: self.propagation.needs_direction(),
            cluster: self.propagation.needs_cluster(),
            own_context: self.propagation.needs_own_context(),
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn summary(&self) -> String {
        self.propagation.summary()
    }

    fn cautions(&self) -> Vec<String> {
        let caution = self.propagation.caution();
        caution.into_iter().map(str::to_owned).collect()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        let (stage, tally) = (&self.propagation, &mut outcome.tallies.propagation);
        let incoming = stage.extract(request.headers, request.peer, tally);
        let decision = stage.decide(&incoming, ids, tally);
        propagation::inject(stage, &incoming, &decision, request, outcome);
        propagation::erase_threshold(stage, &incoming, &decision, request, outcome);
        if !write_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.propagation.count(Counter::EditsDropped);
        }
    }
}
