//! The data that the workers of a proxy share.

use meshtrace_pipeline::{Change, SharedData};

use crate::call::{self, Version};
use crate::configuration::Plugin;
use crate::status::Status;

/// The shared data under the name of one plugin.
#[derive(Debug)]
pub(crate) struct PluginSharedData {
    plugin: Plugin,
}

/// The start of the entry's name. No other entry of the filters' shared data begins with it.
const STATE: &[u8] = b"meshtrace.state";

impl PluginSharedData {
    pub(crate) fn of_this_plugin() -> Self {
        Self {
            plugin: Plugin::identify(),
        }
    }
}

impl SharedData for PluginSharedData {
    fn update(&self, key: &[u8], change: &mut Change<'_>) -> bool {
        // An attempt fails only where another worker has changed the entry, and there are not many
        // workers.
        const ATTEMPTS: usize = 64;

        let key = self.plugin.key(STATE, key);
        for _ in 0..ATTEMPTS {
            let Ok(entry) = call::shared_data(&key) else {
                return false;
            };
            let (value, version) = match &entry {
                Some((value, version)) => (Some(&**value), *version),
                None => (None, Version::ABSENT),
            };
            let Some(new) = change(value) else {
                return true;
            };
            match call::set_shared_data(&key, &new, version) {
                Ok(()) => return true,
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => return false,
            }
        }
        false
    }
}
