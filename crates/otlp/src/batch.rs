//! A batch of spans: one buffer, from the first span to the last retry.

use crate::config::Protocol;
use crate::resource::Head;
use crate::{Span, wire};

/// The size of a batch's buffer, in bytes.
pub const BATCH_BYTES: usize = 224 * 1024;
/// The most batches there are at a time, open, waiting and in flight: what bounds the memory.
pub const MAX_BATCHES: usize = 16;

/// `ExportTraceServiceRequest.resource_spans`.
const RESOURCE_SPANS: u32 = 1;
/// `ResourceSpans.resource` and `ResourceSpans.scope_spans`.
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
/// `ScopeSpans.scope`.
const SCOPE: u32 = 1;

/// A tag and a length, and the five bytes before a message of gRPC ("Length-Prefixed-Message").
const MAX_HEAD: usize = 1 + 10;
const GRPC_HEAD: usize = 5;

/// Spans of one resource, and room before them for what goes around.
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: Vec<u8>,
    /// Where the spans begin.
    spans_start: usize,
    /// Where the message begins once it is sealed.
    start: usize,
    pub(crate) spans: u32,
    /// When the first span came, on the exporter's clock.
    pub(crate) opened: u64,
}

impl Batch {
    /// An empty batch in `buffer`, whose content is forgotten.
    pub(crate) fn open(mut buffer: Vec<u8>, head: &Head, now: u64) -> Self {
        let spans_start = GRPC_HEAD + 4 * MAX_HEAD + head.resource.len() + head.scope.len();
        buffer.clear();
        buffer.reserve_exact(BATCH_BYTES.max(spans_start));
        buffer.resize(spans_start, 0);
        Self {
            buffer,
            spans_start,
            start: spans_start,
            spans: 0,
            opened: now,
        }
    }

    pub(crate) fn has_room_for(&self, span: &Span<'_>) -> bool {
        self.buffer.len() + span.encoded_len() <= BATCH_BYTES
    }

    pub(crate) fn push(&mut self, span: &Span<'_>) {
        span.encode(&mut self.buffer);
        self.spans += 1;
    }

    /// Writes what goes around the spans, right before them.
    pub(crate) fn seal(&mut self, head: &Head, protocol: Protocol, scratch: &mut Vec<u8>) {
        let spans = self.buffer.len() - self.spans_start;
        let scope_spans = wire::field_len(head.scope.len()) + spans;
        let resource_spans = wire::field_len(head.resource.len()) + wire::field_len(scope_spans);
        let message = wire::field_len(resource_spans);

        scratch.clear();
        if protocol == Protocol::Grpc {
            scratch.push(0);
            let length = u32::try_from(message).unwrap_or(u32::MAX);
            scratch.extend_from_slice(&length.to_be_bytes());
        }
        wire::length_head(scratch, RESOURCE_SPANS, resource_spans);
        wire::bytes(scratch, RESOURCE, &head.resource);
        wire::length_head(scratch, SCOPE_SPANS, scope_spans);
        wire::bytes(scratch, SCOPE, &head.scope);

        self.start = self.spans_start.saturating_sub(scratch.len());
        let room = self.buffer.get_mut(self.start..self.spans_start);
        for (place, byte) in room.unwrap_or_default().iter_mut().zip(scratch) {
            *place = *byte;
        }
    }

    /// The message, with gRPC's head where the protocol has one.
    pub(crate) fn body(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Takes over the spans of `other`; to be sealed again.
    pub(crate) fn append(&mut self, other: &Self) {
        let spans = other.buffer.get(other.spans_start..);
        self.buffer.extend_from_slice(spans.unwrap_or_default());
        self.spans += other.spans;
    }

    /// The buffer, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}
