//! Reads the headers that arrived, and has one context chosen from them.

use meshtrace_headers::Headers;

use crate::config::{IncomingMode, OnConflict, Placement};
use crate::format::{Extracted, Format, FormatSet, members_of};
use crate::per_format::PerFormat;
use crate::propagation::Propagation;
use crate::trust::Peer;
use crate::{Arrived, Counter, Field, SamplingState, Tally, TraceContext, TraceId, tracestate};

/// The headers that came in, the kind of each format's content, and the context that was chosen.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    pub(crate) arrived: Arrived<'a>,
    pub(crate) kinds: Kinds,
    pub(crate) found: Found,
    /// The trace id that came without a span, where no format has a context.
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) mode: IncomingMode,
    /// Whether another format has another trace id.
    pub(crate) conflicting: bool,
    /// The decision that this filter took when it handled the request before.
    pub(crate) decided: Option<SamplingState>,
}

/// The content of an [`Incoming`] without the headers that it was read from. It can be kept longer
/// than they can.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    kinds: Kinds,
    found: Found,
    unfinished: Option<Unfinished>,
    mode: IncomingMode,
    conflicting: bool,
}

/// What the content of each format is, for the formats that are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kinds {
    /// The formats with a context, a decision, or a trace id without a span.
    pub(crate) meaningful: FormatSet,
    /// The formats with a trace id without a span.
    pub(crate) incomplete: FormatSet,
    /// The trace id of a valid `traceparent`, and its decision.
    w3c: Option<(TraceId, SamplingState)>,
}

impl Kinds {
    fn insert(&mut self, format: Format, extracted: &Extracted) {
        match extracted {
            Extracted::Absent | Extracted::Malformed => return,
            Extracted::Incomplete { .. } => self.incomplete.insert(format),
            Extracted::Context(context) if format == Format::Tracecontext => {
                self.w3c = Some((context.trace_id, context.sampling));
            }
            Extracted::Context(_) | Extracted::Sampling(_) => {}
        }
        self.meaningful.insert(format);
    }
}

/// The context or decision that was chosen, and the format that it was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Sampling(Format, SamplingState),
    Context(Format, TraceContext),
}

/// A trace without a span, in which one may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) format: Format,
    pub(crate) trace_id: TraceId,
    /// The decision that came with the trace id, or without any ids.
    pub(crate) sampling: SamplingState,
}

impl<'a> Incoming<'a> {
    /// What was read, for [`Propagation::extract_again`].
    #[must_use]
    pub fn to_read(&self) -> Read {
        Read {
            kinds: self.kinds,
            found: self.found,
            unfinished: self.unfinished,
            mode: self.mode,
            conflicting: self.conflicting,
        }
    }

    /// Whether this filter has handled the request before, and so has decided about its trace.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.decided.is_some()
    }

    /// The context that was chosen.
    #[must_use]
    pub fn context(&self) -> Option<&TraceContext> {
        match &self.found {
            Found::Context(_, context) => Some(context),
            Found::Nothing | Found::Sampling(..) => None,
        }
    }

    /// The decision that came in, with or without ids; `None` also where the decision was left
    /// open.
    #[must_use]
    pub fn decision(&self) -> Option<bool> {
        match self.found {
            Found::Nothing => None,
            Found::Sampling(_, sampling) => sampling.decision(),
            Found::Context(_, context) => context.sampling.decision(),
        }
    }

    /// Whether the caller's context counts; otherwise `incoming` restarts or ignores it.
    #[must_use]
    pub fn is_believed(&self) -> bool {
        self.mode == IncomingMode::Continue
    }

    /// Every known header that arrived.
    #[must_use]
    pub fn arrived(&self) -> &Arrived<'a> {
        &self.arrived
    }

    /// The members of the `tracestate` that is sent on with the trace `id`, whatever format its
    /// context was taken from; `None` where there is none.
    #[must_use]
    pub fn tracestate(&self, id: TraceId) -> Option<tracestate::Members<'a>> {
        members_of(id, &self.arrived)
    }

    /// The format that has the trace id, with a span or without one.
    #[must_use]
    pub fn trace_format(&self) -> Option<Format> {
        match (&self.found, self.unfinished) {
            (Found::Context(format, _), _) => Some(*format),
            (_, unfinished) => unfinished.map(|unfinished| unfinished.format),
        }
    }

    /// Whether the trace `id` came in, with a span or without one.
    #[must_use]
    pub fn continues(&self, id: TraceId) -> bool {
        let unfinished = self.unfinished.map(|unfinished| unfinished.trace_id);
        let context = self.context().map(|context| context.trace_id);
        [context, unfinished].contains(&Some(id))
    }

    /// The decision of a valid `traceparent` of the trace `id`.
    #[must_use]
    pub fn w3c_decision(&self, id: TraceId) -> Option<bool> {
        let (_, sampling) = self.kinds.w3c.filter(|(trace_id, _)| *trace_id == id)?;
        sampling.decision()
    }

    /// The format that the context was taken from.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self.found {
            Found::Context(format, _) | Found::Sampling(format, _) => Some(format),
            Found::Nothing => None,
        }
    }
}

impl Propagation {
    /// Reads the formats in their order and chooses the first valid one.
    #[inline(never)]
    pub fn extract<'a>(
        &self,
        headers: Headers<'a>,
        peer: Peer<'_>,
        tally: &mut Tally,
    ) -> Incoming<'a> {
        if let Some(own) = peer.own.and_then(TraceContext::from_bytes) {
            return self.extract_own(own, headers, tally);
        }
        let mode = self.trust.mode_for(&headers, peer);
        self.read(headers, mode, tally)
    }

    /// The same as [`extract`](Self::extract) gave for the same `headers`, from what it `read`.
    #[must_use]
    pub fn extract_again<'a>(&self, headers: Headers<'a>, read: &Read) -> Incoming<'a> {
        let Read {
            kinds,
            found,
            unfinished,
            mode,
            conflicting,
        } = *read;
        let mut incoming = Incoming {
            arrived: Arrived::unread(headers, self.extraction.on_repeated),
            kinds,
            found,
            unfinished,
            mode,
            conflicting,
            decided: None,
        };
        incoming.arrived.read();
        incoming
    }

    /// Continues the trace of a request that this filter has handled before, also from an untrusted
    /// caller: this proxy wrote the headers of the request.
    #[cold]
    fn extract_own<'a>(
        &self,
        own: TraceContext,
        headers: Headers<'a>,
        tally: &mut Tally,
    ) -> Incoming<'a> {
        let mut incoming = self.read(headers, IncomingMode::Continue, tally);
        // Another filter of this proxy may have opened a span in it since.
        let is_in_headers = incoming
            .context()
            .is_some_and(|context| context.trace_id == own.trace_id);
        if !is_in_headers {
            let format = self.extraction.formats.first().copied();
            incoming.found = Found::Context(format.unwrap_or(Format::Tracecontext), own);
            incoming.unfinished = None;
            incoming.conflicting = false;
        }
        incoming.decided = Some(own.sampling);
        incoming
    }

    fn read<'a>(
        &self,
        headers: Headers<'a>,
        mode: IncomingMode,
        tally: &mut Tally,
    ) -> Incoming<'a> {
        let mut incoming = Incoming {
            arrived: Arrived::unread(headers, self.extraction.on_repeated),
            kinds: Kinds::default(),
            found: Found::Nothing,
            unfinished: None,
            mode,
            conflicting: false,
            decided: None,
        };
        incoming.arrived.read();
        if mode == IncomingMode::Ignore {
            return incoming;
        }
        if !self.reads_any(&incoming.arrived) {
            count_found(&incoming.found, tally);
            return incoming;
        }

        let mut by_format = PerFormat::default();
        for format in &self.extraction.formats {
            if !incoming.arrived.has(*format) {
                continue;
            }
            let extracted = format.parse(&incoming.arrived, self.extraction.reading);
            if extracted == Extracted::Malformed {
                tally.count(Counter::malformed(*format));
            }
            incoming.kinds.insert(*format, &extracted);
            by_format.set(*format, extracted);
        }
        self.count_tracestate(&incoming, tally);
        if self.placement == Placement::Upstream {
            incoming.found = self.written_by_tracer(&incoming.arrived, &by_format);
            count_found(&incoming.found, tally);
            return incoming;
        }
        incoming.found = self.first_valid(&by_format);
        match &mut incoming.found {
            Found::Context(format, context) => {
                let arrived = &incoming.arrived;
                incoming.conflicting = self.reconcile(*format, context, arrived, &by_format, tally);
                if let Some(only) = self.only(&by_format) {
                    tally.count_only(only);
                }
            }
            Found::Nothing | Found::Sampling(..) => {
                incoming.unfinished = self.unfinished(&by_format);
                if incoming.unfinished.is_some() {
                    tally.count(Counter::Incomplete);
                }
            }
        }
        count_found(&incoming.found, tally);
        incoming
    }

    /// Whether a header arrived of any format that is read.
    fn reads_any(&self, arrived: &Arrived<'_>) -> bool {
        let mut formats = self.extraction.formats.iter();
        formats.any(|format| arrived.has(*format))
    }

    /// Whether the trace is to be restarted because formats disagree.
    pub(crate) fn restarts_on_conflict(&self, incoming: &Incoming<'_>) -> bool {
        incoming.conflicting && self.extraction.on_conflict == OnConflict::Restart
    }

    fn count_tracestate(&self, incoming: &Incoming<'_>, tally: &mut Tally) {
        let arrived = &incoming.arrived;
        if !self.extraction.read.contains(Format::Tracecontext)
            || arrived.raw(Field::Tracestate).is_none()
        {
            return;
        }
        let has_parent = incoming.kinds.w3c.is_some();
        if !has_parent || tracestate::parse(arrived.lines(Field::Tracestate)).is_none() {
            tally.count(Counter::MalformedTracestate);
        }
    }
}

fn count_found(found: &Found, tally: &mut Tally) {
    match found {
        Found::Nothing => tally.count(Counter::Missing),
        Found::Sampling(..) => tally.count(Counter::SamplingOnly),
        Found::Context(format, context) => {
            tally.count(Counter::extracted(*format));
            if context.sampling == SamplingState::Deferred {
                tally.count(Counter::Deferred);
            }
        }
    }
}
