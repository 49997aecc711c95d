//! Whether a good configuration is of the same plugin as an earlier bad one of the same name.
//!
//! Only a request tells where it is served. Where the later configuration has served and the earlier
//! one serves again, both are of one plugin, unless both serve one request.

use core::cell::Cell;

use meshtrace_envoy::attribute::{
    AttributePath, CLUSTER_NAME, CONNECTION_ID, DESTINATION_ADDRESS, FILTER_CHAIN_NAME,
    LISTENER_DIRECTION, REQUEST_TIME, UPSTREAM_ADDRESS,
};

use crate::call::{self, Version};
use crate::configuration::{digest, key};
use crate::in_force::Entry;

/// The start of the name of an entry that tells a place.
const SERVED: &[u8] = b"meshtrace.served";
/// The start of the name of an entry that tells what runs in the place of a bad configuration.
const SUCCESSOR: &[u8] = b"meshtrace.successor";
/// The most places that a VM writes: a listener may take connections to any address.
const MAX_PLACES: u32 = 1000;

thread_local! {
    static PLACES: Cell<u32> = const { Cell::new(0) };
}

/// Notes that `good` serves the request that is here.
pub(crate) fn here(good: &Entry) {
    let written = PLACES.get();
    let place = place(good);
    if written < MAX_PLACES && !is_noted(&place) {
        PLACES.set(written + 1);
        note(&place);
    }
}

/// Whether `good` is of the same plugin as the earlier `bad`, which serves the request that is here.
/// All workers follow the first one that finds it.
pub(crate) fn is_own(bad: &Entry, good: &Entry) -> bool {
    let both = digest(&[&bad.given.to_le_bytes(), &good.runs.to_le_bytes()]);
    let successor = key(SUCCESSOR, bad.plugin, both);
    if is_noted(&successor) {
        return true;
    }
    let is_own = is_noted(&place(good));
    if is_own {
        note(&successor);
    }
    is_own
}

/// What only this request has, whichever filter reads it. It is never 0.
pub(crate) fn mark() -> u64 {
    read(0, &[CONNECTION_ID, REQUEST_TIME])
}

fn is_noted(name: &[u8]) -> bool {
    matches!(call::shared_data(name), Ok(Some(_)))
}

fn note(name: &[u8]) {
    // Where it cannot be written, nothing is noted.
    let _ = call::set_shared_data(name, b"1", Version::ANY);
}

/// The name of the entry for `good` and the place of the request: of a filter of a listener its address,
/// direction and filter chain, of a filter of a cluster the cluster's name too.
fn place(good: &Entry) -> Vec<u8> {
    const OF_CLUSTER: [AttributePath; 4] = [
        DESTINATION_ADDRESS,
        LISTENER_DIRECTION,
        FILTER_CHAIN_NAME,
        CLUSTER_NAME,
    ];
    let [of_listener @ .., _] = &OF_CLUSTER;
    let is_of_cluster = matches!(call::property(UPSTREAM_ADDRESS.property), Ok(Some(_)));
    let paths = match is_of_cluster {
        true => OF_CLUSTER.as_slice(),
        false => of_listener,
    };
    key(SERVED, good.plugin, read(good.runs, paths))
}

/// A digest of these attributes of the request.
#[inline(never)]
fn read(start: u64, paths: &[AttributePath]) -> u64 {
    let mut bytes = start.to_le_bytes().to_vec();
    for path in paths {
        let value = call::property(path.property).ok().flatten();
        bytes.extend_from_slice(&value.unwrap_or_default());
        bytes.push(0xff);
    }
    digest(&[&bytes])
}
