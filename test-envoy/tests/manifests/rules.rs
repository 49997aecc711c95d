//! The rules of the files for users: names, labels, order, namespaces and failure policies; and a pod with all labels.

use meshtrace_test_support::applied;
use meshtrace_test_support::common;
use meshtrace_test_support::promises;
use std::collections::{BTreeMap, BTreeSet};

use crate::head::{Head, Product, files, manifests};
use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_render::{EnvoyVersion, envoy_tags, priority};
use meshtrace_test_support::applied::{apply_by_priority, listener, manager, merge};
use meshtrace_test_support::common::{Mesh, text};
use meshtrace_test_support::tracers::{CASE, Caller, Reader, Sinks, Tracer};
use serde_json::{Value, json};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// The label of a need, by a part of the file's name; what comes first is meant.
const LABELS: [(&str, &str); 6] = [
    ("-early", "meshtrace-early"),
    ("-upstream", "meshtrace-upstream"),
    ("-no-tracer", "meshtrace-downstream"),
    ("route-sampling", "meshtrace-sampling"),
    ("access-log/", "meshtrace-access-log"),
    // The gateway's own.
    ("-edge", "istio"),
];

/// The priority of a need, in the same way.
const PRIORITIES: [(&str, i32); 6] = [
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
        let labels = &filter["spec"]["workloadSelector"]["labels"];
        assert!(labels.is_object(), "{path} is for every proxy");
    }
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

/// The failure policies of the Wasm filters in a configuration of Envoy.
fn policies(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            if value["@type"] == WASM {
                found.push(value["config"]["failure_policy"].clone());
            }
            fields.values().for_each(|inner| policies(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| policies(inner, found)),
        _ => {}
    }
}

fn policies_of(value: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    policies(value, &mut found);
    found
}

/// The YAML blocks of a page.
fn blocks(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1);
    let inside = blocks.filter_map(|block| block.split("```").next());
    inside
        .filter_map(|text| serde_saphyr::from_str(text).ok())
        .collect()
}

#[test]
fn nothing_that_is_shipped_fails_a_request_when_its_module_is_missing() {
    let mut seen = 0;
    for (path, _, resource) in resources() {
        let spec = &resource["spec"];
        for plugin in [spec, &spec["wasm"]] {
            if plugin["url"].is_string() {
                assert_eq!(plugin["failStrategy"], "FAIL_OPEN", "{path}");
                seen += 1;
            }
        }
        for filter in spec["wasm"].as_array().into_iter().flatten() {
            assert_eq!(filter["failOpen"], true, "{path}");
            seen += 1;
        }
        for policy in policies_of(&resource) {
            assert_eq!(policy, "FAIL_OPEN", "{path}");
            seen += 1;
        }
    }
    assert!(seen >= 26, "only {seen}");

    let mut standalone = 0;
    let mut is_reloaded = |at: &str, value: &Value| {
        for policy in policies_of(value) {
            assert_eq!(policy, "FAIL_RELOAD", "{at}");
            standalone += 1;
        }
    };
    for path in files("examples") {
        is_reloaded(&path, &common::yaml(&path));
    }
    for page in [
        "README.md",
        "docs/mesh_tracing.md",
        "docs/trace_context.md",
        "docs/route_sampling.md",
    ] {
        for block in blocks(&text(page)) {
            is_reloaded(page, &block);
        }
    }
    for version in EnvoyVersion::ALL {
        let config = br#"{"emit": {"request_header_prefix": "x-a-"}}"#;
        let rendered = envoy_tags(config, *version, "a.wasm").expect("what is rendered");
        is_reloaded("meshtrace render", &json!(rendered.http_filters));
    }
    assert!(standalone >= 14, "only {standalone}");
    promises::held(
        "Manifests and examples",
        "A module that is missing fails no request",
        "the failure policy of every Wasm filter in istio-manifests, the examples, the pages and what `meshtrace render` writes",
        "FAIL_OPEN in Istio, failOpen in Envoy Gateway, FAIL_RELOAD in a standalone Envoy; no other",
    );
}

/// The EnvoyFilters that a pod with these labels takes, in a proxy with this Envoy and tracer.
fn taken(
    labels: &BTreeMap<&str, &str>,
    envoy: &EnvoyBinary,
    tracer: &str,
    image: bool,
) -> Vec<(String, Value)> {
    let mut taken = Vec::new();
    for (path, head, filter) in envoy_filters() {
        let wanted = filter["spec"]["workloadSelector"]["labels"].as_object();
        let wanted = wanted.expect("labels");
        let selects =
            |(key, value): (&String, &Value)| labels.get(key.as_str()).copied() == value.as_str();
        let mut named = head.envoys().into_iter();
        // What a mesh applies: the files of its tracer and its version, and of two that do the same, one.
        let beside = [tracer, "any", "none"].contains(&head.tracer.as_str());
        let other = path.contains("-upstream") && image != path.contains("-image");
        if wanted.iter().all(selects)
            && beside
            && !other
            && named.any(|one| one.reported_version() == envoy.reported_version())
        {
            taken.push((path, filter));
        }
    }
    taken
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn a_pod_with_every_label_takes_every_piece_and_they_work_together() {
    let labels: BTreeMap<_, _> = LABELS
        .iter()
        .filter(|(_, key)| *key != "istio")
        .map(|(_, key)| (*key, "enabled"))
        .collect();
    assert_eq!(labels.len(), 5);
    let mut ran = 0;
    each_supported(|envoy| {
        for (tracer, measured, image) in [
            ("otel", Tracer::OpenTelemetry, false),
            ("otel", Tracer::OpenTelemetry, true),
            ("zipkin-b3", Tracer::ZipkinB3, false),
        ] {
            if image && !envoy.is_at_least(1, 39) {
                continue;
            }
            let at = format!("{tracer} on {}", envoy.reported_version());
            let taken = taken(&labels, envoy, tracer, image);
            let keys: BTreeSet<_> = taken
                .iter()
                .filter_map(|(path, _)| of_name(&LABELS, path))
                .collect();
            // Sampling and the access log have no file for Zipkin.
            let expected = if tracer == "otel" { 5 } else { 3 };
            assert_eq!((taken.len(), keys.len()), (expected, expected), "{at}");

            let mut together = manager(tracer);
            merge(
                &mut together["tracing"],
                &json!({
                    "spawn_upstream_span": true,
                    "custom_tags": [{"tag": "case", "request_header": {"name": CASE}}],
                }),
            );
            // The Telemetry that goes with the rules.
            together["tracing"]["random_sampling"] =
                json!({"value": if tracer == "otel" { 0 } else { 100 }});
            let filters: Vec<_> = taken
                .iter()
                .rev()
                .map(|(_, filter)| filter.clone())
                .collect();
            apply_by_priority(&filters, &mut together);
            let early = names(&together["early_header_mutation_extensions"]);
            let http = names(&together["http_filters"]);
            if tracer == "otel" {
                assert_eq!(
                    early,
                    ["meshtrace-trace-context", "meshtrace-route-sampling"],
                    "{at}"
                );
                let first = [
                    "meshtrace.trace_context_downstream",
                    "meshtrace.expose_ids",
                    "meshtrace.access_log_trace",
                ];
                assert_eq!(http[..3], first, "{at}");
            } else {
                assert_eq!(early, ["meshtrace-trace-context"], "{at}");
                assert_eq!(http[0], "meshtrace.trace_context_downstream", "{at}");
            }
            let sinks = Sinks::start();
            let bootstrap = sinks
                .connect(Bootstrap::new())
                .listener(listener("ingress", &together));
            let mesh = Mesh::with(envoy, bootstrap);
            for headers in [
                &["traceparent: 00-$T-$S-01"][..],
                &["b3: $T-$S-1"],
                &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
            ] {
                let caller = Caller::fresh();
                let case = format!("{at} {headers:?}");
                let request = caller.request(&case, headers);
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let spans = sinks.spans(measured, &caller.trace_id, &case, 2);
                let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
                assert!(
                    spans
                        .iter()
                        .any(|span| span.parent_span_id.as_ref() == Some(&caller.span_id)),
                    "{case}: {spans:?}"
                );
                for reader in [Reader::W3c, Reader::B3Multi] {
                    let told = reader
                        .read(&seen)
                        .unwrap_or_else(|| panic!("{case}: {seen:?}"));
                    assert_eq!(told.trace_id, caller.trace_id, "{case}");
                    assert!(ids.contains(&told.span_id), "{case}: {told:?}");
                    assert_eq!(told.sampled, Some(true), "{case}");
                }
                for (name, _) in &seen.headers {
                    let name = String::from_utf8_lossy(name).to_lowercase();
                    let own = [
                        "x-meshtrace-",
                        "x-client-trace-id",
                        "x-active-",
                        "x-envoy-force-trace",
                    ];
                    assert!(
                        !own.iter().any(|own| name.starts_with(own)),
                        "{case}: {name}"
                    );
                }
            }
            let stats = mesh.envoy.stats().expect("the stats");
            let refused = stats
                .iter()
                .find(|(name, value)| name.contains("config_invalid") && **value > 0);
            assert_eq!(refused, None, "{at}");
            ran += 1;
        }
    });
    assert_eq!(ran, 10);
    promises::held(
        "Manifests and examples",
        "A pod can have every label",
        "all EnvoyFilters of a tracer in one proxy, by their priorities, W3C and both shapes of B3 arriving",
        "10 of 10 proxies start (4 versions), one trace in 30 of 30 requests, and none of the pieces' own headers leaves",
    );
}

/// At a gateway the edge is first: what a client sends is gone, and the rules decide about a trace of the gateway's.
#[test]
fn at_a_gateway_with_labels_no_client_decides() {
    const FILES: [&str; 4] = [
        "istio-manifests/envoyfilter/trace-context-otel-upstream.yaml",
        "istio-manifests/envoyfilter/route-sampling-otel.yaml",
        "istio-manifests/envoyfilter/trace-context-otel-early.yaml",
        "istio-manifests/envoyfilter/trace-context-edge.yaml",
    ];
    const PLUGIN: &str = "istio-manifests/wasmplugin/route-sampling-otel.yaml";
    let mut gateway = applied::patched("otel", &[&FILES[..], &[PLUGIN]].concat());
    gateway["tracing"]["random_sampling"] = json!({"value": 0});
    let early = &gateway["early_header_mutation_extensions"];
    let removed = &early[0]["typed_config"]["mutations"][0];
    assert_eq!(*removed, json!({"remove": "traceparent"}));
    assert_eq!(early.as_array().map(Vec::len), Some(3));
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let bootstrap = sinks.connect(Bootstrap::new());
        let mesh = Mesh::with(envoy, bootstrap.listener(listener("ingress", &gateway)));
        for (path, kept) in [("/payments/1", true), ("/health", false)] {
            for line in [
                "traceparent: 00-$T-$S-01",
                "traceparent: 00-$T-$S-00",
                "b3: $T-$S-1",
                "b3: 1",
                "b3: 0",
                "x-b3-sampled: 1",
                "x-client-trace-id: 1",
            ] {
                let caller = Caller::fresh();
                let (name, value) = line.split_once(": ").expect("a header line");
                let request = Request::get(path).header(name, caller.fill(value));
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let at = format!("{path} {line} on {}", envoy.reported_version());
                for reader in [Reader::W3c, Reader::B3Multi] {
                    let told = reader
                        .read(&seen)
                        .unwrap_or_else(|| panic!("{at}: {seen:?}"));
                    assert_ne!(told.trace_id, caller.trace_id, "{at}");
                    assert_eq!(told.sampled, Some(kept), "{at}");
                }
            }
        }
    });
}

/// What a row of "Which tracer" says to type: each file is there, and what is to be removed is what was applied.
#[test]
fn the_commands_of_the_guide_apply_and_remove_the_same_resources() {
    let page = text("istio-manifests/README.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with('|') && line.contains("kubectl apply"));
    let mut seen = 0;
    for row in rows {
        let commands: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        let command = |of: &str| commands.iter().find(|one| one.starts_with(of)).copied();
        let Some(apply) = command("kubectl apply -") else {
            continue;
        };
        let words = |command: &str| {
            command
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let files = words(apply);
        let files = files.iter().filter(|word| word.ends_with(".yaml"));
        let mut applied: Vec<String> = files
            .flat_map(|file| applied::resources(&format!("istio-manifests/{file}")))
            .map(|resource| {
                resource["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        let mut removed = words(command("kubectl delete ").unwrap_or_else(|| panic!("{row}")));
        removed.retain(|word| word.starts_with("trace-context"));
        applied.sort();
        removed.sort();
        assert_eq!(applied, removed, "{row}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

/// A file that the page does not name is found by nobody.
#[test]
fn the_guide_names_every_file_with_its_versions() {
    let page = text("istio-manifests/README.md");
    for (path, head) in manifests() {
        let path = path.strip_prefix("istio-manifests/").expect("below it");
        if path.starts_with("kustomize/") {
            continue;
        }
        // A family has its first file's name in full, and the ends of the others.
        let stem = path.strip_suffix(".yaml").expect("YAML");
        let ends = ["-gateway", "-waypoint", "-upstream-image", "-upstream"];
        let end = ends.into_iter().find(|end| stem.ends_with(end));
        let named = |line: &&str| {
            let whole = line.contains(path);
            let family = end.is_some_and(|end| {
                let first = stem.strip_suffix(end).unwrap_or(stem);
                let tail = format!("`{end}.yaml`");
                line.contains(&tail) && line.contains(first)
            });
            let folder = path.split('/').next().unwrap_or_default();
            let kinds = folder == "trafficextension" && line.contains("trafficextension/");
            line.starts_with('|') && (whole || family || kinds)
        };
        let lines: Vec<_> = page.lines().filter(named).collect();
        assert!(!lines.is_empty(), "{path} is not in the guide");
        if head.product == Product::Istio {
            let versions = match head.first == head.last {
                true => format!("1.{}", head.first),
                false => format!("1.{} to 1.{}", head.first, head.last),
            };
            assert!(
                lines.iter().any(|line| line.contains(&versions)),
                "{path}: {versions}: {lines:?}"
            );
        }
    }
    // The page is one page.
    assert!(page.lines().count() < 80, "{} lines", page.lines().count());
}
