//! The stage `access_log`: the ids of the trace, as filter state for access logs and as headers of
//! the response.

use meshtrace_access_log::{AccessLogIds, Arrival, Counter, HeaderLine, IdText, Ids};
use meshtrace_headers::{Arena, Headers, Value};

use crate::warning::Watch;
use crate::{Outcome, Request, Warning};

/// Reads the ids of a request, removes its helper headers, and records the ids that are certain
/// already. So other filters, and log lines that are written before the end, have them too.
///
/// The trace of a caller that is not `believed` is not recorded.
pub(crate) fn read<'a>(
    stage: &'a AccessLogIds,
    watch: &Watch,
    request: &Request<'a>,
    believed: bool,
    outcome: &mut Outcome<'a>,
) -> Arrival {
    if let Some(name) = stage.trace_id_header()
        && watch.next()
        && watch.lacks(!request.headers.contains(name))
    {
        outcome.warning = Some(Warning::NoIds);
    }
    let tally = &mut outcome.tallies.access_log;
    let arrival = stage.arrive_from(request.headers, believed, tally);
    for name in stage.own_headers(request.headers) {
        outcome.headers.remove(name);
    }
    let ids = arrival.recorded();
    record(stage, ids, &Ids::default(), request.arena, outcome);
    arrival
}

/// Records the ids that only the end of a request shows. `headers` are the request's headers then.
pub(crate) fn record_end<'a>(
    stage: &AccessLogIds,
    arrival: Option<&Arrival>,
    headers: Headers<'_>,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    let ids = stage.at_end(arrival, headers, &mut outcome.tallies.access_log);
    let recorded = arrival.map(Arrival::recorded).copied().unwrap_or_default();
    record(stage, &ids, &recorded, arena, outcome);
}

/// Sets the filter state of those `ids` that differ from the ids that are `recorded`.
#[inline(never)]
pub(crate) fn record<'a>(
    stage: &AccessLogIds,
    ids: &Ids,
    recorded: &Ids,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    stage.write(ids, recorded, |key, value| {
        match value.and_then(|text| copy(&text, arena)) {
            Some(value) => outcome.properties.set(key, value),
            None => outcome.tallies.access_log.count(Counter::Dropped),
        }
    });
}

/// Writes a header of the response.
#[inline(never)]
pub(crate) fn write_response_header<'a>(
    header: HeaderLine<'a>,
    value: Option<IdText>,
    arena: &'a Arena,
    outcome: &mut Outcome<'a>,
) {
    match value.and_then(|text| copy(&text, arena)) {
        Some(value) => match header {
            HeaderLine::Only(name) => outcome.headers.replace(name, Value::Borrowed(value)),
            HeaderLine::Appended(name) => outcome.headers.append(name, Value::Borrowed(value)),
        },
        None => outcome.tallies.access_log.count(Counter::Dropped),
    }
}

fn copy<'a>(text: &IdText, arena: &'a Arena) -> Option<&'a [u8]> {
    let copied: &[u8] = arena.try_alloc_slice_copy(text).ok()?;
    Some(copied)
}
