//! The formats of trace context: one file a format, each reads and writes its own headers.

mod b3;
mod b3_multi;
mod b3_single;
mod datadog;
mod decimal;
mod gcp;
mod grpc_trace_bin;
mod jaeger;
mod ottrace;
mod tracecontext;
mod xray;

use bumpalo::Bump;
use meshtrace_headers::Value;
use serde::Deserialize;

use crate::config::{B3TraceIdBits, OnDefer};
use crate::vendor::{self, Family};
use crate::{Arrived, Counter, Field, Outgoing, SamplingState, SpanId, TraceContext, TraceId};

pub(crate) use tracecontext::members_of;

/// A way to write a trace context into headers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[repr(u8)]
pub enum Format {
    /// `traceparent` and `tracestate` (W3C Trace Context, Levels 1 and 2).
    #[serde(rename = "tracecontext")]
    Tracecontext,
    /// `b3` (B3, "Single Header").
    #[serde(rename = "b3")]
    B3,
    /// `x-b3-traceid` and its siblings (B3, "Multiple Headers").
    #[serde(rename = "b3multi")]
    B3Multi,
    /// `uber-trace-id` (Jaeger client libraries, "Propagation Format").
    #[serde(rename = "jaeger")]
    Jaeger,
    /// `ot-tracer-traceid` and its siblings (OpenTracing basic tracers).
    #[serde(rename = "ottrace")]
    Ottrace,
    /// `x-amzn-trace-id` (AWS X-Ray, "Tracing header").
    #[serde(rename = "xray")]
    Xray,
    /// `x-cloud-trace-context` (Google Cloud Trace, "Legacy trace context format").
    #[serde(rename = "gcp")]
    Gcp,
    /// `x-datadog-trace-id` and its siblings (Datadog, "Trace Context Propagation").
    #[serde(rename = "datadog")]
    Datadog,
    /// `grpc-trace-bin` (OpenCensus, "BinaryEncoding").
    #[serde(rename = "grpc-trace-bin")]
    GrpcTraceBin,
}

/// What one format says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// Nothing: none of its headers came, or none that means anything.
    Absent,
    /// A decision and no ids (B3: `b3: 0`).
    Sampling(SamplingState),
    /// A valid context.
    Context(TraceContext),
    /// A trace id without a span: well-formed, and no context that could be told in every format.
    Incomplete {
        /// The trace, in which a span may be started.
        trace_id: TraceId,
        /// The decision that came with it.
        sampling: SamplingState,
    },
    /// Headers that the format's specification refuses.
    Malformed,
}

impl Extracted {
    /// What a format says whose span may be absent.
    fn from_ids(trace_id: TraceId, span_id: Option<SpanId>, sampling: SamplingState) -> Self {
        match span_id {
            Some(span_id) => Self::Context(TraceContext::new(trace_id, span_id, sampling)),
            None => Self::Incomplete { trace_id, sampling },
        }
    }

    /// Whether this tells `outgoing`, as far as a format without debug can.
    fn tells(&self, outgoing: &TraceContext) -> bool {
        match self {
            Self::Context(context) => {
                context.is_same_span(outgoing)
                    && context.sampling.decision() == outgoing.sampling.decision()
            }
            Self::Absent | Self::Sampling(_) | Self::Incomplete { .. } | Self::Malformed => false,
        }
    }
}

/// How leniently formats are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// B3 exactly as specified: lower-case ids, decisions of one character, no fall-back from a
    /// malformed `b3` to `x-b3-*`.
    pub b3_strict: bool,
}

/// How formats are written where a context can be told in more than one way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing {
    /// What a format without a "deferred" state is told.
    pub on_defer: OnDefer,
    /// The width of a trace id in B3.
    pub b3_trace_id_bits: B3TraceIdBits,
}

impl Writing {
    /// What a format that cannot leave the decision open is told.
    pub(crate) fn decision(self, sampling: SamplingState) -> bool {
        sampling
            .decision()
            .unwrap_or(self.on_defer == OnDefer::Sampled)
    }
}

/// The header of a format that has one, and no form for a decision without ids: the value that
/// `arrived` where that `tells` the context, else what `write` makes of it.
fn only_header<'a>(
    outgoing: &Outgoing,
    arrived: Option<&'a [u8]>,
    tells: impl FnOnce(&TraceContext) -> bool,
    write: impl FnOnce(&TraceContext) -> Option<Value<'a>>,
) -> Option<Value<'a>> {
    match outgoing {
        Outgoing::Nothing | Outgoing::Sampling(_) => None,
        Outgoing::Context(context) if tells(context) => arrived.map(Value::Borrowed),
        Outgoing::Context(context) => write(context),
    }
}

impl Format {
    /// Every format.
    pub const ALL: &'static [Self] = &[
        Self::Tracecontext,
        Self::B3,
        Self::B3Multi,
        Self::Jaeger,
        Self::Ottrace,
        Self::Xray,
        Self::Gcp,
        Self::Datadog,
        Self::GrpcTraceBin,
    ];

    /// What is read where the configuration does not say, in order; upstream, kept in step.
    pub const EXTRACTED_BY_DEFAULT: &'static [Self] =
        &[Self::Tracecontext, Self::B3, Self::B3Multi];

    /// The name by which configurations call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracecontext => "tracecontext",
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
            Self::Jaeger => "jaeger",
            Self::Ottrace => "ottrace",
            Self::Xray => "xray",
            Self::Gcp => "gcp",
            Self::Datadog => "datadog",
            Self::GrpcTraceBin => "grpc-trace-bin",
        }
    }

    /// Every format's name, for messages.
    pub const NAMES: &'static str = "`tracecontext`, `b3`, `b3multi`, `jaeger`, `ottrace`, \
                                            `xray`, `gcp`, `datadog`, `grpc-trace-bin`";

    /// The headers of this format.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Tracecontext => &[Field::Traceparent, Field::Tracestate],
            Self::B3 => &[Field::B3],
            Self::B3Multi => &[
                Field::XB3TraceId,
                Field::XB3SpanId,
                Field::XB3ParentSpanId,
                Field::XB3Sampled,
                Field::XB3Flags,
            ],
            Self::Jaeger => &[Field::UberTraceId],
            Self::Xray => &[Field::XAmznTraceId],
            Self::Gcp => &[Field::XCloudTraceContext],
            Self::Datadog => datadog::FIELDS,
            Self::Ottrace => ottrace::FIELDS,
            Self::GrpcTraceBin => &[Field::GrpcTraceBin],
        }
    }

    /// The headers beside its own that go where the format goes: none of them names a trace, and
    /// some force one.
    #[must_use]
    pub const fn companions(self) -> Option<Family> {
        match self {
            Self::Jaeger => Some(vendor::JAEGER),
            Self::Ottrace => Some(vendor::OTTRACE),
            _ => None,
        }
    }

    /// Reads this format's headers.
    #[must_use]
    pub fn parse(self, arrived: &Arrived<'_>, reading: Reading) -> Extracted {
        match self {
            Self::Tracecontext => tracecontext::parse(arrived),
            Self::B3 => b3_single::parse(arrived, reading),
            Self::B3Multi => b3_multi::parse(arrived, reading),
            Self::Jaeger => jaeger::parse(arrived),
            Self::Xray => xray::parse(arrived),
            Self::Gcp => gcp::parse(arrived),
            Self::Datadog => datadog::parse(arrived),
            Self::Ottrace => ottrace::parse(arrived),
            Self::GrpcTraceBin => grpc_trace_bin::parse(arrived),
        }
    }

    /// Says by `put` what this format's headers must be for `outgoing`, given what `arrived`;
    /// `None` for a header that must not be there. One that already tells the same is asked for as
    /// it is. `arena` holds what is longer than the ids.
    pub fn emit<'a>(
        self,
        outgoing: &Outgoing,
        arrived: &Arrived<'a>,
        writing: Writing,
        arena: &'a Bump,
        put: impl FnMut(Field, Option<Value<'a>>),
    ) {
        match self {
            Self::Tracecontext => tracecontext::emit(outgoing, arrived, writing, put),
            Self::B3 => b3_single::emit(outgoing, arrived, writing, put),
            Self::B3Multi => b3_multi::emit(outgoing, arrived, writing, put),
            Self::Jaeger => jaeger::emit(outgoing, arrived, writing, put),
            Self::Xray => xray::emit(outgoing, arrived, arena, put),
            Self::Gcp => gcp::emit(outgoing, arrived, put),
            Self::Datadog => datadog::emit(outgoing, arrived, put),
            Self::Ottrace => ottrace::emit(outgoing, arrived, put),
            Self::GrpcTraceBin => grpc_trace_bin::emit(outgoing, arrived, writing, put),
        }
    }

    /// Whether 128-bit ids are told to old receivers by their right-most 64 bits.
    pub(crate) const fn can_tell_half_an_id(self) -> bool {
        match self {
            Self::Tracecontext | Self::Xray | Self::Gcp | Self::GrpcTraceBin => false,
            Self::B3 | Self::B3Multi | Self::Jaeger | Self::Datadog | Self::Ottrace => true,
        }
    }

    /// Whether the format can leave the decision open.
    pub(crate) const fn can_defer(self) -> bool {
        match self {
            Self::Tracecontext | Self::Jaeger | Self::GrpcTraceBin => false,
            Self::B3 | Self::B3Multi | Self::Xray | Self::Gcp | Self::Datadog | Self::Ottrace => {
                true
            }
        }
    }

    pub(crate) const fn counts_extracted(self) -> Counter {
        match self {
            Self::Tracecontext => Counter::ExtractedTracecontext,
            Self::B3 => Counter::ExtractedB3,
            Self::B3Multi => Counter::ExtractedB3Multi,
            Self::Jaeger => Counter::ExtractedJaeger,
            Self::Xray => Counter::ExtractedXray,
            Self::Gcp => Counter::ExtractedGcp,
            Self::Datadog => Counter::ExtractedDatadog,
            Self::Ottrace => Counter::ExtractedOttrace,
            Self::GrpcTraceBin => Counter::ExtractedGrpcTraceBin,
        }
    }

    /// The format's name in metrics.
    pub(crate) const fn in_metrics(self) -> &'static str {
        match self {
            Self::Tracecontext => "tracecontext",
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
            Self::Jaeger => "jaeger",
            Self::Ottrace => "ottrace",
            Self::Xray => "xray",
            Self::Gcp => "gcp",
            Self::Datadog => "datadog",
            Self::GrpcTraceBin => "grpc_trace_bin",
        }
    }

    pub(crate) const fn counts_malformed(self) -> Counter {
        match self {
            Self::Tracecontext => Counter::MalformedTraceparent,
            Self::B3 => Counter::MalformedB3,
            Self::B3Multi => Counter::MalformedB3Multi,
            Self::Jaeger => Counter::MalformedJaeger,
            Self::Xray => Counter::MalformedXray,
            Self::Gcp => Counter::MalformedGcp,
            Self::Datadog => Counter::MalformedDatadog,
            Self::Ottrace => Counter::MalformedOttrace,
            Self::GrpcTraceBin => Counter::MalformedGrpcTraceBin,
        }
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormatSet(u16);

impl FormatSet {
    pub(crate) fn insert(&mut self, format: Format) {
        self.0 |= 1 << (format as u8);
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, format: Format) -> bool {
        self.0 & (1 << (format as u8)) != 0
    }
}

impl FromIterator<Format> for FormatSet {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        let mut set = Self::default();
        formats.into_iter().for_each(|format| set.insert(format));
        set
    }
}
