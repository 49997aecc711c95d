//! The stage `report`: this hop's own spans, opened with the request, closed and reported when it
//! is over.

mod background;
mod close;
mod end_values;
mod span;
mod tail;

use core::cell::RefCell;

use arrayvec::ArrayVec;
use meshtrace_headers::Headers;
use meshtrace_otlp::{
    Attributes, Exporter, Node, NodeAttributes, Pool, Record, Report, Role, conventions,
};
use meshtrace_propagation::{IdGenerator, SpanId};

pub(crate) use self::end_values::is_redirected;
use self::end_values::may_be_client;
use self::span::MAX_METHOD;
pub(crate) use self::span::{Identity, OpenSpan, Start, add};
use self::tail::Tail;
use crate::Lookup;

/// The tracer of one root context.
#[derive(Debug)]
pub(crate) struct Tracer {
    exporter: RefCell<Exporter>,
    role: Role,
    tail: Tail,
    /// The attributes that every span has.
    of_node: NodeAttributes,
    /// Whether a span without a path template is named by the cluster of its request.
    names_operation: bool,
    /// Whether the spans have the attributes of Envoy's own tracers too.
    has_envoy_attributes: bool,
    pool: Pool,
    /// The attributes of one span's end. They are lent to one span at a time.
    at_end: RefCell<Attributes>,
}

/// The data of a span that is sure to be reported, besides the data from its request's headers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Details<'a> {
    /// The template that the path fits.
    pub(crate) route: Option<&'a [u8]>,
    /// W3C's `tracestate`; empty where there is none.
    pub(crate) tracestate: &'a [u8],
}

impl Tracer {
    /// Makes a tracer at this `node`. The keys for which `is_taken` holds are those of other
    /// attributes of the spans.
    pub(crate) fn new(report: Report, node: Node<'_>, is_taken: &dyn Fn(&str) -> bool) -> Self {
        Self {
            role: report.role_at(node),
            tail: Tail::new(report.keep()),
            of_node: report.node_attributes(node, is_taken),
            names_operation: report.names_operation(),
            has_envoy_attributes: report.has_envoy_attributes(),
            exporter: RefCell::new(Exporter::new(report, node)),
            pool: Pool::default(),
            at_end: RefCell::default(),
        }
    }

    pub(crate) fn summary(&self) -> String {
        let exporter = self.exporter.try_borrow();
        exporter.map_or_else(|_| String::new(), |exporter| exporter.report().summary())
    }

    /// Whether requests may be reported although they are not sampled.
    pub(crate) fn keeps_any(&self) -> bool {
        self.tail.keeps_any()
    }

    /// Whether a request is reported as a SERVER span and a CLIENT span.
    pub(crate) fn is_gateway(&self) -> bool {
        self.role == Role::Gateway
    }

    /// The expressions that the host is to compile.
    pub(crate) fn expressions(&self) -> Vec<String> {
        end_values::expressions(self.role)
    }

    /// The id of the CLIENT span below the request's own, where the role has one.
    pub(crate) fn client_id(&self, ids: &IdGenerator) -> Option<SpanId> {
        self.is_gateway().then(|| ids.span_id())
    }

    /// Opens the span of a request with these `headers`.
    #[inline(never)]
    pub(crate) fn open(
        &self,
        identity: Identity,
        start: Start,
        headers: &Headers<'_>,
        details: Details<'_>,
    ) -> OpenSpan {
        let request = conventions::Request::scan(headers);
        let mut method = ArrayVec::new();
        let cut = request.method.get(..MAX_METHOD).unwrap_or(request.method);
        // The method is cut to the room that there is.
        let _ = method.try_extend_from_slice(cut);
        let may_be_kept = !identity.sampled && self.may_report(false, identity.never);
        let came = (may_be_kept && request.is_rewritten())
            .then(|| [request.target, request.authority].map(Box::from));
        OpenSpan {
            identity,
            start,
            is_grpc: request.is_grpc(),
            is_long_lived: request.is_long_lived(),
            is_connect: request.is_connect(),
            came,
            method,
            responded: false,
            answered: false,
            grpc_status: None,
            record: identity.sampled.then(|| self.record(&request, details)),
        }
    }

    fn record(&self, request: &conventions::Request<'_>, details: Details<'_>) -> Box<Record> {
        let Details { route, tracestate } = details;
        let mut record = self.pool.take();
        record.name = request.name(route);
        record.has_template = route.is_some();
        request.describe(&mut record.request);
        if self.role != Role::Client {
            request.describe_server(route, &mut record.server);
        }
        if self.has_envoy_attributes {
            request.describe_as_envoy(&mut record.request);
            request.describe_url_as_envoy(&mut record.server);
        }
        if may_be_client(self.role) {
            record.keep_route(route, request.path());
        }
        record.keep_tracestate(tracestate);
        record
    }

    /// The response has begun. Records now whether it is the upstream's response: later, the
    /// details of its code may be the cause of its end.
    pub(crate) fn on_response(&self, open: &mut OpenSpan, lookup: &dyn Lookup) {
        open.responded = true;
        if may_be_client(self.role) && self.may_be_reported(open) {
            open.answered = end_values::is_from_upstream(lookup);
        }
    }

    /// The trailers of the response have come. Reads the status of gRPC from them now: at the end,
    /// the trailers of gRPC-Web are in the response's body.
    pub(crate) fn on_response_trailers(&self, open: &mut OpenSpan, lookup: &dyn Lookup) {
        if !open.is_grpc || !self.may_be_reported(open) {
            return;
        }
        let block = lookup.response_trailers().unwrap_or_default();
        let trailers = Headers::parse(&block).unwrap_or_default();
        let status = trailers.lines(b"grpc-status").next();
        open.grpc_status = status.map(conventions::parse_grpc_status);
    }

    /// Whether the span of a request may be reported: it is `sampled`, or it may be kept because no
    /// rule says `never`.
    pub(crate) fn may_report(&self, sampled: bool, never: bool) -> bool {
        sampled || (!never && self.keeps_any())
    }

    fn may_be_reported(&self, open: &OpenSpan) -> bool {
        self.may_report(open.identity.sampled, open.identity.never)
    }
}
