//! Envoy configuration as Rust values. They have what tests of a filter need. Every value has
//! `merge` for the other settings.
//!
//! Every `merge` takes a piece of Envoy's own JSON: objects are merged key by key, `null` removes a
//! key, and anything else replaces what was there. Nothing here depends on Envoy's version; a field
//! that a version does not know is refused by that Envoy.
//!
//! ```
//! use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter};
//!
//! let upstream = ([127, 0, 0, 1], 8080).into();
//! let bootstrap = Bootstrap::new()
//!     .listener(Listener::http(
//!         "ingress",
//!         HttpConnectionManager::new()
//!             .route(Route::prefix("/").cluster("upstream"))
//!             .filter(WasmFilter::new("my-filter", "my_filter.wasm").configuration(r#"{"key": "value"}"#)),
//!     ))
//!     .cluster(Cluster::http1("upstream", upstream));
//! ```

mod cluster;
mod filter;
mod listener;
mod route;
mod tracing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::cluster::Cluster;
pub use self::filter::{FailurePolicy, HttpFilter, WasmFilter};
pub use self::listener::{HttpConnectionManager, Listener, TrafficDirection};
pub use self::route::{Route, RouteMatch};
pub use self::tracing::{TraceContextOption, Tracing};

/// The bootstrap configuration of one Envoy. The admin interface and the listeners take free ports
/// of 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    node_id: String,
    service_cluster: String,
    listeners: Vec<Listener>,
    watched_listeners: Option<Vec<Listener>>,
    clusters: Vec<Cluster>,
    runtime: Value,
    extra: Value,
}

impl Bootstrap {
    /// A bootstrap with the admin interface alone. Tracers send each span at once, and not only
    /// every 5 s.
    pub fn new() -> Self {
        Self {
            node_id: "test".to_owned(),
            service_cluster: "test".to_owned(),
            listeners: Vec::new(),
            watched_listeners: None,
            clusters: Vec::new(),
            runtime: json!({
                "tracing.opentelemetry.min_flush_spans": 1,
                "tracing.opentelemetry.flush_interval_ms": 100,
                "tracing.zipkin.min_flush_spans": 1,
                "tracing.zipkin.flush_interval_ms": 100,
            }),
            extra: json!({}),
        }
    }

    /// Sets the id and the cluster of the node, which are both `test` by default. The Zipkin tracer
    /// reports the cluster as its service.
    pub fn node(mut self, id: &str, cluster: &str) -> Self {
        self.node_id = id.to_owned();
        self.service_cluster = cluster.to_owned();
        self
    }

    /// Adds a listener that cannot change while Envoy runs.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds a listener that [`Envoy::update_listener`](crate::Envoy::update_listener) can replace
    /// (file-based LDS).
    pub fn watched_listener(mut self, listener: Listener) -> Self {
        self.watched_listeners
            .get_or_insert_default()
            .push(listener);
        self
    }

    /// Adds a static cluster.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Sets a runtime key, such as `tracing.opentelemetry.min_flush_spans`.
    pub fn runtime(mut self, key: &str, value: impl Into<Value>) -> Self {
        merge(&mut self.runtime, json!({ key: value.into() }));
        self
    }

    /// Merges into the finished bootstrap.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    pub(crate) fn watched_listeners(&self) -> Option<&[Listener]> {
        self.watched_listeners.as_deref()
    }

    /// The filters that are delivered by ECDS, in any place.
    pub(crate) fn discovered_filters(&self) -> Vec<HttpFilter> {
        self.listeners
            .iter()
            .chain(self.watched_listeners.iter().flatten())
            .flat_map(Listener::filters)
            .chain(self.clusters.iter().flat_map(Cluster::filters))
            .filter(|filter| filter.is_discovered())
            .cloned()
            .collect()
    }

    pub(crate) fn render(&self, layout: &Layout) -> Value {
        let mut bootstrap = json!({
            "node": {"id": self.node_id, "cluster": self.service_cluster},
            "admin": {"address": loopback(0)},
            "layered_runtime": {"layers": [{"name": "test", "static_layer": self.runtime}]},
            "static_resources": {
                "listeners": self.listeners.iter().map(|listener| listener.render(layout)).collect::<Vec<_>>(),
                "clusters": self.clusters.iter().map(|cluster| cluster.render(layout)).collect::<Vec<_>>(),
            },
        });
        if self.watched_listeners.is_some() {
            bootstrap["dynamic_resources"] =
                json!({"lds_config": watched_file(&layout.listeners())});
        }
        merge(&mut bootstrap, self.extra.clone());
        bootstrap
    }
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self::new()
    }
}

/// The paths of the files of one Envoy.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn bootstrap(&self) -> PathBuf {
        self.root.join("bootstrap.json")
    }

    pub(crate) fn admin_address(&self) -> PathBuf {
        self.root.join("admin-address.txt")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("envoy.log")
    }

    pub(crate) fn access_log(&self, listener: &str) -> PathBuf {
        self.root
            .join(format!("access-{}.log", file_name(listener)))
    }

    pub(crate) fn listeners(&self) -> PathBuf {
        self.root.join("lds").join("listeners.json")
    }

    pub(crate) fn extension(&self, name: &str) -> PathBuf {
        self.root
            .join(format!("ecds-{}", file_name(name)))
            .join("extension.json")
    }

    /// Files are written to this folder, and then moved to the folder that Envoy watches.
    pub(crate) fn staging(&self) -> &Path {
        &self.root
    }
}

/// A file name for `name`: names are any text for Envoy, but must not lead out of the directory.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// A configuration source that is read again when a file is moved into the folder of `path`.
fn watched_file(path: &Path) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {"path": path, "watched_directory": {"path": path.parent()}},
    })
}

fn loopback(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// Sets free ports for the admin interface, which is added where it is missing, and for the static
/// listeners.
pub(crate) fn free_ports(bootstrap: &mut Value) {
    const PORT: &str = "/socket_address/port_value";

    if bootstrap.get("admin").is_none() {
        merge(bootstrap, json!({"admin": {"address": loopback(0)}}));
    }
    let admin = bootstrap.pointer_mut(&format!("/admin/address{PORT}"));
    if let Some(port) = admin {
        *port = json!(0);
    }
    let listeners = bootstrap.pointer_mut("/static_resources/listeners");
    for listener in listeners
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = listener.pointer_mut(&format!("/address{PORT}")) {
            *port = json!(0);
        }
    }
}

/// A duration in the form of protobuf's JSON.
fn duration(value: Duration) -> String {
    format!("{}.{:09}s", value.as_secs(), value.subsec_nanos())
}

/// A percentage for fields of type `Percent`.
fn percent(value: f64) -> Value {
    json!({ "value": value })
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_goes_into_objects_and_replaces_the_rest() {
        let mut value = json!({"a": {"b": 1, "c": [1]}, "d": 2});
        merge(
            &mut value,
            json!({"a": {"c": [2], "e": {"f": 3}}, "d": null}),
        );
        assert_eq!(value, json!({"a": {"b": 1, "c": [2], "e": {"f": 3}}}));
    }

    #[test]
    fn free_ports_are_for_what_listens_only() {
        let mut bootstrap = json!({"static_resources": {
            "listeners": [{"address": loopback(10000)}, {"internal_listener": {}}],
            "clusters": [{"address": loopback(4317)}],
        }});
        free_ports(&mut bootstrap);
        let expected = json!({"admin": {"address": loopback(0)}, "static_resources": {
            "listeners": [{"address": loopback(0)}, {"internal_listener": {}}],
            "clusters": [{"address": loopback(4317)}],
        }});
        assert_eq!(bootstrap, expected);

        let mut admin = json!({"admin": {"address": loopback(9901)}});
        free_ports(&mut admin);
        assert_eq!(admin, json!({"admin": {"address": loopback(0)}}));
    }

    #[test]
    fn a_name_stays_inside_the_directory() {
        let layout = Layout::new(Path::new("/tmp/x"));
        assert_eq!(
            layout.access_log("../../etc/a b"),
            Path::new("/tmp/x/access-.._.._etc_a_b.log")
        );
    }
}
