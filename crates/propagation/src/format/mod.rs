//! The formats of trace context: one file a format, each reads and writes its own headers.

mod b3;
mod b3_multi;
mod b3_single;
mod tracecontext;

use meshtrace_headers::Value;
use serde::Deserialize;

use crate::config::{B3TraceIdBits, OnDefer};
use crate::{Arrived, Counter, Field, Outgoing, Sampling, TraceContext};

/// A way to write a trace context into headers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
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
}

/// What one format says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// Nothing: none of its headers came, or none that means anything.
    Absent,
    /// A decision and no ids (B3: `b3: 0`).
    Sampling(Sampling),
    /// A valid context.
    Context(TraceContext),
    /// Headers that the format's specification refuses.
    Malformed,
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

impl Format {
    /// Every format, in the default order of extraction.
    pub const ALL: &'static [Self] = &[Self::Tracecontext, Self::B3, Self::B3Multi];

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
        }
    }

    /// Reads this format's headers.
    #[must_use]
    pub fn parse(self, arrived: &Arrived<'_>, reading: Reading) -> Extracted {
        match self {
            Self::Tracecontext => tracecontext::parse(arrived),
            Self::B3 => b3_single::parse(arrived, reading),
            Self::B3Multi => b3_multi::parse(arrived, reading),
        }
    }

    /// Says by `put` what this format's headers must be for `outgoing`, given what `arrived`;
    /// `None` for a header that must not be there. One that already tells the same is asked for as
    /// it is.
    pub fn emit<'a>(
        self,
        outgoing: &Outgoing,
        arrived: &Arrived<'a>,
        writing: Writing,
        put: impl FnMut(Field, Option<Value<'a>>),
    ) {
        match self {
            Self::Tracecontext => tracecontext::emit(outgoing, arrived, writing, put),
            Self::B3 => b3_single::emit(outgoing, arrived, writing, put),
            Self::B3Multi => b3_multi::emit(outgoing, arrived, writing, put),
        }
    }

    /// Whether 128-bit ids are told to old receivers by their right-most 64 bits.
    pub(crate) const fn can_tell_half_an_id(self) -> bool {
        match self {
            Self::Tracecontext => false,
            Self::B3 | Self::B3Multi => true,
        }
    }

    /// Whether the format can leave the decision open.
    pub(crate) const fn can_defer(self) -> bool {
        match self {
            Self::Tracecontext => false,
            Self::B3 | Self::B3Multi => true,
        }
    }

    pub(crate) const fn counts_extracted(self) -> Counter {
        match self {
            Self::Tracecontext => Counter::ExtractedTracecontext,
            Self::B3 => Counter::ExtractedB3,
            Self::B3Multi => Counter::ExtractedB3Multi,
        }
    }

    pub(crate) const fn counts_malformed(self) -> Counter {
        match self {
            Self::Tracecontext => Counter::MalformedTraceparent,
            Self::B3 => Counter::MalformedB3,
            Self::B3Multi => Counter::MalformedB3Multi,
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
