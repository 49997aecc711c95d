//! One type for the spans of OTLP and of Zipkin's API.

use std::collections::BTreeMap;

/// A finished span. A later version may add fields: leave those that you do not set to
/// `..Span::default()`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// 32 lower-case hexadecimal digits; ids of 64 bits are padded with zeros on the left.
    pub trace_id: String,
    /// 16 lower-case hexadecimal digits.
    pub span_id: String,
    /// 16 lower-case hexadecimal digits; `None` for the root of a trace.
    pub parent_span_id: Option<String>,
    /// The name; empty where Zipkin has none.
    pub name: String,
    /// The role in the call.
    pub kind: SpanKind,
    /// `service.name` of the resource, or the service of Zipkin's local endpoint; empty when
    /// absent.
    pub service: String,
    /// Nanoseconds since the Unix epoch; Zipkin's resolution is one microsecond.
    pub start_unix_nanos: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// The attributes or tags. Values that are not text are written as JSON, bytes as a string of
    /// hexadecimal digits.
    pub attributes: BTreeMap<String, String>,
    /// The resource's attributes; over Zipkin only `service.name`.
    pub resource: BTreeMap<String, String>,
    /// Whether the status is an error; over Zipkin, whether there is an `error` tag that is not
    /// `false`.
    pub status_error: bool,
    /// The `tracestate` of the span's context; empty over Zipkin.
    pub trace_state: String,
    /// Whether Zipkin's reporter shares the span id with the caller's span; false over OTLP.
    pub shared: bool,
}

impl Span {
    /// The value of the attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// Whether `other` is the parent of this span: they have the same trace, and its id is this
    /// span's parent id.
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.parent_span_id.as_ref() == Some(&other.span_id)
    }
}

/// The role of a span in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SpanKind {
    /// The role is not set.
    #[default]
    Unspecified,
    /// Inside one service.
    Internal,
    /// The callee's side of a call.
    Server,
    /// The caller's side of a call.
    Client,
    /// The sender of a message.
    Producer,
    /// The receiver of a message.
    Consumer,
}
