//! Values of members.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// The bytes that are no `baggage-octet` (W3C Baggage, section 3.3.1.3), and the percent sign,
/// which starts an escape.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'%');

/// `value` as a value of a member, in pieces: bytes that may not stand in one are percent-encoded
/// (W3C Baggage, section 3.3.1.3).
pub fn encode(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    percent_encode(value, ESCAPED).map(str::as_bytes)
}
