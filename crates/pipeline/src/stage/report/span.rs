//! A span that is open: its identity, its start, and what was recorded so far.

use arrayvec::ArrayVec;
use meshtrace_attributes::Attribute;
use meshtrace_otlp::{Attributes, Record};
use meshtrace_propagation::{SpanId, TraceId};

use crate::Clock;

/// Registered methods are shorter.
pub(super) const MAX_METHOD: usize = 24;

/// The identity of a request's spans. It is known before anything is injected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// The CLIENT span below the request's own, where the role has one. It is injected in place of
    /// that.
    pub(crate) client_id: Option<SpanId>,
    pub(crate) parent: Option<SpanId>,
    pub(crate) sampled: bool,
    /// Whether the request is not reported even where it fails.
    pub(crate) never: bool,
}

impl Identity {
    /// The span to inject, and its parent.
    pub(crate) fn injected(&self) -> (SpanId, Option<SpanId>) {
        match self.client_id {
            Some(client) => (client, Some(self.span_id)),
            None => (self.span_id, self.parent),
        }
    }
}

/// A span that is not over.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    pub(super) identity: Identity,
    pub(super) start: Start,
    pub(super) is_grpc: bool,
    pub(super) is_long_lived: bool,
    pub(super) is_connect: bool,
    /// The path and the host of a request that came in with headers of a rewrite: such headers do
    /// not show what this proxy rewrites. Present only where the request may be kept.
    pub(super) came: Option<[Box<[u8]>; 2]>,
    /// The method, cut. A redirect may change that of the request.
    pub(super) method: ArrayVec<u8, MAX_METHOD>,
    /// Whether the headers of a response have come.
    pub(crate) responded: bool,
    /// Whether the headers of the response are the upstream's.
    pub(super) answered: bool,
    /// The status of gRPC in the trailers of the response.
    pub(super) grpc_status: Option<u32>,
    /// The data from the request's headers; present only for sampled requests.
    pub(super) record: Option<Box<Record>>,
}

impl OpenSpan {
    /// The span that was injected, where it is not the request's own.
    pub(crate) fn client_id(&self) -> Option<SpanId> {
        self.identity.client_id
    }

    /// Gives the request's own span the id that was injected, where no upstream was called. A
    /// filter in between, such as an authoriser, may have used the injected id as the parent of its
    /// spans. So this parent is reported. Returns that id.
    pub(super) fn take_injected_id(&mut self, has_upstream: bool) -> Option<SpanId> {
        if has_upstream {
            return None;
        }
        self.identity.span_id = self.identity.client_id.take()?;
        Some(self.identity.span_id)
    }

    /// Adds attributes of the request or its response, where the span is sure to be reported.
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

/// When a request began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Nanoseconds on the monotonic clock.
    monotonic: u64,
    /// Nanoseconds since the Unix epoch; read only where the span is sure to be reported.
    wall: Option<u64>,
}

impl Start {
    /// The start of a request that is never reported. No clock is read for it.
    pub(crate) const UNUSED: Self = Self {
        monotonic: 0,
        wall: None,
    };

    /// Reads the clocks now, before the context is injected: so every span that this one causes
    /// starts later, and setting the clock meanwhile changes neither start nor end.
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

    /// Returns the time of the start on the wall clock. Where it was not read then, both clocks are
    /// read now, one directly after the other.
    pub(super) fn wall(self, clock: &dyn Clock) -> u64 {
        self.wall.unwrap_or_else(|| {
            // In this order, so that no delay between the two makes the span start too late.
            let wall = clock.wall().unwrap_or_default();
            wall.saturating_sub(self.until(clock.monotonic().unwrap_or_default()))
        })
    }

    /// Returns the nanoseconds from the start to `now`, on the monotonic clock.
    pub(super) fn until(self, now: u64) -> u64 {
        now.saturating_sub(self.monotonic)
    }
}
