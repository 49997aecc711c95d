//! A batch of spans, and the bytes that are sent around them.

use crate::config::Protocol;
use crate::limits::BATCH_BYTES;
use crate::resource::Head;
use crate::span::Span;
use crate::wire;

/// `ExportTraceServiceRequest.resource_spans`.
const RESOURCE_SPANS: u32 = 1;
/// `ResourceSpans.resource` and `ResourceSpans.scope_spans`.
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
/// `ScopeSpans.scope`.
const SCOPE: u32 = 1;

/// The most bytes of a tag and a length, and the five bytes before a message of gRPC
/// ("Length-Prefixed-Message").
const MAX_HEAD: usize = 1 + 10;
pub(crate) const GRPC_HEAD: usize = 5;

/// Encoded spans, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    buffer: Vec<u8>,
    /// Where the first span begins: those before it are in another batch now.
    start: usize,
    pub(crate) spans: u32,
    /// When the first span came, on the exporter's clock.
    pub(crate) opened: u64,
    /// When the last span came.
    pub(crate) newest: u64,
}

impl Batch {
    /// Opens an empty batch in `buffer`, whose content is removed.
    pub(crate) fn open(mut buffer: Vec<u8>, now: u64) -> Self {
        buffer.clear();
        Self {
            buffer,
            opened: now,
            newest: now,
            ..Self::default()
        }
    }

    /// The spans, each as a field of `ScopeSpans`.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Appends the span, whose encoding has this length, where the spans then take at most `limit`
    /// bytes. Returns whether it was appended.
    pub(crate) fn push(
        &mut self,
        (span, length): (&Span<'_>, usize),
        limit: usize,
        now: u64,
    ) -> bool {
        let has_room = self.bytes().len() + length <= limit;
        if has_room {
            self.make_room(length, limit);
            span.encode(&mut self.buffer);
            self.spans += 1;
            self.newest = now;
        }
        has_room
    }

    /// Makes room for `length` bytes. The buffer takes no more than `limit`, unlike a vector that
    /// grows by itself.
    fn make_room(&mut self, length: usize, limit: usize) {
        if self.buffer.capacity() - self.buffer.len() < length {
            self.buffer.drain(..self.start);
            self.start = 0;
            let more = limit.saturating_sub(self.buffer.len()).max(length);
            self.buffer.reserve_exact(more);
        }
    }

    /// Moves the first spans of `other` here, so that this batch has at most `most` spans, in at
    /// most `limit` bytes.
    pub(crate) fn take_from(&mut self, other: &mut Self, most: u32, limit: usize) {
        let room = limit.saturating_sub(self.bytes().len());
        let (spans, length) = other.front(most.saturating_sub(self.spans), room);
        if spans == 0 {
            return;
        }
        self.make_room(length, limit);
        let bytes = other.bytes().get(..length).unwrap_or_default();
        self.buffer.extend_from_slice(bytes);
        self.spans += spans;
        self.newest = other.newest;
        other.start += length;
        other.spans = other.spans.saturating_sub(spans);
    }

    /// The number of first spans, at most `most`, that take at most `limit` bytes; and those bytes.
    fn front(&self, most: u32, limit: usize) -> (u32, usize) {
        if self.spans <= most && self.bytes().len() <= limit {
            return (self.spans, self.bytes().len());
        }
        let (mut spans, mut length) = (0, 0);
        while spans < most {
            let rest = self.bytes().get(length..).unwrap_or_default();
            let span = wire::first_field_len(rest);
            if span == 0 || length + span > limit {
                break;
            }
            spans += 1;
            length += span;
        }
        (spans, length)
    }

    /// Frees the memory of the buffer that its content does not take.
    pub(crate) fn shrink(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.shrink_to_fit();
    }

    /// Returns the buffer, so that it can be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// The most bytes that the spans of a call take, besides the bytes around them.
pub(crate) fn room_beside(head: &Head) -> usize {
    let around = GRPC_HEAD + 4 * MAX_HEAD + head.resource.len() + head.scope.len();
    BATCH_BYTES.saturating_sub(around)
}

/// Writes the beginning of a message to `out`. The spans follow it, and take `spans` bytes.
pub(crate) fn begin(out: &mut Vec<u8>, head: &Head, protocol: Protocol, spans: usize) {
    let scope_spans = wire::field_len(head.scope.len()) + spans;
    let resource_spans = wire::field_len(head.resource.len()) + wire::field_len(scope_spans);
    let message = wire::field_len(resource_spans);

    out.clear();
    out.reserve_exact(GRPC_HEAD + message);
    if protocol == Protocol::Grpc {
        out.push(0);
        let length = u32::try_from(message).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
    }
    wire::length_head(out, RESOURCE_SPANS, resource_spans);
    wire::bytes(out, RESOURCE, &head.resource);
    wire::length_head(out, SCOPE_SPANS, scope_spans);
    wire::bytes(out, SCOPE, &head.scope);
}
