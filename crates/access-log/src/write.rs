//! Writing the ids: as filter state for the access log, and as response headers for the caller.

use meshtrace_envoy::filter_state;
use meshtrace_propagation::{SERVER_TIMING, TRACERESPONSE, TraceFlags, Traceparent, server_timing};

use crate::access_log_ids::AccessLogIds;
use crate::arrival::Arrival;
use crate::ids::Ids;
use crate::text::IdText;

/// A response header, and what happens to the existing headers of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLine<'s> {
    /// They are removed.
    Only(&'s [u8]),
    /// They stay: the header is a list, and the application's own lines are in it.
    Appended(&'s [u8]),
}

impl<'s> HeaderLine<'s> {
    /// The header's name.
    #[must_use]
    pub const fn name(self) -> &'s [u8] {
        match self {
            Self::Only(name) | Self::Appended(name) => name,
        }
    }
}

impl AccessLogIds {
    /// Calls `put` with the filter state keys and values of those `ids` that differ from the
    /// `recorded` ones; with `None` for a value that is too long.
    pub fn write(
        &self,
        ids: &Ids,
        recorded: &Ids,
        mut put: impl FnMut(&'static [u8], Option<IdText>),
    ) {
        if let Some(id) = ids.trace_id.filter(|_| ids.trace_id != recorded.trace_id) {
            put(
                filter_state::TRACE_ID.as_bytes(),
                IdText::concat(&[&id.to_hex()]),
            );
        }
        if let Some(id) = ids.span_id.filter(|_| ids.span_id != recorded.span_id) {
            put(
                filter_state::SPAN_ID.as_bytes(),
                IdText::concat(&[&id.to_hex()]),
            );
        }
        let parent = ids.parent_span_id;
        if let Some(id) = parent.filter(|_| parent != recorded.parent_span_id) {
            put(
                filter_state::PARENT_SPAN_ID.as_bytes(),
                IdText::concat(&[&id.to_hex()]),
            );
        }
        if let Some(flags) = ids.flags.filter(|_| ids.flags != recorded.flags) {
            put(
                filter_state::TRACE_FLAGS.as_bytes(),
                IdText::concat(&[flags.to_hex()]),
            );
        }
        if let Some(format) = ids.format.filter(|_| ids.format != recorded.format) {
            put(
                filter_state::TRACE_FORMAT.as_bytes(),
                IdText::concat(&[format.name().as_bytes()]),
            );
        }
        for shape in &self.shapes {
            shape.write(ids, recorded, &mut put);
        }
    }

    /// Calls `put` with the response headers that give the caller the ids of the trace, as far as
    /// they are known then. The `sampled` flag is the decision; without a decision it is 0.
    pub fn inject_response<'s>(
        &'s self,
        arrival: &Arrival,
        put: impl FnMut(HeaderLine<'s>, Option<IdText>),
    ) {
        let Some(trace_id) = arrival.recorded.trace_id else {
            return;
        };
        let callers = self.continued(arrival, trace_id);
        let flags = callers.and_then(|(_, context)| TraceFlags::of(&context));
        let decided = TraceFlags::new(arrival.is_traced, false);
        let ids = Ids {
            flags: Some(arrival.recorded.flags.or(flags).unwrap_or(decided)),
            ..arrival.recorded
        };
        self.inject_response_ids(&ids, put);
    }

    /// Calls `put` with the response headers that give the caller the `ids`.
    ///
    /// `traceresponse` and `Server-Timing` need the span id and the flags.
    pub fn inject_response_ids<'s>(
        &'s self,
        ids: &Ids,
        mut put: impl FnMut(HeaderLine<'s>, Option<IdText>),
    ) {
        let Some(trace_id) = ids.trace_id else {
            return;
        };
        let digits = trace_id.to_hex();
        if let Some(name) = &self.response_header {
            put(HeaderLine::Only(name), IdText::concat(&[&digits]));
        }
        if self.injects_span()
            && let (Some(span_id), Some(flags)) = (ids.span_id, ids.flags)
        {
            let traceparent = Traceparent::new(trace_id, span_id, flags);
            if self.traceresponse {
                let text = IdText::concat(&traceparent.parts());
                put(HeaderLine::Only(TRACERESPONSE), text);
            }
            if self.server_timing {
                let text = IdText::concat(&server_timing(&traceparent));
                put(HeaderLine::Appended(SERVER_TIMING), text);
            }
        }
    }
}
