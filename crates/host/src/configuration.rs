//! Loading a plugin configuration: what happens to a bad one.
//!
//! Envoy keeps the configuration in force when an update is refused. At first load there is none to
//! keep: a refusal would answer 500 over ECDS, take the listener away over LDS, and end Envoy in a
//! static configuration, whatever the failure policy. So a bad first configuration loads inert.
//!
//! Envoy asks a VM of its main thread first and remembers the answer for as long as the module is
//! in use: a configuration that once loaded inert is never asked about again there, and refusing it
//! on a worker would fail every request. So it loads inert whenever it comes back.

use std::ffi::OsString;

use meshtrace_config::ConfigError;
use meshtrace_pipeline::Composition;
use proxy_wasm::types::LogLevel;

use crate::call::{self, Version};
use crate::metrics;
use crate::status::Status;

/// What `on_configure` is to answer.
pub(crate) enum Load<C> {
    /// The filter runs.
    Run(C),
    /// The filter changes nothing.
    Inert,
    /// The update is refused, and the configuration in force stays.
    Refuse,
}

#[inline(never)]
pub(crate) fn load<C: Composition>() -> Load<C> {
    let plugin = Plugin::identify();
    let json = match call::plugin_configuration() {
        Ok(json) => json,
        Err(status) => {
            let message = format!("the host did not hand it over: {status}");
            return plugin.refuse(&ConfigError::new(C::NAME, message), b"");
        }
    };
    match C::from_json(&json, &variable) {
        Ok(composition) => {
            plugin.remember(GOOD, b"");
            plugin.report(false);
            if let Some(caution) = composition.caution() {
                call::log(LogLevel::Warn, caution);
            }
            Load::Run(composition)
        }
        Err(error) => plugin.refuse(&error, &json),
    }
}

/// A good configuration is, or was, in force.
const GOOD: &[u8] = b"meshtrace.good";
/// The plugins that run without the configuration that they were given.
const INVALID: &[u8] = b"meshtrace.invalid";
/// This very configuration was loaded inert.
const INERT: &[u8] = b"meshtrace.inert";

/// Plugins that share a VM are told apart by name and root id.
#[derive(Debug)]
pub(crate) struct Plugin {
    name: Box<[u8]>,
    root_id: Box<[u8]>,
}

impl Plugin {
    pub(crate) fn identify() -> Self {
        let part = |path| call::property(path).ok().flatten().unwrap_or_default();
        Self {
            name: part(b"plugin_name"),
            root_id: part(b"plugin_root_id"),
        }
    }

    fn refuse<C>(&self, error: &ConfigError, json: &[u8]) -> Load<C> {
        self.report(true);
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
        if let Err(status) = call::set_shared_data(&self.key(fact, detail), b"1", Version::ANY) {
            call::log(
                LogLevel::Warn,
                &format!("shared data cannot be written, a bad update may load inert: {status}"),
            );
        }
    }

    fn remembers(&self, fact: &[u8], detail: &[u8]) -> bool {
        call::shared_data(&self.key(fact, detail))
            .unwrap_or_else(|status| {
                call::log(
                    LogLevel::Warn,
                    &format!("shared data cannot be read, taken for the first load: {status}"),
                );
                None
            })
            .is_some()
    }

    /// Keeps the gauge at 1 while any plugin of this VM is without the configuration that it was
    /// given: a plugin that loads well must not hide another one that did not.
    fn report(&self, invalid: bool) {
        let changed = self.change_invalid(invalid).unwrap_or_else(|status| {
            call::log(
                LogLevel::Warn,
                &format!("shared data fails, the gauge tells of this plugin alone: {status}"),
            );
            Some(invalid)
        });
        metrics::record_config_invalid(changed);
    }

    /// Puts this plugin on the list of the invalid ones, or takes it off. Returns whether any is on
    /// it then, or `None` when nothing changed and the gauge has been told already.
    fn change_invalid(&self, invalid: bool) -> Result<Option<bool>, Status> {
        // Every worker may be loading at this moment, and each gets its turn.
        const ATTEMPTS: usize = 1000;

        let own = self.key(b"", b"");
        for _ in 0..ATTEMPTS {
            let (list, version) = call::shared_data(INVALID)?.unwrap_or_default();
            let mut plugins: Vec<_> = list
                .split(|byte| *byte == b'\n')
                .filter(|plugin| !plugin.is_empty())
                .collect();
            let listed = plugins.contains(&own.as_slice());
            match (listed, invalid) {
                (false, false) => return Ok(None),
                (true, true) => return Ok(Some(true)),
                (false, true) => plugins.push(&own),
                (true, false) => plugins.retain(|plugin| *plugin != own),
            }
            match call::set_shared_data(INVALID, &plugins.join(&b'\n'), version) {
                Err(Status::CAS_MISMATCH) => {}
                Err(status) => return Err(status),
                Ok(()) => return Ok(Some(!plugins.is_empty())),
            }
        }
        Err(Status::CAS_MISMATCH)
    }

    /// A name in the shared data that no other plugin has.
    pub(crate) fn key(&self, fact: &[u8], detail: &[u8]) -> Vec<u8> {
        [fact, &self.name, &self.root_id, detail].join(&0)
    }
}

fn is_strict() -> bool {
    variable("MESHTRACE_STRICT").is_some_and(|value| value == b"1")
}

/// A variable of the VM's environment, which Envoy serves through WASI.
fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_encoded_bytes)
}
