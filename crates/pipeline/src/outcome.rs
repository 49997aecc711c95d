//! The changes that a filter makes to a request or a response, as values.

use arrayvec::ArrayVec;
use bumpalo::collections::Vec;
use meshtrace_access_log as access_log;
use meshtrace_attributes as attributes;
use meshtrace_config::RequestHeaders;
use meshtrace_counters::Counter as _;
use meshtrace_headers::Edits;
use meshtrace_otlp as otlp;
use meshtrace_propagation::{self as propagation, TraceContext};
use meshtrace_sampling as sampling;

use crate::{Arena, Warning};

/// The headers that belong to one stage each: two helper headers of the access log's ids, one
/// helper header of sampling, the header of `force`, `request_header`, and `baggage`.
const OF_SINGLE_STAGES: usize = 2 + 1 + 1 + 1 + 1;

/// The most edits of one request, each of another header: every known trace header, every whole
/// name of the tracers that are not converted, one `clear`, every attribute, and the headers of
/// single stages. So a configured removal always has room, whatever a client sends.
pub const MAX_EDITS: usize = propagation::Field::ALL.len()
    + propagation::FAMILY_NAMES
    + propagation::MAX_CLEAR
    + attributes::MAX_ATTRIBUTES
    + OF_SINGLE_STAGES;
/// The most filter state that one callback sets: thirty-two attributes, and the ids of the trace in
/// every shape.
pub const MAX_PROPERTIES: usize = 48;

/// What is to change about a request or its response. The host crate applies it. Its memory is the
/// arena of the callback.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The edits of the request's or the response's headers.
    pub headers: Edits<'a>,
    /// How the request headers change. With [`RequestHeaders::FilterState`] the host makes no
    /// edits, but sets [`Edits::written`] as filter state.
    pub request_headers: RequestHeaders,
    /// The filter state to set.
    pub properties: Properties<'a>,
    /// The context that the filter needs when it sees the same request again
    /// ([`Needs::own_context`]).
    ///
    /// [`Needs::own_context`]: crate::Needs::own_context
    pub own_context: Option<[u8; TraceContext::BYTES]>,
    /// The counters of the stages that move.
    pub tallies: Tallies,
    /// The counters of [`Composition::counters`](crate::Composition::counters) that move.
    pub configured: Configured,
    /// What the request shows, which the user should know.
    pub warning: Option<Warning>,
}

impl<'a> Outcome<'a> {
    /// Returns an empty outcome, with room in `arena` for [`MAX_EDITS`] and [`MAX_PROPERTIES`].
    #[must_use]
    pub fn new_in(arena: &'a Arena) -> Self {
        Self::with_room(arena, MAX_EDITS, MAX_PROPERTIES)
    }

    /// Returns an empty outcome, with room for this number of edits and of filter state.
    #[must_use]
    pub fn with_room(arena: &'a Arena, edits: usize, properties: usize) -> Self {
        Self {
            headers: Edits::new_in(arena, edits),
            request_headers: RequestHeaders::Edit,
            properties: Properties::new_in(arena, properties),
            own_context: None,
            tallies: Tallies::default(),
            configured: Configured::default(),
            warning: None,
        }
    }
}

/// A request moves one counter, which is of its rule. There is room for one more.
const MAX_CONFIGURED: usize = 2;

/// Counters of [`Composition::counters`](crate::Composition::counters) that a request moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured(ArrayVec<usize, MAX_CONFIGURED>);

impl Configured {
    /// Moves the counter at `index` of the list by one.
    pub fn count(&mut self, index: usize) {
        // Each callback of a request has an outcome of its own, so the list is never full.
        let _ = self.0.try_push(index);
    }
}

impl core::ops::Deref for Configured {
    type Target = [usize];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The filter state to set, in order. There is room for [`MAX_PROPERTIES`] at most.
#[derive(Debug)]
pub struct Properties<'a> {
    properties: Vec<'a, Property<'a>>,
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
    fn new_in(arena: &'a Arena, room: usize) -> Self {
        let mut properties = Vec::new_in(arena);
        // Where the arena has no room, all properties are lost, and [`Self::overflowed`] reports
        // it.
        let _ = properties.try_reserve_exact(room);
        Self {
            properties,
            overflowed: false,
        }
    }

    /// Sets the filter state `key` to `value`.
    pub fn set(&mut self, key: &'a [u8], value: &'a [u8]) {
        if self.properties.len() < self.properties.capacity() {
            self.properties.push(Property { key, value });
        } else {
            self.overflowed = true;
        }
    }

    /// Whether more were set than there was room for. Those without room are lost.
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

/// A stage that has counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Reads, changes and writes the trace context.
    Propagation,
    /// Decides which traces are recorded.
    Sampling,
    /// Gathers attributes.
    Attributes,
    /// Finds the ids for the access log.
    AccessLog,
    /// Reports spans.
    Report,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 5] = [
        Self::Propagation,
        Self::Sampling,
        Self::Attributes,
        Self::AccessLog,
        Self::Report,
    ];

    /// The names of its counters in Envoy.
    #[must_use]
    pub const fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::Propagation => propagation::Counter::METRICS,
            Self::Attributes => attributes::Counter::METRICS,
            Self::AccessLog => access_log::Counter::METRICS,
            Self::Sampling => sampling::Counter::METRICS,
            Self::Report => otlp::Counter::METRICS,
        }
    }

    /// What each counter counts, in the order of [`metrics`](Self::metrics).
    #[must_use]
    pub const fn descriptions(self) -> &'static [&'static str] {
        match self {
            Self::Propagation => propagation::Counter::DESCRIPTIONS,
            Self::Attributes => attributes::Counter::DESCRIPTIONS,
            Self::AccessLog => access_log::Counter::DESCRIPTIONS,
            Self::Sampling => sampling::Counter::DESCRIPTIONS,
            Self::Report => otlp::Counter::DESCRIPTIONS,
        }
    }
}

/// The counters that one callback moves, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// The counters of [`Stage::Propagation`].
    pub propagation: propagation::Tally,
    /// The counters of [`Stage::Attributes`].
    pub attributes: attributes::Tally,
    /// The counters of [`Stage::AccessLog`].
    pub access_log: access_log::Tally,
    /// The counters of [`Stage::Sampling`].
    pub sampling: sampling::Tally,
    /// The counters of [`Stage::Report`].
    pub report: otlp::Tally,
}

impl Tallies {
    /// The counters of `stage`: one bit each, in the order of [`Stage::metrics`].
    #[must_use]
    pub fn of(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Propagation => self.propagation.bits(),
            Stage::Attributes => self.attributes.bits(),
            Stage::AccessLog => self.access_log.bits(),
            Stage::Sampling => self.sampling.bits(),
            Stage::Report => self.report.bits(),
        }
    }
}
