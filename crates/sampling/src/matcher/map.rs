//! Maps whose keys are bytes of the configuration. What a client sends is only looked up.

use std::collections::HashMap;

use core::hash::{BuildHasherDefault, Hasher};

/// A map whose keys come from the configuration, so that no client can make them collide.
pub(super) type ByteMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fnv>>;

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
