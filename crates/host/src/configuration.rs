//! Loading a plugin configuration: what happens to a bad one.
//!
//! Envoy keeps the configuration in force when an update is refused. At first load there is none to
//! keep: a refusal would answer 500 over ECDS, take the listener away over LDS, and end Envoy in a
//! static configuration, whatever the failure policy. So a bad first configuration loads inert.

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
    let json = match call::plugin_configuration() {
        Ok(json) => json,
        Err(status) => {
            let error =
                ConfigError::new(C::NAME, format!("the host did not hand it over: {status}"));
            return refuse(&error);
        }
    };
    match C::from_json(&json) {
        Ok(composition) => {
            remember_good();
            metrics::record_config_invalid(false);
            Load::Run(composition)
        }
        Err(error) => refuse(&error),
    }
}

fn refuse<C>(error: &ConfigError) -> Load<C> {
    metrics::record_config_invalid(true);
    let (consequence, load) = if is_good_in_force() {
        ("the configuration in force stays", Load::Refuse)
    } else if is_strict() {
        ("refused, as MESHTRACE_STRICT=1 asks", Load::Refuse)
    } else {
        (
            "the filter is loaded inert and changes nothing",
            Load::Inert,
        )
    };
    call::log(LogLevel::Error, &format!("{error} ({consequence})"));
    load
}

fn is_strict() -> bool {
    std::env::var_os("MESHTRACE_STRICT").is_some_and(|value| value == "1")
}

/// Remembered for all workers, and for the root contexts that replace this one.
fn remember_good() {
    if let Err(status) = call::set_shared_data(&good_key(), b"1") {
        call::log(
            LogLevel::Warn,
            &format!(
                "a later bad configuration will load inert instead of being refused: {status}"
            ),
        );
    }
}

fn is_good_in_force() -> bool {
    call::has_shared_data(&good_key()).unwrap_or_else(|status| {
        call::log(
            LogLevel::Warn,
            &format!("taken for the first configuration, shared data cannot be read: {status}"),
        );
        false
    })
}

/// Plugins that share a VM are told apart by name and root id.
fn good_key() -> Vec<u8> {
    let part = |path| call::property(path).ok().flatten().unwrap_or_default();
    [
        &b"meshtrace.good_configuration"[..],
        &part(b"plugin_name"),
        &part(b"plugin_root_id"),
    ]
    .join(&0)
}
