//! The life of a span: Envoy starts, injects, tags and finishes it.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use meshtrace_headers::{Change, Headers};
use meshtrace_otlp::RoleConfig;
use meshtrace_pipeline::{Arena, MAX_EDITS, Outcome, Request, SpanStart};
use meshtrace_propagation::{Direction, Peer, Read, SpanId};

use crate::again;
use crate::block::Block;
use crate::call::Carrier;
use crate::clock::SystemClock;
use crate::fate::{Attempts, Place, RequestEnd};
use crate::report;
use crate::sent::Sent;
use crate::tags::{self, NODE_ID, Tags};
use crate::worker::Worker;

/// A span. Envoy has a pointer to it.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) worker: Rc<Worker>,
    pub(crate) family: Rc<Family>,
    /// The parts, until the span is finished.
    pub(crate) parts: Option<Box<Parts>>,
    span_id: SpanId,
    parent: Option<SpanId>,
    kind: Kind,
    /// Whether Envoy's configuration says that this call is not sampled, whatever was decided.
    is_overruled: bool,
    /// The texts from which Envoy reads the ids. They are written when Envoy asks for them.
    trace_id_text: [u8; 32],
    span_id_text: [u8; 16],
}

/// What a span describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request as it came in.
    #[default]
    Request,
    /// An attempt of the router to have the request answered.
    Attempt,
    /// Another call for the request, such as that of an authoriser.
    OtherCall,
}

/// A request and its spans.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// The start of the request's span, and what was read of the request's context. The start's
    /// `tracestate` is in a field of its own.
    pub(crate) start: Option<(SpanStart<'static>, Read)>,
    pub(crate) tracestate: Vec<u8>,
    /// The request's headers as they came in.
    pub(crate) block: Block,
    pub(crate) direction: Direction,
    /// Whether any of its spans may be reported. If none may, the spans store nothing for a report.
    pub(crate) may_report: bool,
    /// Whether the router has made an attempt with a span of its own.
    pub(crate) has_attempt: Cell<bool>,
    pub(crate) attempts: Attempts,
    /// The address of the last attempt's upstream.
    pub(crate) upstream: RefCell<Vec<u8>>,
    pub(crate) sent: Sent,
    /// The ids that the router's last call was told: of its span, and of that one's parent.
    pub(crate) told: Cell<Option<(SpanId, Option<SpanId>)>>,
    /// The end of the request, once it has ended.
    pub(crate) ended: Cell<Option<RequestEnd>>,
    /// When the request ended, where Envoy may follow its answer: nanoseconds of the monotonic clock.
    pub(crate) ended_at: Cell<u64>,
    /// Whether the spans of a request that is not sampled are reported.
    pub(crate) verdict: Cell<Verdict>,
    /// Finished spans of attempts, of which the end of the request and the other attempts may tell
    /// more.
    #[expect(clippy::vec_box, reason = "parts go from span to pool as one pointer")]
    pub(crate) waiting: RefCell<Vec<Box<Parts>>>,
}

/// Whether the spans of a request that is not sampled are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request has not ended.
    #[default]
    Open,
    Report,
    Drop,
}

/// The data with which a span is reported. The memory is used again for other spans.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) kind: Kind,
    pub(crate) span_id: Option<SpanId>,
    pub(crate) parent: Option<SpanId>,
    /// The start, by the monotonic clock.
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// The start, in nanoseconds since the Unix epoch.
    pub(crate) start_time: u64,
    pub(crate) tags: Tags,
    /// Envoy's name for the operation: of another call, and of a request whose route has a
    /// decorator.
    pub(crate) operation: Vec<u8>,
    /// The target to which the router sent the request, of a span that may be a CLIENT span.
    pub(crate) sent_target: Vec<u8>,
    pub(crate) sent_authority: Vec<u8>,
    /// The place of an attempt among the others.
    pub(crate) place: Place,
}

/// The most bytes of memory that a finished span, or a request, leaves to a later one.
const MAX_KEPT_BYTES: usize = 8 * 1024;

impl Parts {
    /// Clears the content. Returns whether the memory is small enough to be kept.
    pub(crate) fn clear(&mut self) -> bool {
        let vectors = [&self.operation, &self.sent_target, &self.sent_authority];
        let is_small = capacity(vectors) + self.tags.capacity() <= MAX_KEPT_BYTES;
        self.tags.clear();
        self.operation.clear();
        self.sent_target.clear();
        self.sent_authority.clear();
        self.place = Place::default();
        is_small
    }
}

impl Family {
    /// Clears the content. Returns whether the memory is small enough to be kept.
    pub(crate) fn clear(&mut self) -> bool {
        self.start = None;
        self.may_report = false;
        self.has_attempt.set(false);
        self.attempts.clear();
        self.told.set(None);
        self.ended.set(None);
        self.verdict.set(Verdict::Open);
        self.waiting.get_mut().clear();
        let upstream = self.upstream.get_mut();
        self.tracestate.clear();
        upstream.clear();
        self.block.clear();
        let texts = capacity([&self.tracestate, upstream]) + self.sent.clear();
        texts + self.block.capacity() <= MAX_KEPT_BYTES
    }

    pub(crate) fn start(&self) -> Option<&SpanStart<'static>> {
        self.start.as_ref().map(|(start, _)| start)
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.start().is_some_and(SpanStart::is_sampled)
    }

    /// The request ends with this URL.
    fn end_with(&self, url: &[u8]) {
        let is_beginning = |path: &[u8]| self.block.request().target.starts_with(path);
        self.sent.end(url, &self.attempts, is_beginning);
    }

    /// The router sends the request with this authority for the attempt of this number, or once more
    /// for the request's own span.
    fn send(&self, authority: &[u8], number: u32) {
        let has_others = self.attempts.open.get() > 1;
        if self.sent.inject(authority, has_others)
            && let Ok(mut waiting) = self.waiting.try_borrow_mut()
            && let Some(before) = waiting
                .iter_mut()
                .find(|parts| parts.place.number != 0 && parts.place.number + 1 == number)
        {
            before.sent_authority.clear();
            before.sent_authority.extend_from_slice(authority);
        }
    }
}

/// The request for the stages.
pub(crate) fn request<'a>(
    headers: Headers<'a>,
    direction: Direction,
    worker: &'a Worker,
    arena: &'a Arena,
) -> Request<'a> {
    Request {
        headers,
        peer: Peer {
            direction,
            ..Peer::default()
        },
        cluster: None,
        properties: &[],
        clock: &SystemClock,
        arena,
        shared: &worker.plugin.shared,
    }
}

fn capacity<const N: usize>(vectors: [&Vec<u8>; N]) -> usize {
    vectors.iter().map(|vector| vector.capacity()).sum()
}

/// Starts the span of a request. `None` where no ids can be made: the request then passes
/// unchanged.
pub(crate) fn start(worker: Rc<Worker>, carrier: &Carrier, operation: &[u8]) -> Option<Box<Span>> {
    let mut family = worker.take_family();
    let started = Rc::get_mut(&mut family)?;
    let plugin = &worker.plugin;
    plugin.names.read_deciding(carrier, &mut started.block);
    started.direction = match tags::is_egress(operation) {
        true => Direction::Outbound,
        // Envoy's name is the same for a listener without a direction.
        false => Direction::Inbound,
    };
    let before = again::first_pass(&worker, carrier, &started.block, started.direction);
    let ids = worker.with_arena(|arena| {
        // Nothing is edited yet.
        let mut outcome = Outcome::with_room(arena, 0, 0);
        let direction = started.direction;
        let request = request(started.block.headers(), direction, &worker, arena);
        let stages = &worker.mesh_tracing;
        let found = match &before {
            None => stages.start_span(&request, &worker.ids, &mut outcome),
            Some(before) => again::start(&worker, before, &request, &mut outcome),
        };
        let (start, read) = found?;
        plugin.metrics.add(plugin.handle, &outcome, direction);
        started.may_report = start.is_sampled() || plugin.keep.any() && !start.is_never();
        started.tracestate.extend_from_slice(start.tracestate());
        started.start = Some((start.with_tracestate(b""), read));
        Some((start.span_id(), start.parent()))
    });
    if let Some(before) = before {
        worker.give_back_family(before);
    }
    let Some(ids) = ids else {
        worker.give_back_family(family);
        return None;
    };
    let parts = started.may_report.then(|| {
        plugin.names.read_describing(carrier, &mut started.block);
        parts(&worker, Kind::Request, ids, None)
    });
    let span = Span::new(&worker, family, Kind::Request, ids, parts);
    Some(worker.place(span))
}

/// The parts of a span that begins now, or began at `start_time`.
fn parts(
    worker: &Worker,
    kind: Kind,
    (span_id, parent): (SpanId, Option<SpanId>),
    start_time: Option<u64>,
) -> Box<Parts> {
    let mut parts = worker.take_parts();
    parts.kind = kind;
    parts.span_id = Some(span_id);
    parts.parent = parent;
    // The clocks are read in this order, so that a delay between the two cannot make the span end
    // too early.
    parts.started = SystemClock.now();
    parts.start_time = start_time.unwrap_or_else(|| SystemClock.since_epoch());
    parts
}

impl Span {
    fn new(
        worker: &Rc<Worker>,
        family: Rc<Family>,
        kind: Kind,
        (span_id, parent): (SpanId, Option<SpanId>),
        parts: Option<Box<Parts>>,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            family,
            parts,
            span_id,
            parent,
            kind,
            is_overruled: false,
            trace_id_text: [0; 32],
            span_id_text: [0; 16],
        }
    }

    /// Starts the span of a call that is made for this span, which began at `start_time`.
    pub(crate) fn child(&self, operation: &[u8], start_time: i64) -> Box<Self> {
        let kind = match tags::is_of_router(operation) {
            true => Kind::Attempt,
            false => Kind::OtherCall,
        };
        if kind == Kind::Attempt {
            self.family.has_attempt.set(true);
        }
        let start_time = u64::try_from(start_time).ok().filter(|time| *time > 0);
        let ids = (self.worker.ids.span_id(), Some(self.span_id));
        let may_report = self.family.may_report && !self.is_overruled;
        let parts = may_report.then(|| {
            let mut parts = parts(&self.worker, kind, ids, start_time);
            match kind {
                Kind::Attempt => parts.place = self.family.attempts.begin(),
                Kind::OtherCall => parts.operation.extend_from_slice(operation),
                Kind::Request => {}
            }
            parts
        });
        let mut span = Self::new(&self.worker, Rc::clone(&self.family), kind, ids, parts);
        span.is_overruled = self.is_overruled;
        self.worker.place(span)
    }

    /// The digits of the trace id.
    pub(crate) fn trace_id_text(&mut self) -> Option<&[u8]> {
        self.trace_id_text = self.family.start()?.trace_id().to_hex();
        Some(&self.trace_id_text)
    }

    /// The digits of the span id.
    pub(crate) fn span_id_text(&mut self) -> &[u8] {
        self.span_id_text = self.span_id.to_hex();
        &self.span_id_text
    }

    /// Whether the span may be reported, so that its tags matter.
    #[cfg(not(feature = "provoke"))]
    pub(crate) fn takes_tags(&self) -> bool {
        self.parts.is_some()
    }

    /// Takes a tag, where the span may be reported.
    pub(crate) fn tag(&mut self, key: &[u8], value: &[u8]) {
        if let Some(parts) = &mut self.parts {
            if key == NODE_ID.as_bytes() && self.kind == Kind::Request {
                self.worker.keep_node_id(value);
            }
            let is_url = parts.tags.push(key, value);
            if is_url && self.kind == Kind::Request {
                self.family.end_with(value);
            }
        }
    }

    /// Takes the operation that the decorator of a route, `operation` or `upstream_operation` of
    /// `tracing` names. Other calls keep theirs.
    pub(crate) fn set_operation(&mut self, operation: &[u8]) {
        let is_wanted = self.kind != Kind::OtherCall && self.worker.plugin.report.names_operation();
        let Some(parts) = &mut self.parts else {
            return;
        };
        parts.tags.name_operation();
        if is_wanted {
            parts.operation.clear();
            parts.operation.extend_from_slice(operation);
        }
    }

    /// The call is not sampled, because Envoy's configuration says so, as `trace_sampled: false` of a
    /// mirror does. It is told that, and has no span of its own. A request's own span keeps what the
    /// rules decided.
    pub(crate) fn overrule(&mut self) {
        if self.kind == Kind::Request {
            return;
        }
        self.is_overruled = true;
        self.drop_parts();
    }

    /// The span is not reported.
    fn drop_parts(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        if parts.kind == Kind::Attempt {
            self.family.attempts.end();
            report::release(&self.worker, &self.family);
        }
        self.worker.give_back_parts(parts);
    }

    /// Writes the context into the headers of the call that this span makes.
    pub(crate) fn inject(&mut self, carrier: &mut Carrier) {
        let (family, worker) = (&*self.family, &*self.worker);
        let Some((start, read)) = &family.start else {
            return;
        };
        let ids = (self.span_id, self.parent);
        if self.kind != Kind::OtherCall {
            family.told.set(Some(ids));
        }
        worker.with_arena(|arena| {
            let headers = family.block.headers();
            let request = request(headers, family.direction, worker, arena);
            // A tracer sets no filter state.
            let mut outcome = Outcome::with_room(arena, MAX_EDITS, 0);
            let stages = &worker.mesh_tracing;
            let mut start = start.with_tracestate(&family.tracestate);
            if self.is_overruled {
                start = start.overruled();
            }
            stages.inject_span(&request, (&start, read), ids, &mut outcome);
            if self.kind == Kind::OtherCall {
                stages.inject_tracestate(&request, &mut outcome);
            }
            for edit in outcome.headers.iter() {
                // Otherwise Envoy would keep further lines of that name. Of the other calls, a mirrored
                // request has the request's headers, and the check of an authoriser has none of them.
                if headers.contains(edit.name) {
                    carrier.remove(edit.name);
                }
                match &edit.change {
                    Change::Remove => {}
                    Change::Replace(value) | Change::Append(value) => {
                        carrier.set(edit.name, value.as_bytes());
                    }
                }
            }
            // Of a value that is right already there may be further lines, which Envoy does not show.
            for (name, value) in family.block.single() {
                if outcome.headers.change_of(name).is_none() {
                    carrier.remove(name);
                    carrier.set(name, value);
                }
            }
            // The attributes of a reported span are counted with the report, not here.
            outcome.tallies.attributes = Default::default();
            let (metrics, handle) = (&worker.plugin.metrics, worker.plugin.handle);
            metrics.add(handle, &outcome, family.direction);
        });
        let may_be_client = match self.kind {
            Kind::Request => {
                family.direction == Direction::Outbound || worker.plugin.role == RoleConfig::Client
            }
            Kind::Attempt => true,
            Kind::OtherCall => false,
        };
        if let Some(parts) = self.parts.as_mut().filter(|_| may_be_client) {
            let keep = |kept: &mut Vec<u8>, value: Option<&[u8]>| {
                kept.clear();
                kept.extend_from_slice(value.unwrap_or_default());
            };
            keep(&mut parts.sent_target, carrier.target());
            keep(&mut parts.sent_authority, carrier.authority());
            family.send(&parts.sent_authority, parts.place.number);
            if parts.place.number > 1 {
                report::release_settled(worker, family, parts.place);
            }
        }
    }

    /// The span has ended.
    pub(crate) fn finish(&mut self) {
        if self.kind == Kind::Request {
            // Without its parts the code is not known.
            let is_followed = self
                .parts
                .as_ref()
                .is_none_or(|parts| parts.tags.may_be_followed());
            let family = &self.family;
            self.worker.keep_last(is_followed.then_some(family));
        }
        let Some(mut parts) = self.parts.take() else {
            if self.kind == Kind::Request && !self.family.may_report {
                report::count_not_sampled(&self.worker);
            }
            return;
        };
        parts.ended = SystemClock.now();
        if self.kind != Kind::OtherCall {
            parts.tags.close(|| self.family.block.request().is_grpc());
        }
        report::finish(&self.worker, &self.family, parts);
    }

    /// Envoy does not use the span any more.
    pub(crate) fn end(mut self) {
        self.drop_parts();
        let Self { worker, family, .. } = self;
        worker.give_back_family(family);
    }
}
