//! `access_log_trace`: every log line leads to its trace.

use meshtrace_access_log::{AccessLogIds, Arrival, Counter, HeaderLine, IdText, Ids};
use meshtrace_config::ConfigError;
use meshtrace_headers::{Headers, Value};
use meshtrace_propagation::IdGenerator;

use crate::by_filter_state::say_all;
use crate::{
    Arena, ByFilterState, Callback, Composition, Environment, LoggedRequest, Needs, Outcome,
    Request, Response, Stage,
};

/// The `access_log_trace` filter.
#[derive(Clone, Debug)]
pub struct AccessLogTrace {
    ids: AccessLogIds,
    by_filter_state: Option<ByFilterState>,
}

impl Composition for AccessLogTrace {
    const NAME: &'static str = "access_log_trace";
    const CALLBACKS: &'static [Callback] = &[
        Callback::RequestHeaders,
        Callback::ResponseHeaders,
        Callback::Log,
    ];
    const STAGES: &'static [Stage] = &[Stage::AccessLog];
    /// `None` until the request's headers have come: of some requests only the end is seen.
    type RequestState = Option<Arrival>;

    fn from_json(json: &[u8], _environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_plugin_config::access_log_trace(json)
            .and_then(|config| {
                let ids = AccessLogIds::new(&config)?;
                let managed = ids.managed_headers();
                Ok(Self {
                    by_filter_state: ByFilterState::new(config.request_headers, &managed, &[])?,
                    ids,
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

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        _ids: &IdGenerator,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        *state = Some(arrive(&self.ids, request, outcome));
        if !say_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.access_log.count(Counter::Dropped);
        }
    }

    #[inline(never)]
    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        if let Some(arrival) = state {
            let put = |header, value| answer(header, value, response.arena, outcome);
            self.ids.inject_response(arrival, put);
        }
    }

    #[inline(never)]
    fn on_log<'a>(
        &'a self,
        end: &LoggedRequest<'a>,
        state: &mut Self::RequestState,
        outcome: &mut Outcome<'a>,
    ) {
        finish(
            &self.ids,
            state.as_ref(),
            end.request_headers,
            end.arena,
            outcome,
        );
    }
}

/// Sets at once what is certain: lines that are logged before the end have it too, and so have
/// other filters.
pub(crate) fn arrive<'a>(
    ids: &'a AccessLogIds,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> Arrival {
    let arrival = ids.arrive(request.headers, &mut outcome.tallies.access_log);
    for name in ids.own_headers(request.headers) {
        outcome.headers.remove(name);
    }
    set(
        ids,
        arrival.recorded(),
        &Ids::default(),
        request.arena,
        outcome,
    );
    arrival
}

/// Sets what only the end tells.
pub(crate) fn finish<'a>(
    ids: &AccessLogIds,
    arrival: Option<&Arrival>,
    headers: Headers<'_>,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    let known = ids.at_end(arrival, headers, &mut outcome.tallies.access_log);
    let told = arrival.map(Arrival::recorded).copied().unwrap_or_default();
    set(ids, &known, &told, arena, outcome);
}

/// Sets the filter state of `known`, as far as `told` had it otherwise.
pub(crate) fn set<'a>(
    ids: &AccessLogIds,
    known: &Ids,
    told: &Ids,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    ids.write(known, told, |key, value| {
        match value.and_then(|text| place(&text, arena)) {
            Some(value) => outcome.properties.set(key, value),
            None => outcome.tallies.access_log.count(Counter::Dropped),
        }
    });
}

/// Writes a header of the response.
pub(crate) fn answer<'a>(
    header: HeaderLine<'a>,
    value: Option<IdText>,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    match value.and_then(|text| place(&text, arena)) {
        Some(value) => match header {
            HeaderLine::Only(name) => outcome.headers.replace(name, Value::Borrowed(value)),
            HeaderLine::Appended(name) => outcome.headers.append(name, Value::Borrowed(value)),
        },
        None => outcome.tallies.access_log.count(Counter::Dropped),
    }
}

fn place<'a>(text: &IdText, arena: &'a Arena) -> Option<&'a [u8]> {
    let placed: &[u8] = arena.try_alloc_slice_copy(text).ok()?;
    Some(placed)
}
