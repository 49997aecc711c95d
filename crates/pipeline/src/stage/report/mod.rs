//! The hop's own spans: opened with the request, closed and reported when it is over.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use meshtrace_attributes::Attribute;
use meshtrace_counters::Counter as _;
use meshtrace_envoy::attribute::{self, AttributePath, response_header};
use meshtrace_envoy::grpc_status;
use meshtrace_envoy::response_code_details::VIA_UPSTREAM;
use meshtrace_headers::Headers;
use meshtrace_otlp::conventions::{self, CLIENT_END_VALUES, END_VALUES, LOCAL_END_VALUES};
use meshtrace_otlp::{
    Answer, Attributes, Counter, Dispatch, Exporter, Keep, Kind, Node, Pool, Record, Report, Role,
    Span, Tally,
};
use meshtrace_propagation::{IdGenerator, SpanId, TraceId};

use crate::background::Background;
use crate::{Clock, Lookup, Stage};

/// The tracer of one root context.
#[derive(Debug)]
pub(crate) struct Tracer {
    exporter: RefCell<Exporter>,
    role: Role,
    keep: Keep,
    /// The second that counts, and what was kept in it.
    kept: Cell<(u64, u32)>,
    pool: Pool,
    /// Lent to one span at a time.
    at_end: RefCell<Attributes>,
}

/// A span that is not over.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    trace_id: TraceId,
    span_id: SpanId,
    /// The CLIENT span below it, which the next hop is told, where the role has one.
    client_id: Option<SpanId>,
    parent: Option<SpanId>,
    sampled: bool,
    never: bool,
    start: Start,
    is_grpc: bool,
    is_long_lived: bool,
    is_connect: bool,
    /// Headers of a rewrite came in: they do not tell of this proxy's.
    came_rewritten: bool,
    /// The response's headers are the upstream's.
    answered: bool,
    /// What the response's trailers said of gRPC's status.
    grpc_status: Option<u32>,
    /// What the request's headers told; only of sampled requests.
    record: Option<Box<Record>>,
}

/// When a request began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// By the monotonic clock.
    monotonic: u64,
    /// Nanoseconds since the Unix epoch; read only where the span is sure to be reported.
    wall: Option<u64>,
}

impl Start {
    /// Reads the clocks now, before the next hop is told of the span: so every span that this one
    /// causes starts later, and setting the clock meanwhile changes neither start nor end.
    pub(crate) fn now(clock: &dyn Clock, sampled: bool) -> Self {
        // In this order, so that no delay between the two makes the span end too early.
        let monotonic = clock.monotonic().unwrap_or_default();
        let wall = sampled.then(|| clock.wall().unwrap_or_default());
        Self { monotonic, wall }
    }

    /// A start that lies `nanoseconds` back.
    pub(crate) fn earlier(clock: &dyn Clock, nanoseconds: u64, sampled: bool) -> Self {
        let Self { monotonic, wall } = Self::now(clock, sampled);
        Self {
            monotonic: monotonic.saturating_sub(nanoseconds),
            wall: wall.map(|wall| wall.saturating_sub(nanoseconds)),
        }
    }

    /// What the wall clock showed then. Where it was not read then, both clocks are read now, one
    /// directly after the other.
    fn wall(self, clock: &dyn Clock) -> u64 {
        self.wall.unwrap_or_else(|| {
            // In this order, so that no delay between the two makes the span start too late.
            let wall = clock.wall().unwrap_or_default();
            wall.saturating_sub(self.until(clock.monotonic().unwrap_or_default()))
        })
    }

    /// Nanoseconds from then to `now`, by the monotonic clock.
    fn until(self, now: u64) -> u64 {
        now.saturating_sub(self.monotonic)
    }
}

/// The identity of a span to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) sampled: bool,
    /// Not even a failure is reported.
    pub(crate) never: bool,
    /// The template that the path fits; only where it is sampled.
    pub(crate) route: Option<&'a [u8]>,
    /// W3C's list; empty where there is none.
    pub(crate) tracestate: &'a [u8],
}

impl OpenSpan {
    /// The span that the next hop is to be told, and the one that called it.
    pub(crate) fn injected(&self) -> (SpanId, Option<SpanId>) {
        match self.client_id {
            Some(client) => (client, Some(self.span_id)),
            None => (self.span_id, self.parent),
        }
    }

    /// The span that the next hop was told, where it is not the request's own.
    pub(crate) fn client_id(&self) -> Option<SpanId> {
        self.client_id
    }

    /// Nobody was told of a call: the proxy had answered before this filter saw the request.
    pub(crate) fn without_call(mut self) -> Self {
        self.client_id = None;
        self
    }

    /// Gives the request's own span the id that was told, where no upstream was called: whoever was
    /// told it, as an authoriser in between, has a parent that is reported. Returns that id.
    fn take_told_id(&mut self, has_upstream: bool) -> Option<SpanId> {
        if has_upstream {
            return None;
        }
        self.span_id = self.client_id.take()?;
        Some(self.span_id)
    }

    /// Adds attributes of the request or its response, where the span is to be reported.
    pub(crate) fn describe<'a>(&mut self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        if let Some(record) = &mut self.record {
            add(attributes, &mut record.request);
        }
    }
}

/// Adds `attributes` to those of a span.
pub(crate) fn add<'a>(attributes: impl IntoIterator<Item = Attribute<'a>>, to: &mut Attributes) {
    for attribute in attributes {
        to.text(attribute.key, attribute.value.as_bytes());
    }
}

/// Places in [`Tracer::expressions`].
const VALUES: usize = 0;
const LOCAL_VALUES: usize = 1;
const IN_TROUBLE: usize = 2;
const NOT_FROM_UPSTREAM: usize = 3;

/// Has a value for a server's error, or where something happened to the answer. Otherwise it fails,
/// which costs two thirds of what two properties do: the host hands over no bytes.
const TROUBLE: &str = "1 / (response.flags + response.code / 500)";

/// Has a value where the response is not the upstream's, and otherwise fails in the same way.
fn not_from_upstream() -> String {
    let answer = VIA_UPSTREAM.escape_ascii();
    let details = attribute::RESPONSE_CODE_DETAILS.expression;
    format!(r#"1 / ({details} == "{answer}" ? 0 : 1)"#)
}

impl Tracer {
    pub(crate) fn new(report: Report, node: Node<'_>) -> Self {
        Self {
            role: report.role_at(node),
            keep: report.keep(),
            exporter: RefCell::new(Exporter::new(report, node)),
            kept: Cell::default(),
            pool: Pool::default(),
            at_end: RefCell::default(),
        }
    }

    /// Whether requests may be reported although they are not sampled.
    pub(crate) fn keeps(&self) -> bool {
        self.keep.any()
    }

    pub(crate) fn expressions(&self) -> Vec<String> {
        let all = self.end_values();
        let local = all.get(..LOCAL_END_VALUES).unwrap_or(all);
        let mut expressions = vec![list_of(all), list_of(local), TROUBLE.to_owned()];
        if self.may_be_client() {
            expressions.push(not_from_upstream());
        }
        expressions
    }

    /// Whether a request may be reported as a CLIENT span.
    fn may_be_client(&self) -> bool {
        self.role != Role::Server
    }

    /// The [`END_VALUES`] that this role needs: a server knows of no attempts, and only a sidecar
    /// asks for its listener's direction.
    fn end_values(&self) -> &'static [AttributePath] {
        let left_out = match self.role {
            Role::ByDirection => 0,
            Role::Client | Role::Gateway => 1,
            Role::Server => CLIENT_END_VALUES,
        };
        let count = END_VALUES.len() - left_out;
        END_VALUES.get(..count).unwrap_or(&END_VALUES)
    }

    #[inline(never)]
    pub(crate) fn open(
        &self,
        identity: &Identity<'_>,
        headers: &Headers<'_>,
        start: Start,
        ids: &IdGenerator,
    ) -> OpenSpan {
        let request = conventions::Request::scan(headers);
        OpenSpan {
            trace_id: identity.trace_id,
            span_id: identity.span_id,
            client_id: (self.role == Role::Gateway).then(|| ids.span_id()),
            parent: identity.parent,
            sampled: identity.sampled,
            never: identity.never,
            start,
            is_grpc: request.is_grpc(),
            is_long_lived: request.is_long_lived(),
            is_connect: request.is_connect(),
            came_rewritten: request.is_rewritten(),
            answered: false,
            grpc_status: None,
            record: identity
                .sampled
                .then(|| self.record(&request, identity.route, identity.tracestate)),
        }
    }

    fn record(
        &self,
        request: &conventions::Request<'_>,
        route: Option<&[u8]>,
        tracestate: &[u8],
    ) -> Box<Record> {
        let mut record = self.pool.take();
        record.name = request.name(route);
        request.describe(&mut record.request);
        if self.role != Role::Client {
            request.describe_server(route, &mut record.server);
        }
        if self.may_be_client() {
            record.keep_route(route, request.path());
        }
        record.keep_tracestate(tracestate);
        record
    }

    /// The response has begun: whether it is the upstream's is known only now. Later on the code's
    /// details tell of what ended it.
    pub(crate) fn on_response(&self, open: &mut OpenSpan, lookup: &dyn Lookup) {
        if self.may_be_client() && self.may_report(open) {
            open.answered = is_from_upstream(lookup);
        }
    }

    /// The trailers of the response have come: at the end those of gRPC-Web are in its body.
    pub(crate) fn on_response_trailers(&self, open: &mut OpenSpan, lookup: &dyn Lookup) {
        if !open.is_grpc || !self.may_report(open) {
            return;
        }
        let block = lookup.response_trailers().unwrap_or_default();
        let trailers = Headers::parse(&block).unwrap_or_default();
        let status = trailers.lines(b"grpc-status").next();
        open.grpc_status = status.and_then(conventions::parse_grpc_status);
    }

    fn may_report(&self, open: &OpenSpan) -> bool {
        open.sampled || (!open.never && self.keeps())
    }

    /// `route` and `describe` tell what the request's headers do besides the conventions, where
    /// nothing was kept of them. Returns the id of the request's own span where it has become another
    /// one.
    #[inline(never)]
    pub(crate) fn close<'r>(
        &self,
        mut open: OpenSpan,
        lookup: &dyn Lookup,
        route: impl FnOnce(&Headers<'_>) -> Option<&'r [u8]>,
        describe: impl FnOnce(Headers<'_>, &mut Attributes),
        tally: &mut Tally,
    ) -> Option<SpanId> {
        if !self.may_report(&open) {
            return None;
        }
        let now = lookup.monotonic().unwrap_or_default();
        if !open.sampled && !self.is_suspicious(&open, now, lookup) {
            return None;
        }
        let values = Values::fetch(self.end_values(), lookup);
        if !values.is_listed {
            tally.count(Counter::LookedUpSingly);
        }
        let seen = conventions::Seen {
            grpc_status: open.is_grpc.then(|| grpc_status(&open, lookup)).flatten(),
            answered: open.answered,
            is_connect: open.is_connect,
        };
        let end = conventions::End::new(&values.all(), seen);
        let reason = match open.sampled {
            true => None,
            false => match self.reason_to_keep(&open, &end, now, tally) {
                Some(reason) => Some(reason),
                None => return None,
            },
        };
        let told_id = open.take_told_id(end.has_upstream());
        let spans = Spans {
            of_client: self.client_span(&open, &end),
            of_server: self.is_server(&end),
        };
        // A SERVER span that is kept needs them no more: what came in may be another thing by now.
        let block = match (&open.record, spans.of_client) {
            (Some(_), None) => None,
            _ => lookup.request_headers(),
        };
        let headers = block.as_deref().and_then(Headers::parse);
        let request = conventions::Request::scan(&headers.unwrap_or_default());
        let record = match open.record.take() {
            Some(record) => record,
            None => {
                let request = match open.came_rewritten {
                    true => request,
                    false => request.before_rewrite(),
                };
                let headers = headers.unwrap_or_default();
                let mut record = self.record(&request, route(&headers), b"");
                describe(headers, &mut record.request);
                record
            }
        };
        let sent = match end.is_redirected() {
            true => request.before_redirect(),
            false => headers.is_some().then_some(request),
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
        told_id
    }

    /// Whether a request is a SERVER span and a CLIENT one.
    pub(crate) fn is_gateway(&self) -> bool {
        self.role == Role::Gateway
    }

    /// Whether there is a SERVER span.
    fn is_server(&self, end: &conventions::End<'_>) -> bool {
        match self.role {
            Role::Server | Role::Gateway => true,
            Role::Client => false,
            Role::ByDirection => !end.is_outbound(),
        }
    }

    /// The CLIENT span's identity, where there is one: its id and its parent.
    fn client_span(
        &self,
        open: &OpenSpan,
        end: &conventions::End<'_>,
    ) -> Option<(SpanId, Option<SpanId>)> {
        match open.client_id {
            Some(client) => end.has_upstream().then_some((client, Some(open.span_id))),
            None => (!self.is_server(end)).then_some((open.span_id, open.parent)),
        }
    }

    /// Whether a request that is not sampled may have to be kept.
    fn is_suspicious(&self, open: &OpenSpan, now: u64, lookup: &dyn Lookup) -> bool {
        if self.is_slow(open, now) {
            return true;
        }
        self.keep.errors && (open.is_grpc || is_in_trouble(lookup))
    }

    fn is_slow(&self, open: &OpenSpan, now: u64) -> bool {
        let duration = Duration::from_nanos(open.start.until(now));
        !open.is_long_lived && self.keep.slower_than.is_some_and(|limit| duration > limit)
    }

    fn reason_to_keep(
        &self,
        open: &OpenSpan,
        end: &conventions::End<'_>,
        now: u64,
        tally: &mut Tally,
    ) -> Option<&'static [u8]> {
        let reason: &[u8] = if self.keep.errors && end.is_server_error() {
            b"error"
        } else if self.is_slow(open, now) && !end.client_went_away() {
            b"slow"
        } else {
            return None;
        };
        let second = now / 1_000_000_000;
        let kept = match self.kept.get() {
            (of, kept) if of == second => kept,
            _ => 0,
        };
        if kept >= self.keep.per_second {
            tally.count(Counter::KeepLimited);
            return None;
        }
        self.kept.set((second, kept + 1));
        tally.count(Counter::Kept);
        Some(reason)
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
        let mut report = |kind, span_id, parent, is_remote| {
            at_end.clear();
            let is_first = kind == Kind::Server || !spans.of_server;
            if let Some(reason) = closing.reason.filter(|_| is_first) {
                at_end.text(conventions::KEPT, reason);
            }
            if let Some(sent) = closing.sent.filter(|_| kind == Kind::Client) {
                sent.describe_client(record.route_of(sent.path()), &mut at_end);
            }
            let status = closing.end.describe(kind, &mut at_end);
            let parts: &[&Attributes] = match kind {
                Kind::Server => &[&record.request, &record.server, &at_end],
                Kind::Client => &[&record.request, &at_end],
            };
            if parts.iter().any(|part| part.dropped() > 0) {
                tally.count(Counter::Truncated);
            }
            let span = Span {
                trace_id: open.trace_id,
                span_id,
                parent,
                parent_is_remote: is_remote,
                sampled: open.sampled,
                tracestate: &record.tracestate,
                name: record.name.as_bytes(),
                kind,
                start: closing.start_time,
                end: closing.end_time,
                attributes: parts,
                status,
            };
            exporter.push(&span, closing.now);
        };
        if spans.of_server {
            report(Kind::Server, open.span_id, open.parent, true);
        }
        if let Some((id, parent)) = spans.of_client {
            report(Kind::Client, id, parent, !spans.of_server);
        }
    }
}

/// The spans that a request is reported as.
#[derive(Clone, Copy, Debug)]
struct Spans {
    of_server: bool,
    /// Its id and its parent.
    of_client: Option<(SpanId, Option<SpanId>)>,
}

/// What the spans of a request are told at its end.
struct Closing<'c> {
    end: &'c conventions::End<'c>,
    /// Why it is kept.
    reason: Option<&'c [u8]>,
    /// The request as it was sent on; none where that cannot be known.
    sent: Option<&'c conventions::Request<'c>>,
    /// Nanoseconds since the Unix epoch.
    start_time: u64,
    /// `start_time`, and what the monotonic clock says that the request lasted.
    end_time: u64,
    /// By the monotonic clock.
    now: u64,
}

/// Whether the response that has begun is the upstream's.
fn is_from_upstream(lookup: &dyn Lookup) -> bool {
    if lookup.is_compiled(NOT_FROM_UPSTREAM) {
        return lookup.evaluate(NOT_FROM_UPSTREAM).is_none();
    }
    let details = lookup.property(attribute::RESPONSE_CODE_DETAILS.property);
    details.as_deref() == Some(VIA_UPSTREAM)
}

/// gRPC's status. Envoy makes one of the HTTP status where the response says none ("HTTP to gRPC
/// Status Code Mapping"); of gRPC-Web, whose trailers are in the body by then, that is nothing that
/// anybody said.
fn grpc_status(open: &OpenSpan, lookup: &dyn Lookup) -> Option<u32> {
    if open.grpc_status.is_some() {
        return open.grpc_status;
    }
    let status = lookup.property(attribute::RESPONSE_GRPC_STATUS.property);
    let status = status.as_deref().and_then(conventions::integer);
    let is_made_up = || {
        let header = |path: &[u8]| lookup.property(path);
        let kind = header(response_header::CONTENT_TYPE).unwrap_or_default();
        conventions::is_grpc_web(&kind) && header(response_header::GRPC_STATUS).is_none()
    };
    let status =
        status.filter(|status| *status != u64::from(grpc_status::UNKNOWN) || !is_made_up());
    status.and_then(|status| u32::try_from(status).ok())
}

/// Whether the answer is a server's error, or something happened to it.
fn is_in_trouble(lookup: &dyn Lookup) -> bool {
    if lookup.is_compiled(IN_TROUBLE) {
        return lookup.evaluate(IN_TROUBLE).is_some();
    }
    let number = |path: AttributePath| conventions::integer(&lookup.property(path.property)?);
    let (code, flags) = (
        number(attribute::RESPONSE_CODE),
        number(attribute::RESPONSE_FLAGS),
    );
    flags != Some(0) || code.is_some_and(|code| code >= 500)
}

/// The values of [`END_VALUES`].
struct Values {
    /// The first of them, in one list; the host serialises that as the names of a header block.
    list: Box<[u8]>,
    /// Those that were not in the list, one by one.
    single: [Option<Box<[u8]>>; END_VALUES.len()],
    is_listed: bool,
}

impl Values {
    fn fetch(wanted: &[AttributePath], lookup: &dyn Lookup) -> Self {
        let lists = [(VALUES, wanted.len()), (LOCAL_VALUES, LOCAL_END_VALUES)];
        let list = lists.into_iter().find_map(|(place, count)| {
            let list = lookup.evaluate(place)?;
            (Headers::parse(&list)?.iter().count() == count).then_some((list, count))
        });
        let is_listed = list.is_some();
        let (list, listed) = list.unwrap_or_default();
        let mut others = wanted.iter().skip(listed);
        Self {
            list,
            single: core::array::from_fn(|_| lookup.property(others.next()?.property)),
            is_listed,
        }
    }

    fn all(&self) -> [Option<&[u8]>; END_VALUES.len()] {
        let list = Headers::parse(&self.list).unwrap_or_default();
        let listed = list.iter().map(|(element, _)| Some(element));
        let mut values = listed.chain(self.single.iter().map(Option::as_deref));
        core::array::from_fn(|_| values.next().flatten())
    }
}

/// A list in CEL of the attributes at `paths`.
fn list_of(paths: &[AttributePath]) -> String {
    let expressions: Vec<_> = paths.iter().map(|path| path.expression).collect();
    format!("[{}]", expressions.join(", "))
}

impl Background for Tracer {
    fn tick(&self) -> Option<Duration> {
        self.exporter.try_borrow().ok()?.tick()
    }

    fn wake(&self, now: u64, dispatch: Dispatch<'_>) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.wake(now, dispatch);
        }
    }

    fn answered(&self, token: u32, answer: &Answer<'_>, dispatch: Dispatch<'_>) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.answered(token, answer, dispatch);
        }
    }

    fn finish(&self, now: u64, dispatch: Dispatch<'_>) -> bool {
        self.exporter
            .try_borrow_mut()
            .is_ok_and(|mut exporter| exporter.finish(now, dispatch))
    }

    fn is_finished(&self) -> bool {
        self.exporter
            .try_borrow()
            .is_ok_and(|exporter| exporter.is_finished())
    }

    fn take_counts(&self, take: &mut dyn FnMut(Stage, usize, u64)) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.take_counts(|counter, amount| take(Stage::Report, counter.index(), amount));
        }
    }

    fn take_complaint(&self) -> Option<String> {
        self.exporter.try_borrow_mut().ok()?.complaint()
    }
}
