//! Which workloads a resource is for.

use serde_json::{Value, json};

use super::super::input::Role;
use super::super::part::Config;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of the namespace.
    All,
    Label(String, String),
    /// The waypoint of the Gateway with this name.
    Waypoint(String),
}

impl Selection {
    pub(super) fn label(key: &str, value: &str) -> Self {
        Self::Label(key.to_owned(), value.to_owned())
    }

    /// Adds it to the `spec` of a plugin or a Telemetry.
    pub(super) fn add_to(&self, spec: &mut Config) {
        let (key, value) = match self {
            Self::All => return,
            Self::Label(key, value) => ("selector", json!({"matchLabels": {key: value}})),
            Self::Waypoint(name) => (
                "targetRefs",
                json!([{
                    "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name,
                }]),
            ),
        };
        spec.insert(key.to_owned(), value);
    }

    /// The `workloadSelector` of an EnvoyFilter.
    pub(super) fn of_envoy_filter(&self) -> Option<Value> {
        match self {
            Self::Label(key, value) => Some(json!({"labels": {key: value}})),
            Self::All | Self::Waypoint(_) => None,
        }
    }

    /// In words.
    pub(super) fn text(&self, role: Role) -> String {
        let proxies = match role {
            Role::Sidecar => "sidecars",
            Role::Gateway => "gateways",
            Role::Waypoint => "the waypoint",
        };
        match self {
            Self::All => format!("the {proxies} of its namespace"),
            Self::Label(key, value) => format!("{proxies} with the label {key}: {value}"),
            Self::Waypoint(name) => format!("{proxies} {name}"),
        }
    }
}
