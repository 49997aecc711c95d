//! The data of a request that is known when its headers have come.

use meshtrace_headers::Headers;
use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::{Arrived, PerFormat, SpanId, TraceContext, TraceId};

use crate::access_log_ids::{AccessLogIds, TracerKind};
use crate::counter::{Counter, Tally};
use crate::ids::Ids;

/// The data that a request keeps for its end: the contexts that came in, and the ids that were
/// recorded.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// Whether the filter had the request's headers before its end.
    pub(crate) on_time: bool,
    pub(crate) contexts: Contexts,
    /// The proxy's own ids, from the headers of `ids`.
    pub(crate) own: Option<TraceId>,
    pub(crate) own_span: Option<SpanId>,
    /// Whether nobody continues the trace that came in.
    pub(crate) is_discarded: bool,
    /// Whether `x-request-id` has the decision of a proxy to trace the request.
    pub(crate) is_traced: bool,
    /// The ids that were recorded already.
    pub(crate) recorded: Ids,
}

impl Arrival {
    /// The ids that were recorded of the request so far.
    #[must_use]
    pub fn recorded(&self) -> &Ids {
        &self.recorded
    }
}

/// The content of every format.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contexts(PerFormat<ReadContext>);

/// The content of one format.
#[derive(Clone, Copy, Debug, Default)]
struct ReadContext {
    extracted: Extracted,
    /// Whether the tracer refuses it.
    is_refused: bool,
}

impl Contexts {
    /// The content of `format`, as the tracer that makes the span reads it.
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

    /// Whether any format has the span of `context`, also a format that the tracer refuses: another
    /// filter may have made one value of several.
    pub(crate) fn name_span_of(&self, context: &TraceContext) -> bool {
        self.0.iter().any(|read| match read.extracted {
            Extracted::Context(known) => known.is_same_span(context),
            _ => false,
        })
    }

    /// Whether one of `formats` has ids that cannot be read here, but perhaps can be by the tracer.
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
    /// Reads a request without the headers of `ids`. These are not trusted where the filter has
    /// only the end of a request: it is not known whether the step that writes them has run.
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

    /// The content of every format. A header that came more than once is read as the tracer that
    /// makes the span reads it.
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

    /// `ids.trace_id_header`.
    #[must_use]
    pub fn trace_id_header(&self) -> Option<&[u8]> {
        self.trace_id_header.as_deref()
    }

    /// The headers of `ids` that the request has. The upstream does not need them.
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

/// Whether the request id has the decision to trace. Envoy packs it into digit 14 of the UUID: the
/// digit is 4 where it does not trace, and 9, a or b where it does (`envoy.request_id.uuid`).
fn says_traced(request_id: &[u8]) -> bool {
    request_id.len() == 36 && matches!(request_id.get(14), Some(b'9' | b'a' | b'b'))
}
