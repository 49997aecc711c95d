//! Patches of an EnvoyFilter.

use serde_json::{Value, json};

use super::super::part::Config;
use super::super::refusal::Refused;
use super::super::rendering::{Kind, Piece};
use super::{Mesh, Selection};

pub(super) const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const MANAGER_TYPE: &str = concat!(
    "type.googleapis.com/envoy.extensions.filters.network.",
    "http_connection_manager.v3.HttpConnectionManager"
);
const ROUTER: &str = "envoy.filters.http.router";
const ROUTER_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// What Istio's agent may deliver under a discovered name: the filter, or what stands in where the
/// module cannot be fetched.
const DISCOVERED: [&str; 2] = [
    "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
    "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
];

/// Merges fields into the connection manager.
pub(super) fn manager(context: &str, mut fields: Config) -> Value {
    fields.insert("@type".to_owned(), json!(MANAGER_TYPE));
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": {"context": context, "listener": chain(json!({"name": MANAGER}))},
        "patch": {"operation": "MERGE", "value": {"name": MANAGER, "typed_config": fields}},
    })
}

/// Puts filters behind the tracer: Istio leaves the router's list empty.
pub(super) fn router(context: &str, upstream: &[Value]) -> Value {
    let filter = json!({"name": MANAGER, "subFilter": {"name": ROUTER}});
    json!({
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": chain(filter)},
        "patch": {"operation": "MERGE", "value": {
            "name": ROUTER,
            "typed_config": {"@type": ROUTER_TYPE, "upstream_http_filters": upstream},
        }},
    })
}

/// Puts a filter in front of all others, and of those of earlier patches.
pub(super) fn first(context: &str, filter: &Value) -> Value {
    json!({
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": chain(json!({"name": MANAGER}))},
        "patch": {"operation": "INSERT_FIRST", "value": filter},
    })
}

/// Merges fields into route configurations or virtual hosts.
pub(super) fn routes(apply_to: &str, context: &str, fields: &Value) -> Value {
    json!({
        "applyTo": apply_to,
        "match": {"context": context},
        "patch": {"operation": "MERGE", "value": fields},
    })
}

/// An extension that Istio's agent is asked for.
pub(super) fn extension(context: &str, value: &Value) -> Value {
    json!({
        "applyTo": "EXTENSION_CONFIG",
        "match": {"context": context},
        "patch": {"operation": "ADD", "value": value},
    })
}

/// The filter whose configuration [`extension`] is.
pub(super) fn discovery(name: &str) -> Value {
    json!({"name": name, "config_discovery": {
        "config_source": {
            "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s",
        },
        "type_urls": DISCOVERED,
    }})
}

fn chain(filter: Value) -> Value {
    json!({"filterChain": {"filter": filter}})
}

impl Mesh<'_> {
    /// An EnvoyFilter. A waypoint takes none.
    pub(super) fn envoy_filter(
        &self,
        name: String,
        purpose: &str,
        priority: i32,
        selection: &Selection,
        patches: Vec<Value>,
    ) -> Result<Piece, Refused> {
        if let Selection::Waypoint(_) = selection {
            return Err(Refused::new(format!(
                "a waypoint takes no EnvoyFilter, and this needs one ({purpose}): leave it to the \
                 sidecars and gateways, or take mesh-tracing with `report`, which needs none"
            )));
        }
        let mut spec = Config::new();
        spec.insert("priority".to_owned(), json!(priority));
        if let Some(labels) = selection.of_envoy_filter() {
            spec.insert("workloadSelector".to_owned(), labels);
        }
        spec.insert("configPatches".to_owned(), json!(patches));
        let resource = json!({
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": self.metadata(&name),
            "spec": spec,
        });
        let purpose = format!("{purpose}, for {}.", selection.text(self.setup.role));
        Piece::new(Kind::Resource, name, purpose, &[resource])
    }
}
