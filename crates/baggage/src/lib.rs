//! The `baggage` header (W3C Baggage, section 3).
//!
//! [`members`] reads the header in place. [`Baggage`] builds the header to send, within the limits.

#![forbid(unsafe_code)]

mod baggage;
mod member;
mod value;

pub use baggage::{Baggage, MAX_BYTES, MAX_MEMBERS};
pub use member::{Member, members};
pub use value::encode;

/// The header's name (section 3.2), as HTTP/2 writes it.
pub const NAME: &[u8] = b"baggage";
