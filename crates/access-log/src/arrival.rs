//! What is known of a request when its headers have come.

use meshtrace_headers::Headers;
use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::{Arrived, PerFormat, SpanId, TraceContext, TraceId};

use crate::access_log_ids::{AccessLogIds, TracerKind};
use crate::counter::{Counter, Tally};
use crate::ids::Ids;

/// What a request leaves for its end: which contexts came in, and what has been recorded of it.
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
    /// What was recorded of it already.
    pub(crate) recorded: Ids,
}

impl Arrival {
    /// What has been recorded of the request so far.
    #[must_use]
    pub fn recorded(&self) -> &Ids {
        &self.recorded
    }
}

/// What every format says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contexts(PerFormat<ReadContext>);

/// What one format says.
#[derive(Clone, Copy, Debug, Default)]
struct ReadContext {
    extracted: Extracted,
    /// The tracer refuses it.
    is_refused: bool,
}

impl Contexts {
    /// What whoever makes the span takes from it.
    pub(crate) fn of(&self, format: Format) -> Extracted {
        match self.0.of(format) {
            read if read.is_refused => Extracted::Malformed,
            read => read.extracted,
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
        self.0.iter().any(|read| match read.extracted {
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
    /// Reads a request of which only the end was seen. The headers of
    /// `ids` are not believed then: whether the step that writes them has run is not known.
    pub(crate) fn read_arrival(&self, headers: Headers<'_>) -> Arrival {
        let matters = self.injects_span() || self.tracer == TracerKind::Unknown;
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
        for format in Format::ALL {
            let extracted = format.parse(&arrived, Reading::default());
            let is_refused = !self.takes_joined
                && matches!(extracted, Extracted::Context(_))
                && format.is_joined(&arrived);
            let read = ReadContext {
                extracted,
                is_refused,
            };
            contexts.0.set(*format, read);
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

/// The value of the header `name` where it came once; a repeated one is counted.
pub(crate) fn only_line<'a>(
    headers: Headers<'a>,
    name: Option<&[u8]>,
    tally: &mut Tally,
) -> Option<&'a [u8]> {
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
