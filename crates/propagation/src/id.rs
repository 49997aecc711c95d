//! Trace and span ids: never zero, so a value of these types is valid.

use core::fmt;
use core::num::{NonZeroU64, NonZeroU128};

use crate::hex::{self, Case};

/// A trace id: 16 bytes, not all zero (W3C Trace Context, section 3.2.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// Makes an id; `None` for zero.
    #[must_use]
    pub const fn new(number: u128) -> Option<Self> {
        match NonZeroU128::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Reads 32 lower-case hexadecimal digits, or 16 as if padded on the left with zeros.
    #[must_use]
    pub fn from_digits(text: &[u8]) -> Option<Self> {
        match text.len() {
            16 => Self::from_hex64(text, Case::Lower),
            _ => Self::from_hex128(text, Case::Lower),
        }
    }

    /// Reads 32 hexadecimal digits.
    pub(crate) fn from_hex128(text: &[u8], case: Case) -> Option<Self> {
        let (high, low) = text.split_at_checked(16)?;
        let high = hex::decode(high, case)?;
        let low = hex::decode(low, case)?;
        Self::new(u128::from(high) << 64 | u128::from(low))
    }

    /// Reads 32 hexadecimal digits, or 16 where the left half is zero, in either case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text.len() {
            16 => Self::from_hex64(text, Case::Any),
            _ => Self::from_hex128(text, Case::Any),
        }
    }

    /// Reads 16 hexadecimal digits, padded on the left with zeros (B3, "TraceId").
    pub(crate) fn from_hex64(text: &[u8], case: Case) -> Option<Self> {
        Self::new(u128::from(hex::decode(text, case)?))
    }

    /// Reads 1 to 32 hexadecimal digits, padded on the left with zeros.
    pub(crate) fn from_hex_padded(text: &[u8], case: Case) -> Option<Self> {
        let (high, low) = text.split_at_checked(text.len().saturating_sub(16))?;
        let high = match high {
            [] => 0,
            high => hex::decode_padded(high, case)?,
        };
        let low = hex::decode_padded(low, case)?;
        Self::new(u128::from(high) << 64 | u128::from(low))
    }

    /// The 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        let halves = [self.high(), self.low()];
        for (half, number) in digits.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            *half = hex::encode(number);
        }
        digits
    }

    /// The 16 lower-case hexadecimal digits of the right-most 8 bytes.
    #[must_use]
    pub fn low_to_hex(self) -> [u8; 16] {
        hex::encode(self.low())
    }

    /// The 16 bytes, for formats that write them as they are.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The left-most 8 bytes.
    #[must_use]
    pub fn high(self) -> u64 {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = self.0.get().to_be_bytes();
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    }

    /// The right-most 8 bytes: the whole id for tracers of 64 bits. May be zero.
    #[must_use]
    pub fn low(self) -> u64 {
        let [.., b0, b1, b2, b3, b4, b5, b6, b7] = self.0.get().to_be_bytes();
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    }
}

/// A span id: 8 bytes, not all zero (W3C Trace Context, section 3.2.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// Makes an id; `None` for zero.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Reads 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_digits(text: &[u8]) -> Option<Self> {
        Self::from_hex(text, Case::Lower)
    }

    /// Reads 16 hexadecimal digits.
    pub(crate) fn from_hex(text: &[u8], case: Case) -> Option<Self> {
        Self::new(hex::decode(text, case)?)
    }

    /// The 8 bytes, for formats that write them as they are.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// The id as a number, for formats that write it in decimal.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Reads 1 to 16 hexadecimal digits, padded on the left with zeros.
    pub(crate) fn from_hex_padded(text: &[u8], case: Case) -> Option<Self> {
        Self::new(hex::decode_padded(text, case)?)
    }

    /// The 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> [u8; 16] {
        hex::encode(self.0.get())
    }
}

/// The whole trace id that two headers have. Each id comes with whether its format cuts ids: an id
/// that was cut may be the right-most 64 bits of the other one.
pub(crate) fn same_trace(one: (TraceId, bool), other: (TraceId, bool)) -> Option<TraceId> {
    let is_half = |(half, is_cut): (TraceId, bool), (whole, _): (TraceId, bool)| {
        is_cut && half.high() == 0 && half.low() == whole.low()
    };
    match (one, other) {
        ((id, _), (same, _)) if id == same => Some(id),
        (half, (whole, _)) if is_half(half, other) => Some(whole),
        ((whole, _), half) if is_half(half, one) => Some(whole),
        _ => None,
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_id_of_zeros_does_not_exist() {
        assert!(TraceId::new(0).is_none());
        assert!(SpanId::new(0).is_none());
        assert!(TraceId::from_hex128(&[b'0'; 32], Case::Lower).is_none());
        assert!(TraceId::from_hex64(&[b'0'; 16], Case::Lower).is_none());
    }

    #[test]
    fn ids_keep_their_digits() {
        let text = b"4bf92f3577b34da6a3ce929d0e0e4736";
        let id = TraceId::from_hex128(text, Case::Lower).unwrap();
        assert_eq!(&id.to_hex(), text);
        assert_eq!(id.high(), 0x4bf9_2f35_77b3_4da6);
        assert_eq!(id.low(), 0xa3ce_929d_0e0e_4736);
        let padded = TraceId::from_hex64(b"a3ce929d0e0e4736", Case::Lower).unwrap();
        assert_eq!(&padded.to_hex(), b"0000000000000000a3ce929d0e0e4736");
        let id = TraceId::from_hex_padded(&text[1..], Case::Lower).unwrap();
        assert_eq!(&id.to_hex(), b"0bf92f3577b34da6a3ce929d0e0e4736");
        assert!(TraceId::from_hex_padded(&[b'1'; 33], Case::Lower).is_none());
        assert!(TraceId::from_hex_padded(b"", Case::Lower).is_none());
    }
}
