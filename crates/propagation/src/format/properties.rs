//! What a format can say.

use crate::Field;
use crate::vendor::Family;

/// What a format can say, and what goes with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties {
    /// Whether the format can leave the sampling decision open.
    pub(super) can_defer: bool,
    /// Whether old receivers of the format get the right-most 64 bits of a 128-bit id.
    pub(super) cuts_ids: bool,
    /// Those of its headers whose values are lists, and have commas of their own.
    pub(super) lists: &'static [Field],
    /// Headers beside its own that go where the format goes.
    pub(super) companions: Option<Family>,
}

impl Properties {
    /// A format of ids and a decision, and nothing else.
    pub(super) const NONE: Self = Self {
        can_defer: false,
        cuts_ids: false,
        lists: &[],
        companions: None,
    };
}
