//! The flags of a trace.

use crate::hex::{self, Case};
use crate::{SamplingState, TraceContext};

/// The flags of a trace, as W3C writes them (Trace Context Level 2, section 3.2.2.5). Unknown flags
/// are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFlags(u8);

impl TraceFlags {
    const SAMPLED: u8 = 0b01;
    const RANDOM: u8 = 0b10;

    /// The flags of a trace with this decision, whose id is `random` or not known to be.
    #[must_use]
    pub const fn new(sampled: bool, random: bool) -> Self {
        let sampled = if sampled { Self::SAMPLED } else { 0 };
        let random = if random { Self::RANDOM } else { 0 };
        Self(sampled | random)
    }

    /// The flags of `context`; `None` where the decision is open.
    #[must_use]
    pub fn of(context: &TraceContext) -> Option<Self> {
        let sampled = context.sampling.decision()?;
        Some(Self::new(sampled, context.random))
    }

    /// Reads two lower-case hexadecimal digits.
    pub(crate) fn from_hex(text: &[u8]) -> Option<Self> {
        let flags = hex::decode_byte(text, Case::Lower)?;
        Some(Self(flags & (Self::SAMPLED | Self::RANDOM)))
    }

    /// Two lower-case hexadecimal digits.
    #[must_use]
    pub const fn to_hex(self) -> &'static [u8; 2] {
        match self.0 {
            0 => b"00",
            Self::SAMPLED => b"01",
            Self::RANDOM => b"02",
            _ => b"03",
        }
    }

    /// The decision of the flag `sampled`.
    pub(crate) const fn sampling(self) -> SamplingState {
        match self.0 & Self::SAMPLED {
            0 => SamplingState::NotSampled,
            _ => SamplingState::Sampled,
        }
    }

    /// Whether the flag `random` is set.
    pub(crate) const fn is_random(self) -> bool {
        self.0 & Self::RANDOM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_is_written_is_read() {
        for (sampled, random, text) in [
            (false, false, b"00"),
            (true, false, b"01"),
            (false, true, b"02"),
            (true, true, b"03"),
        ] {
            let flags = TraceFlags::new(sampled, random);
            assert_eq!(flags.to_hex(), text);
            assert_eq!(TraceFlags::from_hex(text), Some(flags));
            assert_eq!(flags.sampling().decision(), Some(sampled));
            assert_eq!(flags.is_random(), random);
        }
        assert_eq!(TraceFlags::from_hex(b"ff"), TraceFlags::from_hex(b"03"));
        for text in [&b"0"[..], b"0g", b"0F", b"001"] {
            assert_eq!(TraceFlags::from_hex(text), None);
        }
    }
}
