//! An attribute of one request, as it is written.

use arrayvec::ArrayVec;

use crate::config::MAX_ATTRIBUTES;

/// One attribute of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value: 1 to 256 bytes without control characters, and not white space alone.
    pub value: &'a str,
    /// The request header that carries it, where the configuration has a prefix.
    pub header: Option<&'a [u8]>,
}

/// The attributes of one request, in the order of the configuration.
pub type Gathered<'a> = ArrayVec<Attribute<'a>, MAX_ATTRIBUTES>;
