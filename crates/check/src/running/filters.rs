//! The filters of a running Envoy, and whether each is in force.

use meshtrace_pipeline::{Stage, config_invalid_of};

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::plugin::{Config, Plugin, Spot};

use super::Observed;

/// The gauge that is 1 while a plugin runs without the configuration that it was given.
pub(super) const GAUGE: &str = "config_invalid";
/// The gauges of listeners, and of their parts, that were replaced and still have connections.
const DRAINING: [&str; 2] = [
    "listener_manager.total_listeners_draining",
    "listener_manager.total_filter_chains_draining",
];

/// A filter of a running Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterState {
    /// The filter.
    pub filter: Filter,
    /// The name of its plugin; empty where the plugin has no name.
    pub name: String,
    /// The filter's place: `listener`, `upstream` or `tracer`; empty where it is not known.
    pub place: &'static str,
    /// Whether it works.
    pub state: State,
    /// The number of places in which the filter is the same.
    pub times: usize,
}

/// Whether a filter works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The filter runs with its configuration.
    InForce,
    /// The module runs without any configuration and changes nothing.
    Inert,
    /// The filter's configuration is refused: it is inert, or runs with its last good
    /// configuration.
    Refused,
    /// The filter's module does not run.
    NotLoaded,
    /// The filter's counters are hidden.
    Unknown,
}

impl State {
    /// The state in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Inert => "inert",
            Self::Refused => "configuration refused",
            Self::NotLoaded => "not loaded",
            Self::Unknown => "unknown",
        }
    }
}

/// Finds the state of every filter, and what is wrong with it.
pub(super) fn check(
    model: &Model<'_>,
    observed: &Observed,
    findings: &mut Findings,
) -> Vec<FilterState> {
    let mut states: Vec<FilterState> = Vec::new();
    for (is_native, what, prefix) in [
        (false, "Wasm", "wasm"),
        (true, "the native tracer", "dynamicmodulescustom"),
    ] {
        let mut plugins = model
            .plugins
            .iter()
            .filter(|plugin| !has_other_names(plugin));
        if plugins.any(|plugin| plugin.is_native() == is_native && is_hidden(plugin, observed)) {
            let message = format!(
                "Envoy shows no counter of {what}, so that what runs cannot be told; let \
                 `stats_matcher` pass the prefix `{prefix}`, in Istio by the pod's annotation \
                 `sidecar.istio.io/statsInclusionPrefixes: {prefix}`"
            );
            observed.find(Code::CountersHidden, "", message, findings);
        }
    }
    let mut is_told = false;
    for (place, plugin) in model.plugins.iter().enumerate() {
        let is_refused = model.refused.contains(&place);
        let state = match has_other_names(plugin) || is_hidden(plugin, observed) {
            true => State::Unknown,
            false => state(plugin, is_refused, observed),
        };
        let own = FilterState {
            filter: plugin.filter,
            name: plugin.name.to_owned(),
            place: match plugin.spot {
                _ if plugin.is_native() => "tracer",
                Spot::Listener => "listener",
                Spot::Upstream => "upstream",
                Spot::Unknown => "",
            },
            state,
            times: 1,
        };
        let name = plugin.filter.name();
        match state {
            State::InForce | State::Unknown => {}
            State::NotLoaded => {
                let message = format!(
                    "{name} is configured, and no counter shows that it runs: its module is \
                     missing or could not be fetched, and `failure_policy` lets requests pass; see \
                     `code`, and what Envoy's log says of wasm"
                );
                findings.add(Code::NotLoaded, plugin.node, message);
            }
            State::Inert | State::Refused => {
                is_told = true;
                let now = match state {
                    State::Inert => "it is loaded inert and changes nothing",
                    _ => "it is inert, or its last good configuration runs",
                };
                let draining = DRAINING.map(|name| observed.after.envoy(name).unwrap_or(0));
                let advice = match is_refused {
                    true => "mend what the other findings say of it".to_owned(),
                    false if draining != [0, 0] => format!(
                        "nothing in it looks wrong from here; {} listeners or filter chains drain \
                         (`listener_manager.total_…_draining`): where one of them has the \
                         configuration from before a roll-back, this is in force, and the gauge is \
                         0 again when they are gone",
                        draining.iter().sum::<u64>()
                    ),
                    false => {
                        "nothing in it looks wrong from here: Envoy's log says what the filter \
                              refuses, and the module may be older than the configuration"
                            .to_owned()
                    }
                };
                let message = format!("{name} runs without this configuration: {now}; {advice}");
                findings.add(
                    Code::NotInForce,
                    plugin.written.unwrap_or(plugin.node),
                    message,
                );
            }
        }
        let alike = |other: &&mut FilterState| {
            FilterState {
                times: 1,
                ..(**other).clone()
            } == own
        };
        match states.iter_mut().find(alike) {
            Some(other) => other.times += 1,
            None => states.push(own),
        }
    }
    if observed.total(GAUGE) > 0 && !is_told {
        let named = observed.after.owned().filter(|(_, value)| *value > 0);
        let named =
            named.filter_map(|(name, _)| name.strip_prefix(GAUGE)?.strip_prefix(".plugin."));
        let named: Vec<_> = named.map(|name| format!("\"{name}\"")).collect();
        let which = match named.is_empty() {
            true => "a plugin".to_owned(),
            false => named.join(", "),
        };
        let message = format!(
            "{which} runs without the configuration that it was given, and the dump does not show \
             it: Envoy's log says what the filter refuses"
        );
        observed.find(Code::NotInForce, GAUGE, message, findings);
    }
    states
}

/// Whether the counters have another prefix than they are known by.
fn has_other_names(plugin: &Plugin<'_>) -> bool {
    let module = plugin.node.get("dynamic_module_config");
    module.is_some_and(|module| module.get("metrics_namespace").is_some())
}

/// Whether the Envoy shows no counter of what the plugin runs in. A VM that exists has counters. So
/// has a tracer, because Envoy refuses a listener whose tracer it cannot load.
fn is_hidden(plugin: &Plugin<'_>, observed: &Observed) -> bool {
    let mut names = observed.after.all().map(|(name, _)| name);
    match plugin.is_native() {
        true => !names.any(|name| name.starts_with("dynamicmodules")),
        false => {
            // With a cluster's name in front: Envoy 1.36 and 1.37.
            observed.after.owned().next().is_none()
                && !names.any(|name| name.starts_with("wasm") || name.starts_with("dynamicmodules"))
        }
    }
}

fn state(plugin: &Plugin<'_>, is_refused: bool, observed: &Observed) -> State {
    let stages = stages(plugin);
    let is_counting = stages.is_empty() || stages.iter().any(|stage| observed.after.has(*stage));
    if plugin.is_native() {
        // Envoy refuses a listener whose tracer refuses its configuration.
        return match is_counting {
            true => State::InForce,
            false => State::NotLoaded,
        };
    }
    if let Some(value) = observed.after.own(&gauge_of(plugin.name)) {
        return match value {
            0 if is_counting => State::InForce,
            0 => State::NotLoaded,
            _ if is_counting => State::Refused,
            _ => State::Inert,
        };
    }
    // A plugin without a name, or a module of an earlier version.
    match observed.after.own(GAUGE) {
        None => State::NotLoaded,
        Some(0) if is_counting => State::InForce,
        Some(0) => State::NotLoaded,
        Some(_) if !is_counting => State::Inert,
        Some(_) if is_refused => State::Refused,
        Some(_) => State::InForce,
    }
}

/// The gauge of the plugin of this name, without `meshtrace.`.
fn gauge_of(name: &str) -> String {
    let gauge = config_invalid_of(name.as_bytes());
    let gauge = gauge.strip_prefix("meshtrace.").unwrap_or(&gauge);
    gauge.to_owned()
}

/// The stages that have counters once the filter's configuration is in force.
fn stages(plugin: &Plugin<'_>) -> Vec<Stage> {
    let own = |stage: &str| match stage {
        "trace_context" => Some(Stage::Propagation),
        "sampling" => Some(Stage::Sampling),
        "span_attributes" => Some(Stage::Attributes),
        "access_log" => Some(Stage::AccessLog),
        "report" => Some(Stage::Report),
        _ => None,
    };
    match (plugin.filter.stage(), plugin.config) {
        (Some(stage), _) => own(stage).into_iter().collect(),
        (None, Config::Read(config)) => config.entries().filter_map(|(key, _)| own(key)).collect(),
        (None, _) => Vec::new(),
    }
}

/// Finds the updates that Envoy did not accept, from the dump.
pub(super) fn rejected(model: &Model<'_>, findings: &mut Findings) {
    for document in &model.envoy {
        look_for_errors(*document, findings);
    }
}

fn look_for_errors(node: Node<'_>, findings: &mut Findings) {
    for (key, value) in node.entries() {
        if key == "error_state" {
            if let Some(details) = value.text_at(&["details"]) {
                let resource = value.parent().and_then(|parent| parent.text_at(&["name"]));
                let message = format!(
                    "Envoy rejected an update of {} and runs what was there before: {}",
                    resource.unwrap_or("a resource"),
                    details.trim()
                );
                findings.add(Code::UpdateRejected, value, message);
            }
        } else if value.is_map() || value.is_list() {
            look_for_errors(value, findings);
        }
    }
    for item in node.items() {
        look_for_errors(item, findings);
    }
}

/// Finds problems of modules, from Envoy's own counters.
pub(super) fn modules(model: &Model<'_>, observed: &Observed, findings: &mut Findings) {
    let names: Vec<_> = model.plugins.iter().map(|plugin| plugin.name).collect();
    let failed: Vec<_> = observed
        .after
        .all()
        .filter(|(_, value)| *value > 0)
        .filter_map(|(name, _)| {
            name.strip_prefix("wasm.")?
                .strip_suffix(".vm_reload_failure")
        })
        .filter(|plugin| names.contains(plugin))
        .map(|plugin| format!("\"{plugin}\""))
        .collect();
    if !failed.is_empty() {
        let message = format!(
            "the Wasm VM of {} ended and could not be started again; Envoy's log has the reason \
             (memory, a capability that is taken away); report a trap of a filter of meshtrace",
            failed.join(", ")
        );
        observed.find(Code::ModuleFails, "", message, findings);
    }
    let value = |name: &str| observed.after.envoy(name).unwrap_or(0);
    let (failures, successes) = (
        value("wasm.remote_load_fetch_failures"),
        value("wasm.remote_load_fetch_successes"),
    );
    if failures > 0 && successes == 0 {
        let message = format!(
            "Envoy failed {failures} times to fetch a Wasm module and never succeeded; see that \
             the cluster of `http_uri` reaches the URL, and that `sha256` is the module's"
        );
        observed.find(Code::ModuleFails, "", message, findings);
    }
}
