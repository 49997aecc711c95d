//! Values.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// What is no `baggage-octet` (W3C Baggage, section 3.3.1.3), and the percent sign, which starts an escape.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'%');

/// Any bytes as a value, in pieces: what may not stand in one is percent-encoded (W3C Baggage, section 3.3.1.3).
pub fn encode(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    percent_encode(value, ESCAPED).map(str::as_bytes)
}
