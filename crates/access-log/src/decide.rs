//! Finds the ids of the span that the proxy exports, from everything that is known.
//!
//! The behaviour of Envoy's tracers was measured; `docs/access_log_trace.md` has the table.

use meshtrace_headers::Headers;
use meshtrace_propagation::format::{Extracted, Format};
use meshtrace_propagation::{SpanId, TraceContext, TraceFlags, TraceId};

use crate::access_log_ids::{AccessLogIds, TracerKind};
use crate::arrival::{Arrival, Contexts, only_line};
use crate::counter::{Counter, Tally};
use crate::ids::Ids;

/// The context that the tracer has written for the next hop.
#[derive(Clone, Copy, Debug)]
struct Written {
    trace_id: TraceId,
    /// The id of the request's own span, or with `spawn_upstream_span` that of the attempt's span.
    /// `None` where two formats disagree.
    span_id: Option<SpanId>,
    /// The parent of the span, as B3 has it.
    parent: Option<SpanId>,
    flags: Option<TraceFlags>,
    format: Format,
    is_b3: bool,
}

impl AccessLogIds {
    /// Reads a request whose headers have come, the headers of `ids` included: those must then be
    /// removed, see [`AccessLogIds::own_headers`].
    #[must_use]
    pub fn arrive(&self, headers: Headers<'_>, tally: &mut Tally) -> Arrival {
        self.arrive_from(headers, true, tally)
    }

    /// The same as [`arrive`](Self::arrive). From a caller that is not `believed`, the trace that
    /// came in is nobody's id: `trace_context.incoming` restarts or ignores it.
    #[must_use]
    pub fn arrive_from(&self, headers: Headers<'_>, believed: bool, tally: &mut Tally) -> Arrival {
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
            is_discarded: !believed,
            own,
            // A span id belongs to its trace: without a trace id it is not used.
            own_span: own.and(own_span.and_then(|(_, id)| id)),
            ..self.read_arrival(headers)
        };
        arrival.recorded = self.at_request(&arrival);
        arrival
    }

    /// The ids that are certain as soon as the request's headers have come.
    pub(crate) fn at_request(&self, arrival: &Arrival) -> Ids {
        let incoming = match self.tracer {
            TracerKind::Unknown => None,
            _ => self.incoming(arrival),
        };
        self.ids(arrival, None, arrival.own.or(incoming))
    }

    /// The ids that can be known at the request's end, from its headers at that time. `arrival` is
    /// `None` where the filter did not have the headers before.
    #[must_use]
    pub fn at_end(
        &self,
        arrival: Option<&Arrival>,
        headers: Headers<'_>,
        tally: &mut Tally,
    ) -> Ids {
        let late;
        let (arrival, written) = match arrival {
            Some(arrival) => {
                let end = self.contexts(headers);
                (arrival, self.written(arrival, &end, tally))
            }
            // The tracer wrote nothing: an answer was made before the filter.
            None => {
                tally.count(Counter::EndOnly);
                late = self.read_arrival(headers);
                (&late, None)
            }
        };
        let (trace_id, source) = if arrival.own.is_some() {
            (arrival.own, Counter::SourceIds)
        } else if let Some(written) = &written {
            (Some(written.trace_id), Counter::SourceInjected)
        } else {
            match self.incoming(arrival) {
                None => (None, Counter::SourceNone),
                incoming => (incoming, Counter::SourceIncoming),
            }
        };
        tally.count(source);
        let written = written.filter(|written| Some(written.trace_id) == trace_id);
        let ids = self.ids(arrival, written, trace_id);
        if ids.trace_id.is_some() && ids.span_id.is_none() && self.tracer != TracerKind::None {
            tally.count(Counter::SpanIdUnknown);
        }
        ids
    }

    fn ids(&self, arrival: &Arrival, written: Option<Written>, trace_id: Option<TraceId>) -> Ids {
        let Some(trace) = trace_id else {
            return Ids::default();
        };
        let continued = self.continued(arrival, trace);
        let span_id = self.span_id(arrival, written, trace, continued);
        Ids {
            trace_id,
            span_id,
            parent_span_id: self.parent(span_id, written, continued),
            flags: match written {
                Some(written) => written.flags,
                None => self.kept_flags(arrival, continued),
            },
            format: match (continued, written) {
                (Some((format, _)), _) => Some(format),
                (None, Some(written)) => Some(written.format),
                (None, None) => None,
            },
        }
    }

    /// The trace of the context that the tracer takes from the headers that came in. Without a
    /// tracer, this is the trace of the context that is sent on.
    fn incoming(&self, arrival: &Arrival) -> Option<TraceId> {
        if arrival.is_discarded {
            return None;
        }
        let mut contexts = self
            .formats
            .iter()
            .filter_map(|format| arrival.contexts.context(*format));
        match self.tracer {
            TracerKind::None => contexts.next().map(|context| context.trace_id),
            // After a header that it refuses, a tracer does not look for others, or not every
            // tracer does.
            TracerKind::Zipkin | TracerKind::Other => {
                let first = self
                    .formats
                    .iter()
                    .map(|format| arrival.contexts.of(*format))
                    .find(|extracted| *extracted != Extracted::Absent);
                match first {
                    Some(Extracted::Context(context)) => Some(context.trace_id),
                    _ => None,
                }
            }
            TracerKind::Unknown => {
                // The step before the filter found no span: so there is no other trace.
                let no_span = arrival.on_time && self.trace_id_header.is_some();
                if arrival.is_traced && !no_span {
                    return None;
                }
                let trace_id = contexts.next()?.trace_id;
                contexts
                    .all(|context| context.trace_id == trace_id)
                    .then_some(trace_id)
            }
        }
    }

    /// The context of `trace` that came in.
    pub(crate) fn continued(
        &self,
        arrival: &Arrival,
        trace: TraceId,
    ) -> Option<(Format, TraceContext)> {
        let mut contexts = self
            .formats
            .iter()
            .filter_map(|format| Some((*format, arrival.contexts.context(*format)?)))
            .filter(|(_, context)| context.trace_id == trace);
        let first = contexts.next()?;
        // Which of two spans it continues depends on the tracer.
        let agree = self.tracer != TracerKind::Unknown
            || contexts.all(|(_, context)| context.span_id == first.1.span_id);
        agree.then_some(first)
    }

    /// The context that has changed since the request came in.
    ///
    /// A context that only has in another format what came in is not the tracer's. It was written
    /// by a filter behind this one, or by a tracer that shares the caller's span.
    fn written(&self, arrival: &Arrival, end: &Contexts, tally: &mut Tally) -> Option<Written> {
        let mut written: Option<Written> = None;
        for format in &self.formats {
            let Some(context) = end.context(*format) else {
                continue;
            };
            if arrival.contexts.name_span_of(&context) {
                continue;
            }
            let is_b3 = matches!(format, Format::B3 | Format::B3Multi);
            match &mut written {
                None => {
                    written = Some(Written {
                        trace_id: context.trace_id,
                        span_id: Some(context.span_id),
                        parent: context.b3_parent,
                        flags: TraceFlags::of(&context),
                        format: *format,
                        is_b3,
                    });
                }
                Some(written) if written.trace_id != context.trace_id => {
                    tally.count(Counter::Ambiguous);
                    return None;
                }
                Some(written) => {
                    if written.span_id != Some(context.span_id) {
                        tally.count(Counter::Ambiguous);
                        written.span_id = None;
                    }
                    written.parent = written.parent.or(context.b3_parent);
                    written.is_b3 |= is_b3;
                }
            }
        }
        written
    }

    fn span_id(
        &self,
        arrival: &Arrival,
        written: Option<Written>,
        trace: TraceId,
        continued: Option<(Format, TraceContext)>,
    ) -> Option<SpanId> {
        // Where an answer was made before the filter, it is not known whether there is a span.
        if self.tracer == TracerKind::None || !arrival.on_time {
            return None;
        }
        if arrival.own_span.is_some() {
            return arrival.own_span;
        }
        let callers = continued.map(|(_, context)| context.span_id);
        let is_root = continued.is_none() && !arrival.contexts.has_unreadable(&self.formats);
        if is_root && let Some(root) = self.zipkin_root(trace, written) {
            return Some(root);
        }
        let Some(written) = written else {
            let shares = self.tracer == TracerKind::Zipkin && self.shares == Some(true);
            return callers.filter(|_| shares);
        };
        match self.spawns {
            Some(false) => written.span_id,
            // The span of the attempt has the request's own as its parent.
            Some(true) => written.span_id.and(written.parent),
            None => {
                let (parent, callers) = (written.parent?, callers?);
                if parent != callers {
                    // Only the attempt's span has another parent than the caller's span.
                    return written
                        .span_id
                        .and(parent_is_written(arrival).then_some(parent));
                }
                match self.shares {
                    Some(false) => written.span_id,
                    Some(true) => Some(callers),
                    None => None,
                }
            }
        }
    }

    /// Envoy's Zipkin tracer takes one random number for a new trace's right half and for its first
    /// span (`source/extensions/tracers/zipkin/tracer.cc`, `Tracer::startSpan`).
    fn zipkin_root(&self, trace: TraceId, written: Option<Written>) -> Option<SpanId> {
        let root = SpanId::new(trace.low())?;
        let is_zipkin = match (self.tracer, written) {
            (TracerKind::Zipkin, _) => true,
            (TracerKind::Unknown, Some(written)) => {
                written.is_b3 && [written.span_id, written.parent].contains(&Some(root))
            }
            _ => false,
        };
        is_zipkin.then_some(root)
    }

    fn parent(
        &self,
        span_id: Option<SpanId>,
        written: Option<Written>,
        continued: Option<(Format, TraceContext)>,
    ) -> Option<SpanId> {
        let (_, callers) = continued?;
        match span_id {
            // The proxy's span has the same id as the caller's: both are one span, seen from two
            // sides.
            Some(shared) if shared == callers.span_id => callers.b3_parent,
            Some(_) => Some(callers.span_id),
            None => {
                let shares_not = match self.tracer {
                    TracerKind::None | TracerKind::Other => true,
                    TracerKind::Zipkin => self.shares == Some(false),
                    TracerKind::Unknown => {
                        self.shares == Some(false) || written.is_some_and(|written| !written.is_b3)
                    }
                };
                shares_not.then_some(callers.span_id)
            }
        }
    }

    /// The caller's flags, where they are the proxy's too.
    fn kept_flags(
        &self,
        arrival: &Arrival,
        continued: Option<(Format, TraceContext)>,
    ) -> Option<TraceFlags> {
        let (format, callers) = continued?;
        let kept = match self.tracer {
            TracerKind::None => true,
            // Zipkin's tracer follows a decision of B3. OpenTelemetry's tracer may override its
            // caller's decision.
            TracerKind::Zipkin => matches!(format, Format::B3 | Format::B3Multi),
            TracerKind::Other => false,
            TracerKind::Unknown => arrival.own.is_none(),
        };
        if kept { TraceFlags::of(&callers) } else { None }
    }
}

/// Whether `x-b3-parentspanid` at the request's end is the tracer's. The tracer does not remove one
/// that came without ids.
fn parent_is_written(arrival: &Arrival) -> bool {
    matches!(
        arrival.contexts.of(Format::B3Multi),
        Extracted::Absent | Extracted::Context(_)
    )
}
