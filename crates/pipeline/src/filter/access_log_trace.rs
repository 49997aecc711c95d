//! `access_log_trace`: every log line leads to its trace.

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig, Arrival, Counter};
use meshtrace_config::{ConfigError, Draft};
use meshtrace_propagation::IdGenerator;

use crate::by_filter_state::write_all;
use crate::stage::access_log;
use crate::warning::{Watch, among_upstream};
use crate::{
    ByFilterState, Callback, Composition, LoggedRequest, Lookup, Needs, Outcome, Proxy, Request,
    Response, Stage, Warning,
};

/// The `access_log_trace` filter.
#[derive(Clone, Debug)]
pub struct AccessLogTrace {
    ids: AccessLogIds,
    by_filter_state: Option<ByFilterState>,
    place_watch: Watch,
    ids_watch: Watch,
}

impl Composition for AccessLogTrace {
    const NAME: &'static str = "access_log_trace";
    const CALLBACKS: &'static [Callback] = &[
        Callback::RequestHeaders,
        Callback::ResponseHeaders,
        Callback::Log,
    ];
    const STAGES: &'static [Stage] = &[Stage::AccessLog];
    /// `None` until the request's headers have come. For some requests the filter sees only the
    /// end.
    type RequestState = Option<Arrival>;

    fn from_json(json: &[u8], _proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        Draft::<AccessLogTraceConfig>::read(json)
            .compile(|config| {
                let ids = AccessLogIds::new(config)?;
                let managed = ids.managed_headers();
                Ok(Self {
                    by_filter_state: ByFilterState::new(config.request_headers, &managed, &[])?,
                    ids,
                    place_watch: Watch::default(),
                    ids_watch: Watch::default(),
                })
            })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs::default()
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn summary(&self) -> String {
        self.ids.summary()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        _ids: &IdGenerator,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        *state = Some(access_log::read(
            &self.ids,
            &self.ids_watch,
            request,
            true,
            outcome,
        ));
        if !write_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.access_log.count(Counter::Dropped);
        }
    }

    fn misplaced(&self, lookup: &dyn Lookup) -> Option<Warning> {
        among_upstream(&self.place_watch, lookup)
    }

    #[inline(never)]
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(arrival) = state {
            let write = |header, value| {
                access_log::write_response_header(header, value, response.arena, outcome)
            };
            self.ids.inject_response(arrival, write);
        }
    }

    #[inline(never)]
    fn on_log<'a>(
        &'a self,
        request: &LoggedRequest<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        access_log::record_end(
            &self.ids,
            state.as_ref(),
            request.request_headers,
            request.arena,
            outcome,
        );
    }
}
