//! Which warnings the workers have said: one entry of the shared data for each configuration that
//! one of them has warned about.

use meshtrace_pipeline::Warning;

use crate::call::{self, Version};
use crate::configuration::key;

/// The start of the entry's name.
const WARNED: &[u8] = b"meshtrace.warned";

/// The warnings about one configuration.
#[derive(Debug)]
pub(crate) struct Warned(Vec<u8>);

impl Warned {
    pub(crate) fn about(plugin: u64, configuration: u64) -> Self {
        Self(key(WARNED, plugin, configuration))
    }

    /// Whether this worker is to say `warning` at the time `now`: no worker has said it within the
    /// last hour. Where the shared data fail, each worker speaks for itself.
    #[inline(never)]
    pub(crate) fn admits(&self, warning: Warning, now: u64) -> bool {
        let recorded = call::update_shared_data(&self.0, &mut |said| warning.record(said, now));
        recorded != Ok(false)
    }

    /// The configuration comes in force, or ends: from now on each warning is a new one.
    pub(crate) fn forget(&self) {
        // The shared data have no way to remove an entry.
        if matches!(call::shared_data(&self.0), Ok(Some(_))) {
            let _ = call::set_shared_data(&self.0, b"", Version::ANY);
        }
    }
}
