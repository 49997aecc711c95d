//! What should change, as values.

use arrayvec::ArrayVec;
use meshtrace_headers::Edits;
use meshtrace_propagation::{Counter, Tally};

/// The known trace headers, sixteen of the configuration's own, and ninety of baggage to clear: Envoy
/// takes a hundred headers by default.
pub const MAX_EDITS: usize = 128;
const MAX_PROPERTIES: usize = 1;

/// What should change about a request, for the host crate to apply. Holds no heap memory.
#[derive(Clone, Debug, Default)]
pub struct Outcome<'a> {
    /// Edits of the request's headers.
    pub headers: Edits<'a, MAX_EDITS>,
    /// Filter state to set.
    pub properties: ArrayVec<Property, MAX_PROPERTIES>,
    /// What is to be counted.
    pub tally: Tally,
}

impl Outcome<'_> {
    /// Sets `property`; without room for it, that is counted.
    pub fn set(&mut self, property: Property) {
        if self.properties.try_push(property).is_err() {
            self.tally.count(Counter::EditsDropped);
        }
    }
}

/// Filter state under `wasm.` and its key, where access logs and custom tags read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// The trace that came in and was not continued: 32 hexadecimal digits.
    PreviousTraceId([u8; 32]),
}

impl Property {
    /// The key, without Envoy's `wasm.` before it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::PreviousTraceId(_) => "previous_trace_id",
        }
    }

    /// The text to set.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        match self {
            Self::PreviousTraceId(digits) => digits,
        }
    }
}
