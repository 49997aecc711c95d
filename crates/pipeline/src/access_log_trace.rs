//! `access_log_trace`: every log line leads to its trace.

use meshtrace_config::ConfigError;
use meshtrace_headers::Value;
use meshtrace_log_ids::{AccessLogTraceConfig, Arrival, Counter, Ids, LogIds, Text};
use meshtrace_propagation::IdGenerator;

use crate::{
    Arena, Callback, Composition, End, Environment, Needs, Outcome, Request, Response, Stage,
};

/// The `access_log_trace` filter.
#[derive(Clone, Debug)]
pub struct AccessLogTrace {
    ids: LogIds,
}

impl Composition for AccessLogTrace {
    const NAME: &'static str = "access_log_trace";
    const CALLBACKS: &'static [Callback] = &[
        Callback::RequestHeaders,
        Callback::ResponseHeaders,
        Callback::Log,
    ];
    const STAGES: &'static [Stage] = &[Stage::LogIds];
    /// `None` until the request's headers have come: of some requests only the end is seen.
    type Kept = Option<Arrival>;

    fn from_json(json: &[u8], _environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_config::read::<AccessLogTraceConfig>(json)
            .and_then(|config| LogIds::new(&config))
            .map(|ids| Self { ids })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs::default()
    }

    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        _ids: &IdGenerator,
        kept: &mut Self::Kept,
        outcome: &mut Outcome<'a>,
    ) {
        let arrival = self
            .ids
            .arrive(request.headers, &mut outcome.tallies.log_ids);
        for name in self.ids.own_headers(request.headers) {
            outcome.headers.remove(name);
        }
        // At once: lines that are logged before the end have them too, and so have other filters.
        self.set(arrival.told(), &Ids::default(), request.arena, outcome);
        *kept = Some(arrival);
    }

    fn on_response<'a>(
        &'a self,
        response: &Response<'a>,
        kept: &mut Self::Kept,
        outcome: &mut Outcome<'a>,
    ) {
        let Some(arrival) = kept else { return };
        self.ids.tell_response(arrival, |name, value| {
            match value.and_then(|text| place(&text, response.arena)) {
                Some(value) => outcome.headers.replace(name, Value::Borrowed(value)),
                None => outcome.tallies.log_ids.count(Counter::Dropped),
            }
        });
    }

    fn on_end<'a>(&'a self, end: &End<'a>, kept: &mut Self::Kept, outcome: &mut Outcome<'a>) {
        let tally = &mut outcome.tallies.log_ids;
        let ids = self.ids.at_end(kept.as_ref(), end.request_headers, tally);
        let told = kept.as_ref().map(Arrival::told).copied();
        self.set(&ids, &told.unwrap_or_default(), end.arena, outcome);
    }
}

impl AccessLogTrace {
    fn set<'a>(&self, ids: &Ids, told: &Ids, arena: &'a Arena, outcome: &mut Outcome<'a>) {
        self.ids.write(ids, told, |key, value| {
            match value.and_then(|text| place(&text, arena)) {
                Some(value) => outcome.properties.set(key, value),
                None => outcome.tallies.log_ids.count(Counter::Dropped),
            }
        });
    }
}

fn place<'a>(text: &Text, arena: &'a Arena) -> Option<&'a [u8]> {
    let placed: &[u8] = arena.try_alloc_slice_copy(text).ok()?;
    Some(placed)
}
