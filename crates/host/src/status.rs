//! The status that the host returns for a call.

use core::fmt;

/// A status other than OK, as the host gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u32);

impl Status {
    pub(crate) const NOT_FOUND: Self = Self(1);
    pub(crate) const BAD_ARGUMENT: Self = Self(2);
    pub(crate) const CAS_MISMATCH: Self = Self(8);
    /// The host returned OK, but not the requested bytes. This is not a status of the ABI.
    pub(crate) const NO_BYTES: Self = Self(u32::MAX);

    /// The result of a call that returned `status`.
    pub(crate) fn check(status: u32) -> Result<(), Self> {
        match status {
            0 => Ok(()),
            status => Err(Self(status)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host status {}", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
