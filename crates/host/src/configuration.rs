//! Loading a plugin configuration: what happens to a bad one.
//!
//! Envoy keeps the configuration in force when an update is refused. At first load there is none to
//! keep: a refusal would answer 500 over ECDS, take the listener away over LDS, and end Envoy in a
//! static configuration, whatever the failure policy. So a bad first configuration loads inert.
//!
//! Envoy asks a VM of its main thread first and remembers the answer for as long as the module is
//! in use: a configuration that once loaded inert is never asked about again there, and refusing it
//! on a worker would fail every request. So it loads inert whenever it comes back.

use meshtrace_config::ConfigError;
use meshtrace_pipeline::Composition;
use proxy_wasm::types::LogLevel;

use crate::{call, metrics};

/// What `on_configure` is to answer.
pub(crate) enum Load<C> {
    /// The filter runs.
    Run(C),
    /// The filter changes nothing.
    Inert,
    /// The update is refused, and the configuration in force stays.
    Refuse,
}

pub(crate) fn load<C: Composition>() -> Load<C> {
    let plugin = Plugin::identify();
    let json = match call::plugin_configuration() {
        Ok(json) => json,
        Err(status) => {
            let message = format!("the host did not hand it over: {status}");
            return plugin.refuse(&ConfigError::new(C::NAME, message), b"");
        }
    };
    match C::from_json(&json) {
        Ok(composition) => {
            plugin.remember(GOOD, b"");
            metrics::record_config_invalid(false);
            Load::Run(composition)
        }
        Err(error) => plugin.refuse(&error, &json),
    }
}

/// A good configuration is, or was, in force.
const GOOD: &[u8] = b"meshtrace.good";
/// This very configuration was loaded inert.
const INERT: &[u8] = b"meshtrace.inert";

/// Plugins that share a VM are told apart by name and root id.
struct Plugin {
    name: Box<[u8]>,
    root_id: Box<[u8]>,
}

impl Plugin {
    fn identify() -> Self {
        let part = |path| call::property(path).ok().flatten().unwrap_or_default();
        Self {
            name: part(b"plugin_name"),
            root_id: part(b"plugin_root_id"),
        }
    }

    fn refuse<C>(&self, error: &ConfigError, json: &[u8]) -> Load<C> {
        metrics::record_config_invalid(true);
        let inert = "the filter is loaded inert and changes nothing";
        let (consequence, load) = if self.remembers(INERT, json) {
            (inert, Load::Inert)
        } else if self.remembers(GOOD, b"") {
            ("the configuration in force stays", Load::Refuse)
        } else if is_strict() {
            ("refused, as MESHTRACE_STRICT=1 asks", Load::Refuse)
        } else {
            self.remember(INERT, json);
            (inert, Load::Inert)
        };
        call::log(LogLevel::Error, &format!("{error} ({consequence})"));
        load
    }

    /// Tells all workers, and the root contexts that replace this one.
    fn remember(&self, fact: &[u8], detail: &[u8]) {
        if let Err(status) = call::set_shared_data(&self.key(fact, detail), b"1") {
            call::log(
                LogLevel::Warn,
                &format!("shared data cannot be written, a bad update may load inert: {status}"),
            );
        }
    }

    fn remembers(&self, fact: &[u8], detail: &[u8]) -> bool {
        call::has_shared_data(&self.key(fact, detail)).unwrap_or_else(|status| {
            call::log(
                LogLevel::Warn,
                &format!("shared data cannot be read, taken for the first load: {status}"),
            );
            false
        })
    }

    fn key(&self, fact: &[u8], detail: &[u8]) -> Vec<u8> {
        [fact, &self.name, &self.root_id, detail].join(&0)
    }
}

fn is_strict() -> bool {
    std::env::var_os("MESHTRACE_STRICT").is_some_and(|value| value == "1")
}
