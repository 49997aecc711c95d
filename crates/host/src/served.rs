//! Where a good configuration has served requests while a bad one of the same name was there: an entry
//! of the shared data for each such place.
//!
//! Only a request has a listener. Its address and its direction are the sign that two
//! configurations are of one plugin: the later one served where the earlier one serves again.

use core::cell::Cell;

use meshtrace_envoy::attribute::{DESTINATION_ADDRESS, LISTENER_DIRECTION};

use crate::call::{self, Version};
use crate::configuration::{digest, key};
use crate::in_force::Entry;

/// The start of the entry's name.
const SERVED: &[u8] = b"meshtrace.served";
/// The most entries that a VM writes: a listener may take connections to any address.
const MAX_PLACES: u32 = 1000;

thread_local! {
    static PLACES: Cell<u32> = const { Cell::new(0) };
}

/// Notes that `entry` serves the request that is here.
pub(crate) fn here(entry: &Entry) {
    let written = PLACES.get();
    let place = place(entry);
    if written < MAX_PLACES && !is_noted(&place) {
        PLACES.set(written + 1);
        // Where it cannot be written, nothing is noted.
        let _ = call::set_shared_data(&place, b"1", Version::ANY);
    }
}

/// Whether `entry` has served where the request is that is here.
pub(crate) fn has_here(entry: &Entry) -> bool {
    is_noted(&place(entry))
}

fn is_noted(place: &[u8]) -> bool {
    matches!(call::shared_data(place), Ok(Some(_)))
}

/// The name of the entry for the address that the request came to, and the direction of its listener.
#[inline(never)]
fn place(entry: &Entry) -> Vec<u8> {
    let part = |path| call::property(path).ok().flatten().unwrap_or_default();
    let address = part(DESTINATION_ADDRESS.property);
    let direction = part(LISTENER_DIRECTION.property);
    let place = digest(&[&entry.runs.to_le_bytes(), &address, &direction]);
    key(SERVED, entry.plugin, place)
}
