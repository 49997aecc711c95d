//! The rules of the files for users: names, labels, order, namespaces and failure policies; and a
//! pod with all labels.

mod failure_policies;
mod guide;
mod together;

use std::collections::BTreeSet;

use meshtrace_render::priority;
use meshtrace_test_support::applied;
use meshtrace_test_support::promises;
use serde_json::Value;

use crate::head::{Head, manifests};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// The label of the native tracer. It replaces all other pieces, so no pod has another label
/// beside it.
const NATIVE: &str = "meshtrace-native";

/// The label of the tracer in front of an external authoriser, of which the same is true.
const EXT_AUTHZ: &str = "meshtrace-ext-authz";

/// The label of a need, by a part of the file's name; what comes first is meant.
const LABELS: [(&str, &str); 8] = [
    ("native/", NATIVE),
    ("ext-authz/", EXT_AUTHZ),
    ("-early", "meshtrace-early"),
    ("-upstream", "meshtrace-upstream"),
    ("-no-tracer", "meshtrace-downstream"),
    ("route-sampling", "meshtrace-sampling"),
    ("access-log/", "meshtrace-access-log"),
    // The gateway's own.
    ("-edge", "istio"),
];

/// The priority of a need, in the same way.
const PRIORITIES: [(&str, i32); 8] = [
    // Behind all others: they stand alone.
    ("native/", 70),
    ("ext-authz/", 70),
    ("-edge", priority::EDGE),
    ("-early", priority::CONTEXT),
    ("route-sampling", priority::SAMPLING),
    ("access-log/", priority::ACCESS_LOG),
    ("-upstream", priority::UPSTREAM),
    ("-no-tracer", priority::DOWNSTREAM),
];

fn of_name<T: Copy>(table: &[(&str, T)], path: &str) -> Option<T> {
    let entry = table.iter().find(|(part, _)| path.contains(part));
    entry.map(|(_, value)| *value)
}

/// Every resource of every file, and with a kustomization the patches in it.
fn resources() -> Vec<(String, Head, Value)> {
    let mut all = Vec::new();
    for (path, head) in manifests() {
        for resource in applied::resources(&path) {
            for patch in resource["patches"].as_array().into_iter().flatten() {
                let patch = patch["patch"].as_str().expect("a patch");
                let patch = serde_saphyr::from_str(patch).expect("YAML");
                all.push((path.clone(), head.clone(), patch));
            }
            all.push((path.clone(), head.clone(), resource));
        }
    }
    all
}

fn envoy_filters() -> Vec<(String, Head, Value)> {
    let mut filters = resources();
    filters.retain(|(_, _, resource)| resource["kind"] == "EnvoyFilter");
    assert!(filters.len() >= 11, "only {}", filters.len());
    filters
}

#[test]
fn no_file_has_a_namespace() {
    for (path, _, resource) in resources() {
        assert_eq!(resource["metadata"]["namespace"], Value::Null, "{path}");
    }
    promises::held(
        "Manifests and examples",
        "A file goes into the namespace that you name",
        "metadata.namespace of each resource of istio-manifests and its overlays",
        "0 resources with a namespace of their own",
    );
}

#[test]
fn a_files_name_says_the_tracer_that_its_head_has() {
    for (path, head) in manifests() {
        let name = path.rsplit('/').next().expect("a name");
        // A tracer itself, where the proxy's own is off.
        if name.starts_with("mesh-tracing") || name == "kustomization.yaml" {
            continue;
        }
        let has = |part: &str| name.contains(part);
        let said = match () {
            () if has("zipkin-b3") => "zipkin-b3",
            () if has("zipkin") => "zipkin",
            () if has("otel") || has("opentelemetry") => "otel",
            () if has("no-tracer") => "none",
            () => "any",
        };
        assert_eq!(said, head.tracer, "{path}");
    }
    promises::held(
        "Manifests and examples",
        "A file's name says the tracer that it stands beside",
        "the name of each file of istio-manifests against its head, which is tried beside that tracer",
        "0 files whose name says another tracer",
    );
}

#[test]
fn a_need_has_a_label_of_its_own() {
    for (path, _, resource) in resources() {
        for labels in [
            "/spec/workloadSelector/labels",
            "/spec/selector/matchLabels",
        ] {
            let Some(labels) = resource.pointer(labels).and_then(Value::as_object) else {
                continue;
            };
            let (key, value) = labels.iter().next().expect("a label");
            assert_eq!(labels.len(), 1, "{path}");
            if key == "istio" {
                assert_eq!(value, "ingressgateway", "{path}");
                continue;
            }
            assert_eq!(value, "enabled", "{path}");
            assert_eq!(of_name(&LABELS, &path), Some(key.as_str()), "{path}");
        }
    }
    for (path, _, filter) in envoy_filters() {
        let spec = &filter["spec"];
        let selects = spec["workloadSelector"]["labels"].is_object();
        assert!(
            selects != spec["targetRefs"].is_array(),
            "{path} is for every proxy"
        );
    }
    promises::held(
        "Manifests and examples",
        "A need has one label of its own, and an EnvoyFilter its priority",
        "the selectors and the priority of each resource of istio-manifests",
        "0 selectors with another key; the label as the key says, each `enabled`",
    );
}

#[test]
fn every_envoy_filter_has_its_priority_and_its_own_name() {
    let mut names = BTreeSet::new();
    for (path, _, filter) in envoy_filters() {
        let priority = filter["spec"]["priority"].as_i64();
        let expected = of_name(&PRIORITIES, &path).map(i64::from);
        assert_eq!(priority, expected, "{path}");
        assert!(priority.is_some(), "{path}");
        let name = filter["metadata"]["name"].as_str().expect("a name");
        assert!(names.insert(name.to_owned()), "{path}: two of {name}");
    }
    let order = [
        priority::EDGE,
        priority::CONTEXT,
        priority::SAMPLING,
        priority::ACCESS_LOG,
        priority::UPSTREAM,
        priority::DOWNSTREAM,
    ];
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
}
