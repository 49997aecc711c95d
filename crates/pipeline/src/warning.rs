//! Warnings about what requests show: a filter that stands in the wrong place, or whose work the
//! proxy's own tracer undoes.
//!
//! Few requests are looked at ([`Watch`]), and each warning is said once an hour at most: in each VM
//! ([`WarningLimit`]), and in all workers together ([`Warning::record`]).

use core::cell::Cell;

use meshtrace_envoy::attribute;
use meshtrace_headers::{Change, Headers};

use crate::{Lookup, Outcome};

/// The first requests that are looked at, in each VM.
const FIRST: u32 = 16;
/// Of the later requests one in this number is looked at.
const ONE_IN: u32 = 1024;
/// The shortest time between two equal warnings, in nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// Something that a request shows, which the user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// This filter is a tracer, and the proxy's own tracer has written this header after it.
    TwoTracers(&'static str),
    /// The proxy's own tracer has written this header after this filter.
    Overwritten(&'static str),
    /// Behind the tracer, no request has the headers of this format, which the tracer should have
    /// written.
    NoTracer(&'static str),
    /// A rule drops a trace that the proxy's own tracer records.
    NotDropped,
    /// The filter stands among upstream filters, and its configuration is for a listener.
    AmongUpstream,
    /// No request has the header that `ids` names.
    NoIds,
}

impl Warning {
    /// The number of warnings.
    const COUNT: usize = 6;

    const fn index(self) -> usize {
        match self {
            Self::TwoTracers(_) => 0,
            Self::Overwritten(_) => 1,
            Self::NoTracer(_) => 2,
            Self::NotDropped => 3,
            Self::AmongUpstream => 4,
            Self::NoIds => 5,
        }
    }

    /// Records in `said`, an entry of the shared data that the workers have for one configuration,
    /// that this warning is said at the time `now`, in nanoseconds. Returns the new entry, or `None`
    /// where a worker has said it within the last hour.
    #[must_use]
    #[inline(never)]
    pub fn record(self, said: &[u8], now: u64) -> Option<Vec<u8>> {
        let mut times = [[0; 8]; Self::COUNT];
        let (known, _) = said.as_chunks();
        for (time, known) in times.iter_mut().zip(known) {
            *time = *known;
        }
        let time = times.get_mut(self.index())?;
        let last = u64::from_le_bytes(*time);
        // 0 stands for: never.
        if last != 0 && now.saturating_sub(last) < HOUR {
            return None;
        }
        *time = now.max(1).to_le_bytes();
        Some(times.concat())
    }

    /// The line for the log of the filter `name`: what a request shows, what to do, and where more
    /// stands about it.
    #[must_use]
    #[inline(never)]
    pub fn line(self, name: &str) -> String {
        match self {
            Self::TwoTracers(header) => format!(
                "{name}: `{header}` was written again after this filter, so this proxy's own \
                 tracer is on and each request has two spans here; turn it off: no `tracing` in \
                 the connection manager, in Istio `disableSpanReporting: true` (MT033)"
            ),
            Self::Overwritten(header) => format!(
                "{name}: `{header}` was written again after this filter: this proxy's own tracer \
                 writes last; beside a tracer write `\"placement\": \"upstream\"`, and an early \
                 header mutation (MT030)"
            ),
            Self::NoTracer(format) => format!(
                "{name}: placement \"upstream\", and no request has the {format} headers of this \
                 proxy's tracer: the filter stands among the listener's filters, where the tracer \
                 has not written yet (MT022), or `tracer` names another format than the tracer \
                 writes (MT031)"
            ),
            Self::NotDropped => format!(
                "{name}: a rule drops a trace that this proxy's tracer records, as `x-request-id` \
                 says; set `random_sampling` and `client_sampling` to 0, as `meshtrace render \
                 route-sampling` prints (MT035)"
            ),
            Self::AmongUpstream => format!(
                "{name}: the filter stands among upstream filters, and its configuration is for a \
                 listener's: move it to `http_filters`, or write `\"placement\": \"upstream\"` where \
                 the filter has that key (MT023)"
            ),
            Self::NoIds => format!(
                "{name}: no request has the header that `ids.trace_id_header` names: put the step \
                 that writes it directly in front of this filter, as `meshtrace render` \
                 prints it, or remove `ids` (MT050)"
            ),
        }
    }
}

/// The times at which each warning was said last, on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct WarningLimit([Cell<Option<u64>>; Warning::COUNT]);

impl WarningLimit {
    /// Whether `warning` is to be said at the time `now`, in nanoseconds. A clock that stands still
    /// lets each warning pass once.
    pub fn admits(&self, warning: Warning, now: u64) -> bool {
        let Some(last) = self.0.get(warning.index()) else {
            return false;
        };
        let is_due = last
            .get()
            .is_none_or(|last| now.saturating_sub(last) >= HOUR);
        if is_due {
            last.set(Some(now));
        }
        is_due
    }
}

/// Chooses the requests that are looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    seen: Cell<u32>,
    /// The requests in a row, of those that were looked at, that lacked what they should have.
    lacking: Cell<u32>,
}

impl Watch {
    /// Whether the next request is looked at.
    pub(crate) fn next(&self) -> bool {
        let seen = self.seen.get();
        self.seen.set(seen.wrapping_add(1));
        seen < FIRST || seen.is_multiple_of(ONE_IN)
    }

    /// A request that is looked at has what it should have, or not. Returns whether enough of them
    /// in a row had not: one may be an exception.
    pub(crate) fn lacks(&self, is_lacking: bool) -> bool {
        const ENOUGH: u32 = 3;

        let lacking = match is_lacking {
            true => self.lacking.get().saturating_add(1),
            false => 0,
        };
        self.lacking.set(lacking);
        lacking >= ENOUGH
    }
}

/// Whether a filter whose configuration is for a listener's filters stands among upstream ones. There
/// the connection to the upstream is open when the request's headers come; in a listener nobody has
/// chosen an upstream yet.
#[inline(never)]
pub(crate) fn among_upstream(watch: &Watch, lookup: &dyn Lookup) -> Option<Warning> {
    if !watch.next() {
        return None;
    }
    lookup
        .property(attribute::UPSTREAM_ADDRESS.property)
        .filter(|address| !address.is_empty())
        .map(|_| Warning::AmongUpstream)
}

/// The headers that a tracer of Envoy writes for every request, each with another value.
const OF_TRACERS: [&str; 4] = [
    "traceparent",
    "x-b3-spanid",
    "x-datadog-parent-id",
    "x-amzn-trace-id",
];

/// The values of the tracers' headers, as a request had them when it left this filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left([Option<u64>; OF_TRACERS.len()]);

impl Left {
    /// The values after the edits of `outcome`.
    #[inline(never)]
    pub(crate) fn of(headers: Headers<'_>, outcome: &Outcome<'_>) -> Self {
        Self(
            OF_TRACERS.map(|name| match outcome.headers.change_of(name.as_bytes()) {
                Some(Change::Replace(value)) => Some(digest(value.as_bytes())),
                Some(Change::Remove) => None,
                Some(Change::Append(_)) | None => headers.lines(name.as_bytes()).next().map(digest),
            }),
        )
    }

    /// The header that has another value now, at the end of the request.
    #[inline(never)]
    pub(crate) fn written_again(&self, headers: Headers<'_>) -> Option<&'static str> {
        let mut headers_left = OF_TRACERS.iter().zip(self.0);
        let (name, _) = headers_left.find(|(name, left)| {
            let now = headers.lines(name.as_bytes()).next().map(digest);
            now.is_some() && now != *left
        })?;
        Some(name)
    }
}

/// FNV-1a with 64 bits.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Whether `x-request-id` says that the proxy records the trace: Envoy writes the reason into the
/// fifteenth character of the UUID (`UUIDRequestIDExtension`): `9` forced, `a` sampled, `b` asked
/// for by a client.
pub(crate) fn is_recorded(headers: &Headers<'_>) -> bool {
    const REASON: usize = 14;

    let id = headers.lines(b"x-request-id").next();
    let reason = id.and_then(|id| id.get(REASON));
    matches!(reason, Some(b'9' | b'a' | b'b'))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_warning_is_said_once_and_then_once_an_hour() {
        let limit = WarningLimit::default();
        let minute = HOUR / 60;
        let said = |warning, minutes: u64| {
            let times = (0..minutes).filter(|at| limit.admits(warning, at * minute));
            times.collect::<Vec<_>>()
        };
        assert_eq!(said(Warning::NotDropped, 150), [0, 60, 120]);
        // Another one has a limit of its own.
        assert_eq!(said(Warning::TwoTracers("traceparent"), 1), [0]);
        assert_eq!(said(Warning::TwoTracers("b3"), 1), [0; 0]);
    }

    #[test]
    fn the_workers_share_the_times() {
        let mut entry = Vec::new();
        let mut say = |warning: Warning, now: u64| match warning.record(&entry, now) {
            Some(new) => {
                entry = new;
                true
            }
            None => false,
        };
        // A clock that fails is at 0.
        assert!(say(Warning::NoIds, 0));
        assert!(!say(Warning::NoIds, 0));
        assert!(say(Warning::NotDropped, 5));
        assert!(!say(Warning::NotDropped, HOUR + 4));
        assert!(say(Warning::NotDropped, HOUR + 5));
        assert!(say(Warning::NoIds, HOUR + 1));
    }

    #[test]
    fn the_first_requests_are_looked_at_and_then_a_few() {
        let watch = Watch::default();
        let watched = (0..10_000).filter(|_| watch.next()).count();
        assert_eq!(watched, 16 + 9);
    }

    #[test]
    fn one_request_that_lacks_something_is_an_exception() {
        let watch = Watch::default();
        let lacks = [true, true, false, true, true, true, true].map(|is| watch.lacks(is));
        assert_eq!(lacks, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn the_reason_of_a_request_id_is_read() {
        for (id, is_it) in [
            ("7f9e8d2c-0a1b-4c2d-8e3f-001122334455", false),
            ("7f9e8d2c-0a1b-9c2d-8e3f-001122334455", true),
            ("7f9e8d2c-0a1b-ac2d-8e3f-001122334455", true),
            ("7f9e8d2c-0a1b-bc2d-8e3f-001122334455", true),
            ("short", false),
            ("", false),
        ] {
            let block = meshtrace_headers::encode(&[("x-request-id", id)]);
            let headers = Headers::parse(&block).expect("a block");
            assert_eq!(is_recorded(&headers), is_it, "{id}");
        }
    }
}
