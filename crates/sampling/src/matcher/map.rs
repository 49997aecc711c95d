//! Maps whose keys are bytes of the configuration. What a client sends is only looked up.

use std::collections::HashMap;

use core::hash::{BuildHasherDefault, Hasher};

/// A map whose keys come from the configuration, so that no client can make them collide.
pub(super) type Places = HashMap<Box<[u8]>, usize, BuildHasherDefault<Fnv>>;

/// Values by such keys. The table of hashes is that of [`Places`] for all of them: its code is in
/// the module once.
#[derive(Clone, Debug)]
pub(super) struct ByteMap<V> {
    places: Places,
    values: Vec<V>,
}

impl<V> Default for ByteMap<V> {
    fn default() -> Self {
        Self {
            places: Places::default(),
            values: Vec::new(),
        }
    }
}

impl<V> ByteMap<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.values.get(*self.places.get(key)?)
    }

    /// Changes the value of `key`, which `make` makes where there is none.
    pub(super) fn change(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> V,
        change: impl FnOnce(&mut V),
    ) {
        let place = place(&mut self.places, key, self.values.len());
        if place == self.values.len() {
            self.values.push(make());
        }
        if let Some(value) = self.values.get_mut(place) {
            change(value);
        }
    }

    /// The same keys, with other values.
    pub(super) fn map<W>(self, change: impl FnMut(V) -> W) -> ByteMap<W> {
        ByteMap {
            places: self.places,
            values: self.values.into_iter().map(change).collect(),
        }
    }
}

/// The place of `key`: `fresh` where it has none yet.
#[inline(never)]
pub(super) fn place(places: &mut Places, key: &[u8], fresh: usize) -> usize {
    match places.get(key) {
        Some(place) => *place,
        None => {
            places.insert(key.into(), fresh);
            fresh
        }
    }
}

/// FNV-1a: it is fast for short keys, and needs no seed from the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
