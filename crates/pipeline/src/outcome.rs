//! What should change, as values.

use arrayvec::ArrayVec;
use meshtrace_counters::Counter as _;
use meshtrace_headers::Edits;
use meshtrace_otlp as otlp;
use meshtrace_propagation as propagation;

/// The known trace headers, sixteen of the configuration's own, thirty-two attributes, and room for
/// a second edit of some.
pub const MAX_EDITS: usize = 80;
/// Thirty-two attributes, and the ids of the trace in every shape.
pub const MAX_PROPERTIES: usize = 48;

/// What should change about a request or its response, for the host crate to apply. Holds no heap
/// memory.
#[derive(Clone, Debug, Default)]
pub struct Outcome<'a> {
    /// Edits of the headers that the callback is about.
    pub headers: Edits<'a, MAX_EDITS>,
    /// Filter state to set.
    pub properties: Properties<'a>,
    /// What is to be counted.
    pub tallies: Tallies,
}

/// Filter state to set, in order. Room for [`MAX_PROPERTIES`].
#[derive(Clone, Debug, Default)]
pub struct Properties<'a> {
    properties: ArrayVec<Property<'a>, MAX_PROPERTIES>,
    overflowed: bool,
}

/// Filter state under `wasm.` and its key, where access logs and custom tags read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// The key, without Envoy's `wasm.` before it.
    pub key: &'a [u8],
    /// The text to set.
    pub value: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Sets the filter state `key` to `value`.
    pub fn set(&mut self, key: &'a [u8], value: &'a [u8]) {
        if self.properties.try_push(Property { key, value }).is_err() {
            self.overflowed = true;
        }
    }

    /// Whether more than [`MAX_PROPERTIES`] were asked for; those beyond are lost.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

impl<'a> core::ops::Deref for Properties<'a> {
    type Target = [Property<'a>];

    fn deref(&self) -> &Self::Target {
        &self.properties
    }
}

/// A stage that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Reading, deciding about and writing the context.
    Propagation,
    /// Reporting spans.
    Report,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Propagation, Self::Report];

    /// The names of its counters in Envoy.
    #[must_use]
    pub const fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::Propagation => propagation::Counter::METRICS,
            Self::Report => otlp::Counter::METRICS,
        }
    }
}

/// What the stages counted about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// [`Stage::Propagation`]'s.
    pub propagation: propagation::Tally,
    /// [`Stage::Report`]'s.
    pub report: otlp::Tally,
}

impl Tallies {
    /// What `stage` counted: one bit a counter, in the order of its [`Stage::metrics`].
    #[must_use]
    pub fn of(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Propagation => self.propagation.bits(),
            Stage::Report => self.report.bits(),
        }
    }
}
