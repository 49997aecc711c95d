//! What is known of a request when its headers have come.

use meshtrace_headers::Headers;
use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::{Arrived, SpanId, TraceContext, TraceId};

use crate::config::{AccessLogIds, TracerKind};
use crate::decide::Ids;
use crate::{Counter, Tally};

/// What a request leaves for its end: which contexts came in, and what has been told of it.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The filter has seen the request's headers before its end.
    pub(crate) on_time: bool,
    pub(crate) contexts: Contexts,
    /// The proxy's own ids, from the headers of `ids`.
    pub(crate) own: Option<TraceId>,
    pub(crate) own_span: Option<SpanId>,
    /// `x-request-id` says that a proxy has decided to trace the request.
    pub(crate) is_traced: bool,
    /// What was told of it already.
    pub(crate) told: Ids,
}

impl Arrival {
    /// What has been told of the request so far.
    #[must_use]
    pub fn told(&self) -> &Ids {
        &self.told
    }
}

/// What every format says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contexts([Told; Format::ALL.len()]);

/// What one format says.
#[derive(Clone, Copy, Debug)]
struct Told {
    extracted: Extracted,
    /// The tracer refuses it.
    is_refused: bool,
}

impl Default for Contexts {
    fn default() -> Self {
        let nothing = Told {
            extracted: Extracted::Absent,
            is_refused: false,
        };
        Self([nothing; Format::ALL.len()])
    }
}

impl Contexts {
    /// What whoever makes the span takes from it.
    pub(crate) fn of(&self, format: Format) -> Extracted {
        match self.0.get(format as usize) {
            None => Extracted::Absent,
            Some(told) if told.is_refused => Extracted::Malformed,
            Some(told) => told.extracted,
        }
    }

    pub(crate) fn context(&self, format: Format) -> Option<TraceContext> {
        match self.of(format) {
            Extracted::Context(context) => Some(context),
            _ => None,
        }
    }

    /// Whether any format names the span of `context`, also one that the tracer refuses: another
    /// filter may have made one value of several.
    pub(crate) fn name_span_of(&self, context: &TraceContext) -> bool {
        self.0.iter().any(|told| match told.extracted {
            Extracted::Context(known) => known.is_same_span(context),
            _ => false,
        })
    }

    /// Whether one of `formats` has ids that cannot be read here, and by the tracer perhaps can.
    pub(crate) fn has_unreadable(&self, formats: &[Format]) -> bool {
        formats.iter().any(|format| {
            matches!(
                self.of(*format),
                Extracted::Malformed | Extracted::Incomplete { .. }
            )
        })
    }
}

impl AccessLogIds {
    /// Reads a request whose headers have come, the headers of `ids` included: those must then be
    /// removed, see [`AccessLogIds::own_headers`].
    #[must_use]
    pub fn arrive(&self, headers: Headers<'_>, tally: &mut Tally) -> Arrival {
        let own = only_line(headers, self.trace_id_header.as_deref(), tally)
            .map(|text| (text, TraceId::from_digits(text)));
        let own_span = only_line(headers, self.span_id_header.as_deref(), tally)
            .map(|text| (text, SpanId::from_digits(text)));
        for malformed in [
            matches!(own, Some((_, None))),
            matches!(own_span, Some((_, None))),
        ] {
            if malformed {
                tally.count(Counter::IdsMalformed);
            }
        }
        let own = own.and_then(|(_, id)| id);
        let mut arrival = Arrival {
            on_time: true,
            own,
            // A span id is one of its trace.
            own_span: own.and(own_span.and_then(|(_, id)| id)),
            ..self.read_arrival(headers)
        };
        arrival.told = self.at_request(&arrival);
        arrival
    }

    /// As [`arrive`](Self::arrive), for a request of which only the end was seen. The headers of
    /// `ids` are not believed then: whether the step that writes them has run is not known.
    pub(crate) fn read_arrival(&self, headers: Headers<'_>) -> Arrival {
        let matters = self.tells_span() || self.tracer == TracerKind::Unknown;
        let is_traced = matters
            && headers
                .lines(b"x-request-id")
                .next()
                .is_some_and(says_traced);
        Arrival {
            contexts: self.contexts(headers),
            is_traced,
            ..Arrival::default()
        }
    }

    /// What every format says, read as whoever makes the span reads a header that came more than
    /// once.
    pub(crate) fn contexts(&self, headers: Headers<'_>) -> Contexts {
        let arrived = Arrived::collect_as(headers, self.on_repeated);
        let mut contexts = Contexts::default();
        for (format, told) in Format::ALL.iter().zip(&mut contexts.0) {
            told.extracted = format.parse(&arrived, Reading::default());
            told.is_refused = !self.takes_joined
                && matches!(told.extracted, Extracted::Context(_))
                && format.is_joined(&arrived);
        }
        contexts
    }

    /// The headers of `ids` that the request has: they are of no concern to the upstream.
    pub fn own_headers<'s>(&'s self, headers: Headers<'_>) -> impl Iterator<Item = &'s [u8]> {
        [&self.trace_id_header, &self.span_id_header]
            .into_iter()
            .filter_map(|name| name.as_deref())
            .filter(move |name| headers.contains(name))
    }
}

fn only_line<'a>(headers: Headers<'a>, name: Option<&[u8]>, tally: &mut Tally) -> Option<&'a [u8]> {
    let mut lines = headers.lines(name?);
    let line = lines.next()?;
    if lines.next().is_some() {
        tally.count(Counter::IdsMalformed);
        return None;
    }
    Some(line)
}

/// Envoy packs its decision into the request id: digit 14 of the UUID is 4 where it does not trace,
/// and 9, a or b where it does (`envoy.request_id.uuid`).
fn says_traced(request_id: &[u8]) -> bool {
    request_id.len() == 36 && matches!(request_id.get(14), Some(b'9' | b'a' | b'b'))
}
