//! The properties of a format.

use crate::Field;
use crate::vendor::Family;

/// What a format can carry, and the headers that belong to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties {
    /// Whether the format can leave the sampling decision open.
    pub(super) can_defer: bool,
    /// Whether old receivers of the format get the right-most 64 bits of a 128-bit id.
    pub(super) cuts_ids: bool,
    /// Those of its headers whose values are lists, and have commas of their own.
    pub(super) lists: &'static [Field],
    /// Other headers that are removed together with the format.
    pub(super) companions: Option<Family>,
}

impl Properties {
    /// A format that carries only ids and a decision.
    pub(super) const NONE: Self = Self {
        can_defer: false,
        cuts_ids: false,
        lists: &[],
        companions: None,
    };
}
