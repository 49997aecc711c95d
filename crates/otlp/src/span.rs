//! A finished span, and its encoding.

use meshtrace_propagation::{SpanId, TraceId};

use crate::attributes::Attributes;
use crate::identity::MAX_NODE_ATTRIBUTES;
use crate::limits::{MAX_ATTRIBUTE_BYTES, MAX_NAME, MAX_TRACESTATE};
use crate::wire;

/// The role of a span in a call (`opentelemetry.proto.trace.v1.Span.SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The callee's side.
    Server = 2,
    /// The caller's side.
    Client = 3,
}

/// The status of a span (`opentelemetry.proto.trace.v1.Status.StatusCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There was no error, or none is known.
    Unset,
    /// There was an error.
    Error,
}

/// A finished span.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// The span itself.
    pub span_id: SpanId,
    /// The calling span; `None` for the root of a trace.
    pub parent: Option<SpanId>,
    /// Whether the calling span is of another process.
    pub parent_is_remote: bool,
    /// The head decision.
    pub sampled: bool,
    /// W3C's `tracestate` of this span; empty where there is none.
    pub tracestate: &'a [u8],
    /// The name of the span: `{method} {route}`, UTF-8.
    pub name: &'a [u8],
    /// The role.
    pub kind: Kind,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// The attributes, in parts.
    pub attributes: &'a [&'a Attributes],
    /// The status.
    pub status: Status,
}

/// `opentelemetry.proto.trace.v1.ScopeSpans.spans`.
const SCOPE_SPANS: u32 = 2;
/// Fields of `opentelemetry.proto.trace.v1.Span`.
mod field {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const DROPPED_ATTRIBUTES: u32 = 10;
    pub(super) const STATUS: u32 = 15;
    pub(super) const FLAGS: u32 = 16;
}
/// `opentelemetry.proto.trace.v1.Status`: the field `code` with the value `STATUS_CODE_ERROR`.
const ERROR: [u8; 2] = [3 << 3, 2];
/// `opentelemetry.proto.trace.v1.SpanFlags`.
const SAMPLED: u32 = 0x001;
const KNOWS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The bytes that every span has: both ids, kind and flags, start and end.
const FIXED: usize = (2 + 16) + (2 + 8) + 2 + (2 + 4) + 2 * (1 + 8);

/// The most parts that a span's attributes come in, besides the attributes of the node.
const MAX_PARTS: usize = 3;
/// The longest encoding of a span, in bytes: attributes, `tracestate` and name are bounded. A
/// hundred bytes are for tags and lengths.
pub(crate) const MAX_SPAN_BYTES: usize =
    MAX_PARTS * MAX_ATTRIBUTE_BYTES + MAX_NODE_ATTRIBUTES + MAX_TRACESTATE + MAX_NAME + FIXED + 100;

impl Span<'_> {
    fn dropped(&self) -> u32 {
        self.attributes.iter().map(|part| part.dropped()).sum()
    }

    fn content_len(&self) -> usize {
        let optional = |content: usize| match content {
            0 => 0,
            content => wire::field_len(content),
        };
        let attributes = self.attributes.iter().map(|part| part.encoded().len());
        FIXED
            + optional(self.tracestate.len())
            + optional(self.parent.map_or(0, |_| 8))
            + wire::field_len(self.name.len())
            + attributes.sum::<usize>()
            + match self.dropped() {
                0 => 0,
                dropped => 1 + wire::varint_len(dropped.into()),
            }
            + match self.status {
                Status::Unset => 0,
                Status::Error => wire::field_len(ERROR.len()),
            }
    }

    /// The length of what [`encode`](Self::encode) appends, in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        wire::field_len(self.content_len())
    }

    /// Appends the span as a `spans` field of `ScopeSpans`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let content = self.content_len();

        wire::length_head(out, SCOPE_SPANS, content);
        wire::bytes(out, field::TRACE_ID, &self.trace_id.to_bytes());
        wire::bytes(out, field::SPAN_ID, &self.span_id.to_bytes());
        if !self.tracestate.is_empty() {
            wire::bytes(out, field::TRACE_STATE, self.tracestate);
        }
        if let Some(parent) = self.parent {
            wire::bytes(out, field::PARENT_SPAN_ID, &parent.to_bytes());
        }
        wire::bytes(out, field::NAME, self.name);
        wire::number(out, field::KIND, self.kind as u64);
        wire::fixed64(out, field::START, self.start);
        wire::fixed64(out, field::END, self.end);
        for part in self.attributes {
            out.extend_from_slice(part.encoded());
        }
        if self.dropped() != 0 {
            wire::number(out, field::DROPPED_ATTRIBUTES, self.dropped().into());
        }
        if self.status == Status::Error {
            wire::bytes(out, field::STATUS, &ERROR);
        }
        wire::fixed32(out, field::FLAGS, self.flags());
    }

    fn flags(&self) -> u32 {
        let sampled = if self.sampled { SAMPLED } else { 0 };
        let remote = if self.parent.is_some() && self.parent_is_remote {
            IS_REMOTE
        } else {
            0
        };
        sampled | KNOWS_IS_REMOTE | remote
    }
}
