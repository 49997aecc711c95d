//! Applies manifests to one connection manager, as Istio does.

use envoy_test_harness::config::{HttpConnectionManager, Listener};
use serde_json::{Value, json};

use crate::common;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The resources of a manifest. Modules have the paths of this machine.
pub fn resources(path: &str) -> Vec<Value> {
    let dist = common::root().join("dist");
    let dist = format!("{}/", dist.to_str().expect("a path in UTF-8"));
    let text = common::text(path).replace("/etc/meshtrace/", &dist);
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The EnvoyFilter of a manifest without other resources.
pub fn envoy_filter(path: &str) -> Value {
    let mut resources = resources(path);
    assert_eq!(resources.len(), 1, "{path}");
    resources.remove(0)
}

/// Applies EnvoyFilters as Istio does: by priority. Those of one priority are applied in the order
/// of the list.
pub fn apply_by_priority(manifests: &[Value], manager: &mut Value) {
    let mut sorted: Vec<_> = manifests.iter().collect();
    sorted.sort_by_key(|manifest| manifest["spec"]["priority"].as_i64().unwrap_or(0));
    for manifest in sorted {
        apply(manifest, manager);
    }
}

/// Applies one EnvoyFilter to a connection manager with its own routes.
pub fn apply(manifest: &Value, manager: &mut Value) {
    let patches = manifest["spec"]["configPatches"].as_array();
    for patch in patches.expect("patches") {
        let operation = &patch["patch"]["operation"];
        let value = patch["patch"]["value"].clone();
        match (patch["applyTo"].as_str(), operation.as_str()) {
            (Some("NETWORK_FILTER"), Some("MERGE")) => {
                assert_eq!(matched_filter(patch)["name"], value["name"]);
                let config = &value["typed_config"];
                // Istio merges fields down to a message of any type, which it replaces.
                if config.pointer("/tracing/provider/typed_config").is_some() {
                    manager["tracing"]["provider"] = Value::Null;
                }
                merge(manager, config);
            }
            (Some("HTTP_FILTER"), Some("MERGE")) => {
                let name = &matched_filter(patch)["subFilter"]["name"];
                let mut filters = list(&mut manager["http_filters"]).iter_mut();
                match filters.find(|filter| filter["name"] == *name) {
                    Some(filter) => merge(filter, &value),
                    // An AuthorizationPolicy makes it, which is the user's own.
                    None => assert_eq!(name, "envoy.filters.http.ext_authz"),
                }
            }
            (Some("HTTP_FILTER"), Some("INSERT_FIRST")) => {
                assert_eq!(matched_filter(patch)["subFilter"], Value::Null);
                list(&mut manager["http_filters"]).insert(0, value);
            }
            (Some("VIRTUAL_HOST"), Some("MERGE")) => {
                for host in list(&mut manager["route_config"]["virtual_hosts"]) {
                    merge(host, &value);
                }
            }
            (Some("EXTENSION_CONFIG"), Some("ADD")) => discover(manager, &value),
            other => panic!("{other:?} is not known here"),
        }
    }
}

fn matched_filter(patch: &Value) -> &Value {
    let filter = &patch["match"]["listener"]["filterChain"]["filter"];
    assert_eq!(filter["name"], MANAGER);
    filter
}

/// Puts an extension in the place of its discovery, as Istio's agent passes it to Envoy: with the
/// module in a file.
fn discover(value: &mut Value, extension: &Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("config_discovery") && fields["name"] == extension["name"] {
                fields.remove("config_discovery");
                let mut typed = extension["typed_config"].clone();
                if let Some(code) = typed.pointer_mut("/config/vm_config/code") {
                    *code = local(code["remote"]["http_uri"]["uri"].as_str());
                }
                fields.insert("typed_config".to_owned(), typed);
                return;
            }
            fields
                .values_mut()
                .for_each(|inner| discover(inner, extension));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| discover(inner, extension)),
        _ => {}
    }
}

/// The local file of the module that the URL of an image names.
fn local(url: Option<&str>) -> Value {
    let name = url.and_then(|url| url.rsplit('/').next()?.split(':').next());
    json!({"local": {"filename": common::module(name.expect("the name of an image"))}})
}

/// The HTTP filter that Istio makes from a WasmPlugin or a TrafficExtension.
pub fn plugin(resource: &Value) -> Value {
    let spec = match resource["kind"].as_str() {
        Some("TrafficExtension") => &resource["spec"]["wasm"],
        _ => &resource["spec"],
    };
    assert_eq!(spec["failStrategy"], "FAIL_OPEN", "{resource}");
    let name = resource["metadata"]["name"].as_str().expect("a name");
    let root = spec["pluginName"].as_str();
    wasm(
        name,
        root,
        spec["url"].as_str(),
        &spec["pluginConfig"],
        "FAIL_OPEN",
    )
}

/// A Wasm filter with its configuration as JSON. Where that is empty, the filter has no
/// configuration.
pub fn wasm(
    name: &str,
    root: Option<&str>,
    url: Option<&str>,
    config: &Value,
    failure_policy: &str,
) -> Value {
    let mut plugin = json!({
        "name": name,
        "root_id": root,
        "failure_policy": failure_policy,
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": local(url)},
    });
    if config.as_object().is_some_and(|fields| !fields.is_empty()) {
        plugin["configuration"] = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": config.to_string(),
        });
    }
    json!({
        "name": name,
        "typed_config": {"@type": format!("{TYPES}.filters.http.wasm.v3.Wasm"), "config": plugin},
    })
}

/// Merges the fields of messages, appends lists, and replaces everything else.
pub fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(patch)) => target.extend(patch.iter().cloned()),
        (target, patch) => *target = patch.clone(),
    }
}

/// The value as a list.
pub fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}

/// A connection manager of Istio's proxies, for the tracer that the head of a file names. All
/// inbound requests go to the cluster `upstream`, and spans go to the clusters `otlp` and `zipkin`.
pub fn manager(tracer: &str) -> Value {
    let mut manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
        }],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
        }]},
    });
    if let Some(provider) = provider(tracer) {
        manager["tracing"] = json!({
            "provider": provider,
            "client_sampling": {"value": 100},
            "random_sampling": {"value": 100},
            "overall_sampling": {"value": 100},
        });
    }
    manager
}

/// The tracing provider, as istiod configures it.
fn provider(tracer: &str) -> Option<Value> {
    let zipkin = |option: &str| {
        json!({
            "name": "envoy.tracers.zipkin",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                "collector_cluster": "zipkin",
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": true,
                "shared_span_context": false,
                "trace_context_option": option,
            },
        })
    };
    match tracer {
        "none" => None,
        "zipkin" => Some(zipkin("USE_B3_WITH_W3C_PROPAGATION")),
        "zipkin-b3" => Some(zipkin("USE_B3")),
        "datadog" => Some(json!({
            "name": "envoy.tracers.datadog",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.DatadogConfig",
                "collector_cluster": "zipkin",
                "service_name": "proxy",
            },
        })),
        "skywalking" => Some(json!({
            "name": "envoy.tracers.skywalking",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.SkyWalkingConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}},
            },
        })),
        "xray" => Some(json!({
            "name": "envoy.tracers.xray",
            "typed_config": {"@type": "type.googleapis.com/envoy.config.trace.v3.XRayConfig", "segment_name": "proxy"},
        })),
        // A file that is for any tracer is applied beside this one too.
        _ => Some(json!({
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "proxy",
                "grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "5s"},
            },
        })),
    }
}

/// A listener with this connection manager.
pub fn listener(name: &str, manager: &Value) -> Listener {
    Listener::http(name, HttpConnectionManager::new()).merge(json!({
        "filter_chains": [{"filters": [{"name": MANAGER, "typed_config": manager}]}],
    }))
}

/// The connection manager of a proxy with this tracer, after all these files are applied to it.
pub fn patched(tracer: &str, files: &[&str]) -> Value {
    let mut manager = manager(tracer);
    let mut filters = Vec::new();
    for resource in files.iter().flat_map(|path| resources(path)) {
        match resource["kind"].as_str() {
            Some("EnvoyFilter") => filters.push(resource),
            // Istio's own filters, and plugins among them, exist before the first patch is applied.
            _ => list(&mut manager["http_filters"]).insert(0, plugin(&resource)),
        }
    }
    apply_by_priority(&filters, &mut manager);
    manager
}

/// A tag of Envoy, as istiod makes it from a tag of a Telemetry.
pub fn tag(key: &str, tag: &Value) -> Value {
    match (&tag["formatter"]["value"], &tag["header"]["name"]) {
        (Value::String(value), Value::Null) => json!({"tag": key, "value": value}),
        (Value::Null, Value::String(name)) => {
            json!({"tag": key, "request_header": {"name": name}})
        }
        _ => panic!("{key}: neither a formatter nor a header: {tag}"),
    }
}
