//! Records of open spans, used again.

use core::cell::Cell;

use arrayvec::ArrayVec;

use crate::attributes::Attributes;
use crate::conventions::Name;
use crate::limits::{MAX_TRACESTATE, MAX_URL, MAX_VALUE};

/// The most records that wait to be used again.
const MAX_WAITING: usize = 64;
/// A record that grew beyond this, in bytes, is not kept.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The data that a sampled request keeps for its end; owned and bounded.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The span's name.
    pub name: Name,
    /// Whether the name has a template of the path.
    pub has_template: bool,
    /// The attributes from the request's headers that both kinds of span have.
    pub request: Attributes,
    /// The attributes from the request's headers that only a SERVER span has.
    pub server: Attributes,
    /// The template that the path fits; empty where there is none.
    route: Vec<u8>,
    /// The path that fits the template.
    path: Vec<u8>,
    /// W3C's `tracestate` of the span; empty where there is none.
    pub tracestate: ArrayVec<u8, MAX_TRACESTATE>,
}

impl Record {
    /// Keeps the template `route` that `path` fits.
    pub fn keep_route(&mut self, route: Option<&[u8]>, path: &[u8]) {
        let keep = |kept: &mut Vec<u8>, bytes: &[u8], limit| {
            kept.clear();
            kept.extend_from_slice(bytes.get(..limit).unwrap_or(bytes));
        };
        keep(&mut self.route, route.unwrap_or_default(), MAX_VALUE);
        keep(&mut self.path, path, MAX_URL);
    }

    /// The template that `path` fits, where that is the path of [`keep_route`](Self::keep_route).
    #[must_use]
    pub fn route_of(&self, path: &[u8]) -> Option<&[u8]> {
        let is_same = path.get(..MAX_URL).unwrap_or(path) == self.path;
        (is_same && !self.route.is_empty()).then_some(&self.route)
    }

    /// Keeps `list`. Where `list` has no room, keeps the members in front that have room.
    pub fn keep_tracestate(&mut self, list: &[u8]) {
        let end = match list.get(..=MAX_TRACESTATE) {
            None => list.len(),
            // Where the list is cut, the comma behind the last kept member is at the latest in the
            // first byte without room.
            Some(cut) => cut.iter().rposition(|byte| *byte == b',').unwrap_or(0),
        };
        self.tracestate.clear();
        // The list fits, by the lines above.
        let _ = self
            .tracestate
            .try_extend_from_slice(list.get(..end).unwrap_or_default());
    }

    fn clear(&mut self) {
        self.name = Name::default();
        self.has_template = false;
        self.request.clear();
        self.server.clear();
        self.route.clear();
        self.path.clear();
        self.tracestate.clear();
    }
}

/// Records of finished spans, for the spans to come.
#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "a record goes to its request as one pointer"
)]
pub struct Pool(Cell<Vec<Box<Record>>>);

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty record.
    pub fn take(&self) -> Box<Record> {
        let mut waiting = self.0.take();
        let record = waiting.pop().unwrap_or_default();
        self.0.set(waiting);
        record
    }

    /// Takes `record` back.
    pub fn give_back(&self, mut record: Box<Record>) {
        let mut waiting = self.0.take();
        let Record {
            request,
            server,
            route,
            path,
            ..
        } = &*record;
        let vectors = route.capacity() + path.capacity();
        let bytes = request.capacity() + server.capacity() + vectors;
        if waiting.len() < MAX_WAITING && bytes <= MAX_KEPT_BYTES {
            record.clear();
            waiting.push(record);
        }
        self.0.set(waiting);
    }
}
