//! Loading a plugin configuration: what happens to a bad one.
//!
//! A filter accepts every configuration. Envoy keeps the configuration in force when an update is
//! refused. But while an update is refused, Envoy also refuses every other change to the listeners
//! that use the plugin, and every new listener that uses it: a rule that denies access would not
//! come into force. At the first load there is no configuration to keep. There, a refusal would
//! make Envoy answer 500 with ECDS, remove the listener with LDS, and end with a static
//! configuration, whatever the failure policy.
//!
//! So after a bad update the filter runs the last good configuration of the same plugin, which is
//! stored in the shared data. Where there is none, the filter is loaded inert. [`in_force`] defines
//! which plugins are the same. `MESHTRACE_STRICT=1` in the VM's environment refuses a bad
//! configuration that would load inert, unless it may be an update: a plugin without a name has no
//! last good configuration, and a refusal of its update would hold back other changes too.
//!
//! Envoy first tries a configuration in a VM of its main thread, and keeps the result as long as
//! the module is in use. A worker that refuses the configuration fails every request. So a
//! configuration that was once accepted is accepted again, strict or not.

use std::ffi::OsString;

use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute;
use meshtrace_pipeline::{Composition, Proxy};
use proxy_wasm::types::LogLevel;

use crate::call::{self, Version};
use crate::in_force::{self, Entry, GivenConfiguration, Invalid, LoadDecision};
use crate::metrics::ConfigGauges;
use crate::served;
use crate::status::Status;
use crate::warned::Warned;

/// The result of `on_configure`.
pub(crate) enum Load<C> {
    /// The filter runs with the given configuration.
    Good(C),
    /// The filter runs with the last good configuration of its plugin.
    LastGood(C),
    /// The root context continues with the configuration that it runs already.
    Keep,
    /// The filter changes nothing.
    Inert,
    /// The configuration is refused: no configuration of the plugin is in force, and
    /// `MESHTRACE_STRICT` is set.
    Refuse,
}

/// The start of the key, in the shared data, of the last good configuration of a plugin.
const GOOD: &[u8] = b"meshtrace.good";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The start of the key, in the shared data, of a bad configuration that was accepted in strict
/// mode.
const TAKEN: &[u8] = b"meshtrace.taken";

/// Loads the configuration of `plugin`, whose root context is `context`. `is_running` is set when
/// the root context runs a configuration already.
#[inline(never)]
pub(crate) fn load<C: Composition>(
    plugin: &Plugin,
    gauges: ConfigGauges,
    context: u32,
    is_running: bool,
) -> Load<C> {
    let (json, read) = match call::plugin_configuration() {
        Ok(json) => {
            let read = parse::<C>(&json);
            (json, read)
        }
        Err(status) => {
            let message = format!("the host did not hand it over: {status}");
            (Box::default(), Err(ConfigError::new(C::NAME, message)))
        }
    };
    let is_strict = variable("MESHTRACE_STRICT").is_some_and(|value| value == b"1");
    let entry = Entry::new(
        plugin.digest(C::NAME),
        digest(&[&json]),
        digest(&[
            C::NAME.as_bytes(),
            VERSION.as_bytes(),
            &[u8::from(is_strict)],
        ]),
    );
    let given = GivenConfiguration {
        entry,
        is_named: !plugin.name.is_empty(),
        is_good: read.is_ok(),
    };
    match read {
        Ok(composition) => {
            if given.is_named {
                remember(&entry, &json);
            }
            let decision = enter(context, given);
            // A refused configuration is in no list.
            let refused = is_strict.then_some(false);
            gauges.record(Invalid {
                any: decision.invalid.any.or(refused),
                own: decision.invalid.own.or(refused),
            });
            if decision.is_new {
                announce(plugin, &composition);
                Warned::about(entry.plugin, entry.given).forget();
            }
            Load::Good(composition)
        }
        Err(error) => {
            let taken = key(TAKEN, entry.plugin, entry.given);
            let decision = enter(context, given);
            gauges.record(Invalid::both(true));
            let last_good = recall(entry.plugin, decision.runs);
            let (consequence, load) = if is_running && decision.runs != 0 {
                (LAST_GOOD, Load::Keep)
            } else if let Some(composition) = last_good {
                (LAST_GOOD, Load::LastGood(composition))
            } else if is_strict
                && !decision.may_update
                && call::shared_data(&taken).is_ok_and(|taken| taken.is_none())
            {
                in_force::leave(context);
                ("refused, as MESHTRACE_STRICT=1 asks", Load::Refuse)
            } else {
                (INERT, Load::Inert)
            };
            let is_refused = matches!(load, Load::Refuse);
            if is_strict && !is_refused {
                // Where it cannot be written, nothing could be remembered either.
                let _ = call::set_shared_data(&taken, b"1", Version::ANY);
            }
            if decision.is_new || is_refused {
                let of = plugin.in_words();
                call::log(LogLevel::Error, &format!("{error} ({of}{consequence})"));
            }
            load
        }
    }
}

const LAST_GOOD: &str = "the configuration in force stays: the last good one of this plugin runs";
const INERT: &str = "the filter is loaded inert and changes nothing";

/// Logs what the filter does with a configuration that comes in force, and what it cannot do.
#[inline(never)]
fn announce<C: Composition>(plugin: &Plugin, composition: &C) {
    let (name, of, does) = (C::NAME, plugin.in_words(), composition.summary());
    call::log(
        LogLevel::Info,
        &format!("{name} {VERSION}: {of}the configuration is in force: the filter {does}"),
    );
    for caution in composition.cautions() {
        call::log(LogLevel::Warn, &caution);
    }
}

/// Returns, once, the good configuration that came after the bad one of the root context `context`,
/// where it is of the same plugin. It is called in a request.
///
/// Envoy keeps a root context while a listener of it drains. Where the same configuration comes
/// back, Envoy uses that root context again without a callback. A second plugin of the same name in
/// another listener looks the same, until the good configuration has served a request.
#[inline(never)]
pub(crate) fn successor<C: Composition>(context: u32) -> Option<C> {
    let entry = in_force::successor(context, served::is_own)?;
    recall(entry.plugin, entry.given)
}

/// The root context `context` serves a request.
pub(crate) fn serves(context: u32) {
    if let Some(entry) = in_force::awaited(context) {
        served::here(&entry);
    }
}

/// The root context `context` of `plugin` ends.
#[inline(never)]
pub(crate) fn unload<C: Composition>(plugin: &Plugin, gauges: ConfigGauges, context: u32) {
    match in_force::leave(context) {
        None => {}
        Some(Ok(left)) => {
            if let Some(entry) = left.forgotten {
                // The shared data have no way to remove an entry.
                let _ =
                    call::set_shared_data(&key(GOOD, entry.plugin, entry.runs), b"", Version::ANY);
                Warned::about(entry.plugin, entry.runs).forget();
            }
            gauges.record(left.invalid);
            if left.returned.is_some_and(|entry| entry.is_invalid()) {
                let (name, of) = (C::NAME, plugin.in_words());
                call::log(
                    LogLevel::Error,
                    &format!(
                        "{name}: {of}a configuration that was refused before is back: see the line \
                         that said why"
                    ),
                );
            }
        }
        Some(Err(status)) => shared_data_fails(status),
    }
}

/// Stores the good configuration for all workers, and for the root contexts that replace this one.
fn remember(entry: &Entry, json: &[u8]) {
    let key = key(GOOD, entry.plugin, entry.given);
    // The first byte: an empty configuration is a good one too.
    let value = [b"=", json].concat();
    if let Err(status) = call::set_shared_data(&key, &value, Version::ANY) {
        shared_data_fails(status);
    }
}

fn recall<C: Composition>(plugin: u64, configuration: u64) -> Option<C> {
    let (value, _) = call::shared_data(&key(GOOD, plugin, configuration)).ok()??;
    parse(value.strip_prefix(b"=")?).ok()
}

/// The warnings about the configuration that the root context `context` runs.
pub(crate) fn warned(context: u32) -> Warned {
    let (plugin, runs) =
        in_force::entry(context).map_or((0, 0), |entry| (entry.plugin, entry.runs));
    Warned::about(plugin, runs)
}

pub(crate) fn key(fact: &[u8], plugin: u64, configuration: u64) -> Vec<u8> {
    [fact, &plugin.to_le_bytes(), &configuration.to_le_bytes()].concat()
}

/// Where the shared data fail, each VM decides for itself.
fn enter(context: u32, given: GivenConfiguration) -> LoadDecision {
    in_force::enter(context, given).unwrap_or_else(|status| {
        shared_data_fails(status);
        LoadDecision {
            runs: in_force::entry(context).map_or(0, |entry| entry.runs),
            is_new: true,
            may_update: false,
            invalid: Invalid::both(!given.is_good),
        }
    })
}

fn shared_data_fails(status: Status) {
    call::log(
        LogLevel::Warn,
        &format!("shared data fails, so a bad update loads inert: {status}"),
    );
}

/// Identifies a plugin. Plugins that share a VM differ by name and root id.
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

    /// The gauges of this plugin.
    pub(crate) fn gauges(&self) -> ConfigGauges {
        ConfigGauges::define(&self.name)
    }

    /// The beginning of a sentence about this plugin: empty where it has no name.
    fn in_words(&self) -> String {
        const LONGEST: usize = 100;

        let name = self.name.get(..LONGEST).unwrap_or(&self.name);
        match name {
            [] => String::new(),
            name => format!("plugin {:?}: ", String::from_utf8_lossy(name)),
        }
    }

    /// The digest includes the filter, because one `vm_id` may have modules of several filters.
    fn digest(&self, filter: &str) -> u64 {
        digest(&[filter.as_bytes(), &self.name, &self.root_id])
    }

    /// A name in the shared data that no other plugin has.
    pub(crate) fn key(&self, fact: &[u8], detail: &[u8]) -> Vec<u8> {
        [fact, &self.name, &self.root_id, detail].join(&0)
    }
}

/// Reads a configuration. It is one function for all callers.
#[inline(never)]
fn parse<C: Composition>(json: &[u8]) -> Result<C, ConfigError> {
    let proxy = Proxy {
        node: &node,
        environment: &variable,
    };
    C::from_json(json, &proxy)
}

/// FNV-1a with 64 bits, never 0.
#[inline(never)]
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff is no byte of UTF-8, so it is in none of the parts that it separates.
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash.max(1)
}

/// A variable of the VM's environment, which Envoy serves through WASI.
fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_encoded_bytes)
}

/// A text of the node, below `xds.node`.
fn node(path: &[&str]) -> Option<String> {
    let path = [&attribute::NODE, path].concat().join("\0");
    let text = call::property(path.as_bytes()).ok().flatten()?;
    String::from_utf8(text.into()).ok()
}
