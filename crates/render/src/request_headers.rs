//! The route configuration that writes request headers from the filter state of a filter.

use serde_json::{Value, json};

use crate::cel;

/// The part of a route configuration (Envoy 1.36 to 1.40) that removes the headers `removed`, and
/// writes those of `leaving` from the filter state `wasm.<header>`.
///
/// Envoy removes headers before it adds them, and writes no header where there is no such filter
/// state. It does both behind the last filter, so it does not choose the route again. The proxy's
/// own tracer writes its headers after that.
#[must_use]
pub fn route_configuration(leaving: &[String], removed: &[String]) -> Value {
    let add = |name: &String| {
        json!({
            "header": {"key": name, "value": cel::filter_state(name)},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    let mut names: Vec<_> = leaving.iter().chain(removed).collect();
    names.sort();
    json!({
        "request_headers_to_remove": names,
        "request_headers_to_add": leaving.iter().map(add).collect::<Vec<_>>(),
    })
}

/// Istio: an EnvoyFilter that puts [`route_configuration`] into the proxies with this label.
///
/// `context` is the `match.context` of the filter's own place, such as `SIDECAR_INBOUND` or
/// `GATEWAY`.
#[must_use]
pub fn route_configuration_patch(
    route_configuration: &Value,
    context: &str,
    name: &str,
    namespace: Option<&str>,
    label: (&str, &str),
) -> Value {
    let metadata = match namespace {
        None => json!({"name": name}),
        Some(namespace) => json!({"name": name, "namespace": namespace}),
    };
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata,
        "spec": {
            "workloadSelector": {"labels": {label.0: label.1}},
            "configPatches": [{
                "applyTo": "ROUTE_CONFIGURATION",
                "match": {"context": context},
                "patch": {"operation": "MERGE", "value": route_configuration},
            }],
        },
    })
}
