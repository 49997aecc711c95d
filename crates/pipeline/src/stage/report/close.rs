//! The end of a span: whether it is reported, as which kinds, and with which data.

use meshtrace_headers::Headers;
use meshtrace_otlp::{Attributes, Counter, Kind, Record, Role, Span, Tally, conventions};
use meshtrace_propagation::SpanId;

use super::end_values::{Fetched, grpc_status_of, is_redirected, leads_elsewhere};
use super::{Details, OpenSpan, Tracer};
use crate::Lookup;

/// The spans that a request is reported as.
#[derive(Clone, Copy, Debug)]
struct Spans {
    of_server: bool,
    /// The id of the CLIENT span, and its parent.
    of_client: Option<(SpanId, Option<SpanId>)>,
}

/// The data that the spans of a request have in common at its end.
struct Closing<'c> {
    end: &'c conventions::End<'c>,
    /// Why the request is kept, where it is not sampled.
    reason: Option<&'c [u8]>,
    /// The request as it was sent on; `None` where that cannot be known.
    sent: Option<&'c conventions::Request<'c>>,
    /// Nanoseconds since the Unix epoch.
    start_time: u64,
    /// `start_time` plus the duration of the request on the monotonic clock.
    end_time: u64,
    /// The time of the end on the monotonic clock, in nanoseconds.
    now: u64,
}

/// The header block of a request as it `came`, before it was rewritten or led elsewhere.
#[cold]
fn block_of(came: &conventions::Request<'_>, headers: &Headers<'_>) -> Vec<u8> {
    let changed: [(&[u8], &[u8]); 4] = [
        (b":method", came.method),
        (b":scheme", came.scheme),
        (b":authority", came.authority),
        (b":path", came.target),
    ];
    let mut lines = Vec::new();
    for (name, value) in headers {
        let changed = changed.iter().find(|(changed, _)| *changed == name);
        lines.push([name, changed.map_or(value, |(_, value)| value)]);
    }
    meshtrace_headers::encode_lines(&lines)
}

impl Tracer {
    /// Reports a request that is over, where it is sampled or kept. Returns the id of the request's
    /// own span where that id has changed.
    ///
    /// `route` and `describe` are used where nothing was kept of the request's headers: `route`
    /// finds the template that their path fits, and `describe` adds the attributes from them that
    /// are not in the conventions.
    #[inline(never)]
    pub(crate) fn close<'r>(
        &self,
        mut open: OpenSpan,
        lookup: &dyn Lookup,
        route: impl FnOnce(&Headers<'_>) -> Option<&'r [u8]>,
        describe: impl FnOnce(Headers<'_>, &mut Attributes),
        tally: &mut Tally,
    ) -> Option<SpanId> {
        if !self.may_be_reported(&open) {
            return self.skip();
        }
        let sampled = open.identity.sampled;
        // The clock is read once: here where it decides whether the request was slow, else below, where
        // most requests do not come.
        let read = || lookup.monotonic().unwrap_or_default();
        let decides = sampled || self.tail.keeps_slow();
        let read_before = decides.then(read);
        let is_suspicious = |now| self.tail.is_suspicious(&open, now, lookup);
        if !sampled && !is_suspicious(read_before.unwrap_or_default()) {
            return self.skip();
        }
        let now = read_before.unwrap_or_else(read);
        let is_redirected = is_redirected(open.responded, lookup);
        let fetched = Fetched::fetch(self.role, lookup);
        if !fetched.is_listed() {
            tally.count(Counter::LookedUpSingly);
        }
        let seen = conventions::Seen {
            answered: open.answered,
            is_connect: open.is_connect,
            ..conventions::Seen::default()
        };
        let mut end = conventions::End::new(&fetched.values(), seen);
        if open.is_grpc {
            let status = grpc_status_of(&open, end.client_went_away(), lookup);
            end = end.with_grpc_status(status);
        }
        let reason = match sampled {
            true => None,
            false => match self.tail.reason(&open, &end, now, tally) {
                None => return self.skip(),
                reason => reason,
            },
        };
        let injected_id = open.take_injected_id(end.has_upstream());
        let spans = Spans {
            of_client: self.client_span(&open, &end),
            of_server: self.is_server(&end),
        };
        // A SERVER span that has its record does not need the headers, which may have changed by
        // now.
        let block = match (&open.record, spans.of_client) {
            (Some(_), None) => None,
            _ => lookup.request_headers(),
        };
        let headers = block.as_deref().and_then(Headers::parse);
        let request = conventions::Request::scan(&headers.unwrap_or_default());
        let sent = match is_redirected {
            true => request.before_redirect(),
            // A filter in front of this one led the request elsewhere when this one had seen its
            // response. Nothing has the URL then.
            false if end.leads_elsewhere() => None,
            false => headers.is_some().then_some(request),
        };
        let record = match open.record.take() {
            Some(record) => record,
            None => {
                let is_next = is_redirected || (open.responded && leads_elsewhere(lookup));
                let mut came = request;
                if is_next {
                    // The headers are those of the next request.
                    let before = sent.filter(|_| is_redirected).unwrap_or_default();
                    came.method = &open.method;
                    came.scheme = before.scheme;
                    came.authority = before.authority;
                    came.target = before.target;
                }
                let came = match &open.came {
                    None => came.before_rewrite(),
                    Some([target, authority]) => {
                        came.target = target;
                        came.authority = authority;
                        came
                    }
                };
                let headers = headers.unwrap_or_default();
                let is_changed = is_next || request.is_rewritten();
                let block = is_changed.then(|| block_of(&came, &headers));
                let of_block = block.as_deref().and_then(Headers::parse);
                let headers = of_block.unwrap_or(headers);
                let request = conventions::Request::scan(&headers);
                let details = Details {
                    route: route(&headers),
                    tracestate: b"",
                };
                let mut record = self.record(&request, details);
                describe(headers, &mut record.request);
                record
            }
        };
        let start_time = open.start.wall(lookup);
        let closing = Closing {
            end: &end,
            reason,
            sent: sent.as_ref(),
            start_time,
            end_time: start_time.saturating_add(open.start.until(now)),
            now,
        };
        self.report(&open, &record, spans, &closing, tally);
        self.pool.give_back(record);
        injected_id
    }

    /// Counts a request that is not reported. No id has changed.
    fn skip(&self) -> Option<SpanId> {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.count_not_sampled();
        }
        None
    }

    /// Whether there is a SERVER span.
    fn is_server(&self, end: &conventions::End<'_>) -> bool {
        match self.role {
            Role::Server | Role::Gateway => true,
            Role::Client => false,
            Role::ByDirection => !end.is_outbound(),
        }
    }

    /// The id of the CLIENT span and its parent, where there is one.
    fn client_span(
        &self,
        open: &OpenSpan,
        end: &conventions::End<'_>,
    ) -> Option<(SpanId, Option<SpanId>)> {
        let identity = &open.identity;
        match identity.client_id {
            Some(client) => end
                .has_upstream()
                .then_some((client, Some(identity.span_id))),
            None => (!self.is_server(end)).then_some((identity.span_id, identity.parent)),
        }
    }

    fn report(
        &self,
        open: &OpenSpan,
        record: &Record,
        spans: Spans,
        closing: &Closing<'_>,
        tally: &mut Tally,
    ) {
        let (Ok(mut exporter), Ok(mut at_end)) =
            (self.exporter.try_borrow_mut(), self.at_end.try_borrow_mut())
        else {
            return;
        };
        let identity = &open.identity;
        let may_be_operation = self.names_operation && !record.has_template;
        let operation = may_be_operation.then(|| closing.end.operation()).flatten();
        let mut report = |kind, span_id, parent, parent_is_remote| {
            at_end.clear();
            let is_first = kind == Kind::Server || !spans.of_server;
            if let Some(reason) = closing.reason.filter(|_| is_first) {
                at_end.text(conventions::KEPT, reason);
            }
            if let Some(sent) = closing.sent.filter(|_| kind == Kind::Client) {
                sent.describe_client(record.route_of(sent.path()), &mut at_end);
                if self.has_envoy_attributes {
                    sent.describe_url_as_envoy(&mut at_end);
                }
            }
            let status = closing.end.describe(kind, &mut at_end);
            if self.has_envoy_attributes {
                closing.end.describe_as_envoy(kind, &mut at_end);
            }
            let of_node = self.of_node.attributes();
            let parts: &[&Attributes] = match kind {
                Kind::Server => &[of_node, &record.request, &record.server, &at_end],
                Kind::Client => &[of_node, &record.request, &at_end],
            };
            if parts.iter().any(|part| part.dropped() > 0) {
                tally.count(Counter::Truncated);
            }
            let span = Span {
                trace_id: identity.trace_id,
                span_id,
                parent,
                parent_is_remote,
                sampled: identity.sampled,
                tracestate: &record.tracestate,
                name: operation.as_ref().unwrap_or(&record.name).as_bytes(),
                kind,
                start: closing.start_time,
                end: closing.end_time,
                attributes: parts,
                status,
            };
            exporter.push(&span, closing.now);
        };
        if spans.of_server {
            report(Kind::Server, identity.span_id, identity.parent, true);
        }
        if let Some((id, parent)) = spans.of_client {
            report(Kind::Client, id, parent, !spans.of_server);
        }
        let origin = Counter::origin(!spans.of_server, identity.parent.is_some());
        exporter.count(origin, 1);
    }
}
