//! New ids.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::{SpanId, TraceId};

/// Makes random trace and span ids: xoshiro256++, whose 32 bytes of state keep the sequences of
/// thousands of proxies apart. Not for secrets.
///
/// All 128 bits of a trace id are random, which is what the `random` flag of W3C Trace Context
/// Level 2 (section 3.2.2.5.2) states.
#[derive(Clone, Debug)]
pub struct IdGenerator(Xoshiro256PlusPlus);

impl IdGenerator {
    /// A generator that repeats its ids for the same seed; seed it from the system's randomness.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    /// A new trace id.
    pub fn trace_id(&mut self) -> TraceId {
        loop {
            let number = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
            if let Some(id) = TraceId::new(number) {
                return id;
            }
        }
    }

    /// A new span id.
    pub fn span_id(&mut self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.0.next_u64()) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_a_generator_and_between_seeds() {
        let mut one = IdGenerator::from_seed([1; 32]);
        let mut two = IdGenerator::from_seed([2; 32]);
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
        let mut ids = IdGenerator::from_seed([0; 32]);
        assert_ne!(ids.span_id(), ids.span_id());
    }
}
