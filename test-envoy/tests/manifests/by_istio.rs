//! What `make test-mesh` had Istio render, as plain Envoys take it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use envoy_test_harness::EnvoyBinary;
use serde_json::{Value, json};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A connection manager as Istio renders it, and what its proxy is told beside it.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) proxy: String,
    pub(crate) manifest: String,
    pub(crate) place: String,
    /// Of the listener, as Envoy's configuration has it.
    pub(crate) direction: String,
    pub(crate) manager: Value,
    pub(crate) routes: Value,
    pub(crate) extensions: Value,
    pub(crate) kinds: Value,
}

/// All that `make test-mesh` had rendered.
pub(crate) fn rendered() -> Vec<Rendered> {
    let folder = std::env::var_os("RENDERED_BY_ISTIO").expect("set by `make test-mesh`");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "only {} files", paths.len());
    let read = |path: PathBuf| {
        let text = fs::read(&path).expect("a file");
        let mut value: Value = serde_json::from_slice(&text).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Rendered {
            proxy: text(&value["proxy"]),
            manifest: text(&value["manifest"]),
            place: text(&value["place"]),
            direction: text(&value["direction"]),
            manager: value["manager"].take(),
            routes: value["routes"].take(),
            extensions: value["extensions"].take(),
            kinds: value["kinds"].take(),
        }
    };
    paths.into_iter().map(read).collect()
}

/// The places in which each manifest put something of ours.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, BTreeSet<String>>);

impl Places {
    /// Notes where this was rendered; false where the manifest put nothing of ours.
    pub(crate) fn take(&mut self, rendered: &Rendered) -> bool {
        let places = self.0.entry(rendered.manifest.clone()).or_default();
        let has_ours = rendered.has_ours();
        if has_ours {
            places.insert(rendered.place.clone());
        }
        has_ours
    }

    /// Every manifest that was rendered, with its places in alphabetical order.
    pub(crate) fn of_manifests(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.0.iter().map(|(manifest, places)| {
            let places = places.iter().map(String::as_str).collect();
            (manifest.as_str(), places)
        })
    }
}

/// The Envoys that stand for the proxy of an Istio version. Of 1.30's none has Wasm within reach.
pub(crate) fn envoys(proxy: &str) -> Vec<EnvoyBinary> {
    let minors: &[u32] = match proxy.get(..4) {
        Some("1.28") => &[36],
        Some("1.29") => &[37],
        Some("1.31") => &[39, 40],
        _ => &[],
    };
    let all = EnvoyBinary::all_supported().expect("the supported Envoys");
    let is_wanted = |envoy: &EnvoyBinary| {
        let exactly = |minor: u32| envoy.is_at_least(1, minor) && !envoy.is_at_least(1, minor + 1);
        minors.iter().any(|minor| exactly(*minor))
    };
    all.into_iter().filter(is_wanted).collect()
}

impl Rendered {
    /// Whether the manifest put something of ours into this place: a plugin that is discovered, or
    /// what an EnvoyFilter brings.
    pub(crate) fn has_ours(&self) -> bool {
        let discovered = self
            .extensions
            .as_object()
            .is_some_and(|all| !all.is_empty());
        discovered || self.manager.to_string().contains("meshtrace")
    }

    /// Whether the manifest makes the filter the tracer.
    pub(crate) fn is_of_mesh_tracing(&self) -> bool {
        self.manifest.contains("/mesh-tracing")
    }

    /// Whether the manifest brings a filter, or something else that stands in connection managers.
    pub(crate) fn extends_proxies(&self) -> bool {
        let mut kinds = self.kinds.as_array().expect("kinds").iter();
        kinds.any(|kind| {
            ["WasmPlugin", "TrafficExtension", "EnvoyFilter"]
                .iter()
                .any(|one| kind == one)
        })
    }

    /// As Envoy takes it: what is discovered stands in place, routes too, and Istio's own filters
    /// are left out.
    pub(crate) fn manager(&self, envoy: &EnvoyBinary) -> Value {
        let mut manager = self.manager.clone();
        // A newer istiod than the proxy: over xDS an unknown field is passed over, and in a file it
        // is refused.
        if !envoy.is_at_least(1, 37)
            && let Some(tags) = manager.pointer_mut("/tracing/customTags")
        {
            let tags = tags.as_array_mut().expect("tags");
            tags.retain(|tag| tag.get("value").is_none());
        }
        let filters = manager["httpFilters"].as_array_mut().expect("filters");
        filters.retain(|filter| !is_istios(filter));
        inline(&mut manager, &self.extensions);
        if manager.get("rds").is_some() {
            let fields = manager.as_object_mut().expect("an object");
            fields.remove("rds");
            manager["routeConfig"] = self.routes[0].clone();
            strip_type(&mut manager["routeConfig"]);
        }
        manager["@type"] = json!(MANAGER);
        manager
    }
}

/// A filter of Istio's build of Envoy, known by its name or by the type inside of a `TypedStruct`.
fn is_istios(filter: &Value) -> bool {
    let name = filter["name"].as_str().expect("a name");
    let typed = filter["typedConfig"]["typeUrl"].as_str();
    name.starts_with("istio.") || typed.is_some_and(|typed| typed.contains("istio"))
}

fn strip_type(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("@type");
    }
}

/// Puts the extension in place of its discovery, among upstream filters too.
fn inline(value: &mut Value, extensions: &Value) {
    match value {
        Value::Object(fields) => {
            if fields.remove("configDiscovery").is_some() {
                let name = fields["name"].as_str().expect("a name");
                let found = &extensions[name]["typedConfig"];
                assert!(found.is_object(), "{name} is not in {extensions}");
                fields.insert("typedConfig".to_owned(), found.clone());
            }
            fields
                .values_mut()
                .for_each(|inner| inline(inner, extensions));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| inline(inner, extensions)),
        _ => {}
    }
}

/// The clusters that anything refers to.
pub(crate) fn clusters(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                if let ("cluster" | "clusterName" | "collectorCluster", Some(name)) =
                    (key.as_str(), inner.as_str())
                {
                    found.insert(name.to_owned());
                }
                clusters(inner, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| clusters(inner, found)),
        _ => {}
    }
}
