//! Values of Envoy's attributes, as the host hands them over.

/// The integer in `value`: eight little-endian bytes.
#[must_use]
pub fn integer(value: &[u8]) -> Option<u64> {
    value.first_chunk::<8>().copied().map(u64::from_le_bytes)
}
