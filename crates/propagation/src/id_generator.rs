//! New ids.

use core::cell::Cell;
use core::fmt;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::{SpanId, TraceId};

/// Makes random trace and span ids with xoshiro256++, whose 32 bytes of state keep the sequences of
/// thousands of proxies apart. It must not be used for secrets.
///
/// All 128 bits of a trace id are random, which is what the `random` flag of W3C Trace Context
/// Level 2 (section 3.2.2.5.2) states.
pub struct IdGenerator(Cell<Option<Xoshiro256PlusPlus>>);

impl fmt::Debug for IdGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdGenerator").finish_non_exhaustive()
    }
}

impl IdGenerator {
    /// A generator that repeats its ids for the same seed; seed it from the system's randomness.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Cell::new(Some(Xoshiro256PlusPlus::from_seed(seed))))
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.next_u64()
    }

    fn next_u64(&self) -> u64 {
        // The cell has a state, for it is empty only between these lines.
        let state = self.0.take();
        let mut state = state.unwrap_or_else(|| Xoshiro256PlusPlus::from_seed([0; 32]));
        let number = state.next_u64();
        self.0.set(Some(state));
        number
    }

    /// A new trace id.
    pub fn trace_id(&self) -> TraceId {
        loop {
            let number = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
            if let Some(id) = TraceId::new(number) {
                return id;
            }
        }
    }

    /// A new span id.
    pub fn span_id(&self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.next_u64()) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn ids_differ_within_a_generator_and_between_seeds() {
        let one = IdGenerator::from_seed([1; 32]);
        let two = IdGenerator::from_seed([2; 32]);
        let ids = [
            one.trace_id(),
            one.trace_id(),
            two.trace_id(),
            two.trace_id(),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[i + 1..].contains(id));
        }
    }

    #[test]
    fn a_seed_of_zeros_still_gives_ids() {
        let ids = IdGenerator::from_seed([0; 32]);
        assert_ne!(ids.span_id(), ids.span_id());
    }
}
