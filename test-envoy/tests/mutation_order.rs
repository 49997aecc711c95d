//! Two early mutations in one connection manager: that of `trace_context` and that of `route_sampling`, in both orders.

mod applied;
mod common;
mod promises;
mod tracers;

use std::collections::BTreeMap;

use applied::{apply, envoy_filter, listener, manager};
use common::{Mesh, module};
use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use meshtrace_render::{Tracer as Rendered, early_mutation, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use serde_json::{Value, json};
use tracers::{CASE, Caller, Reader, Sinks, Tracer};

const EARLY: &str = "istio-manifests/envoyfilter/trace-context-otel-early.yaml";
const SAMPLING: &str = "istio-manifests/envoyfilter/route-sampling-otel.yaml";

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ContextFirst,
    SamplingFirst,
}

const ORDERS: [Order; 2] = [Order::ContextFirst, Order::SamplingFirst];

/// `route_sampling` behind both mutations, with the OpenTelemetry tracer at a random sampling of 0.
fn sampled_by_rule(parent: &str, order: Order) -> Value {
    let config = format!(
        r#"{{"extract": ["tracecontext"], "parent": "{parent}", "rules": [
            {{"match": {{"path": {{"prefix": "/keep"}}}}, "sample": "always"}},
            {{"match": {{"path": {{"prefix": "/drop"}}}}, "sample": "never"}}
        ]}}"#
    );
    let parsed: SamplingConfig = serde_json::from_str(&config).expect("a configuration");
    let settings = sampling_settings(&parsed, Rendered::OpenTelemetry).expect("settings");
    let context = early_mutation(
        &serde_json::from_str("{}").expect("one"),
        Rendered::OpenTelemetry,
    );
    let context = context.expect("a mutation");
    let mut made = manager("otel");
    let mut both = vec![
        context.extension,
        settings.manager["early_header_mutation_extensions"][0].clone(),
    ];
    if order == Order::SamplingFirst {
        both.reverse();
    }
    made["early_header_mutation_extensions"] = json!(both);
    made["request_id_extension"] = settings.manager["request_id_extension"].clone();
    made["tracing"]["random_sampling"] = json!({"value": 0});
    made["tracing"]["custom_tags"] = json!([{"tag": "case", "request_header": {"name": CASE}}]);
    for part in [&settings.virtual_host, &context.virtual_host] {
        applied::merge(&mut made["route_config"]["virtual_hosts"][0], part);
    }
    let filter = json!({
        "name": "route_sampling",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "route_sampling",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module("route_sampling")}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": config,
                },
            },
        },
    });
    applied::list(&mut made["http_filters"]).insert(0, filter);
    made
}

/// Whether the caller's trace goes on, and whether it is sampled, on one of the listeners.
fn decided(
    mesh: &Mesh,
    listener: &str,
    path: &str,
    headers: &[&str],
) -> (Caller, bool, bool, String) {
    let caller = Caller::new();
    let case = format!("{listener} {path} {headers:?} {}", caller.trace_id);
    let mut request = Request::get(path).header(CASE, &case);
    for line in headers {
        let (name, value) = line.split_once(": ").expect("a header line");
        request = request.header(name, caller.fill(value));
    }
    let seen = mesh.pass(&mut mesh.connect(listener), &request);
    let told = Reader::W3c
        .read(&seen)
        .unwrap_or_else(|| panic!("{case}: {seen:?}"));
    let continued = told.trace_id == caller.trace_id;
    assert_eq!(seen.header_text("x-client-trace-id"), None, "{case}");
    assert_eq!(seen.header_text("x-envoy-force-trace"), None, "{case}");
    (caller, continued, told.sampled == Some(true), case)
}

/// The ways of a caller with a trace of its own; the flag is filled in.
const ARRIVALS: [&[&str]; 4] = [
    &["traceparent: 00-$T-$S-0@"],
    &["b3: $T-$S-@"],
    &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: @"],
    &["traceparent: malformed", "b3: $T-$S-@"],
];

fn with_flag(headers: &[&str], flag: &str) -> Vec<String> {
    headers.iter().map(|line| line.replace('@', flag)).collect()
}

#[test]
fn a_parents_decision_is_respected_in_either_order() {
    for envoy in envoys() {
        let sinks = Sinks::start();
        let mut bootstrap = sinks.connect(Bootstrap::new());
        for order in ORDERS {
            let made = sampled_by_rule("respect", order);
            bootstrap = bootstrap.listener(listener(&format!("{order:?}"), &made));
        }
        let mesh = Mesh::with(&envoy, bootstrap);
        let version = envoy.reported_version();
        for order in ORDERS.map(|order| format!("{order:?}")) {
            for headers in ARRIVALS {
                for (flag, path) in [("1", "/drop"), ("1", "/other"), ("0", "/keep")] {
                    let headers = with_flag(headers, flag);
                    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                    let (caller, continued, sampled, case) = decided(&mesh, &order, path, &headers);
                    assert!(continued, "{version}: {case}");
                    assert_eq!(sampled, flag == "1", "{version}: {case}");
                    if sampled {
                        let spans = sinks.spans(Tracer::OpenTelemetry, &caller.trace_id, &case, 1);
                        let parent = spans[0].parent_span_id.as_ref();
                        assert_eq!(parent, Some(&caller.span_id), "{version}: {case}");
                    }
                }
            }
            // Without a parent the rules decide.
            for (path, kept) in [("/keep", true), ("/drop", false)] {
                let (_, _, sampled, case) = decided(&mesh, &order, path, &[]);
                assert_eq!(sampled, kept, "{version}: {case}");
            }
            // A client asks for a trace of its own.
            let (_, _, sampled, case) = decided(&mesh, &order, "/drop", &["x-client-trace-id: 1"]);
            assert!(!sampled, "{version}: {case}");
        }
    }
    promises::held(
        "Manifests and examples",
        "Two early mutations in one proxy keep a sampled trace",
        "those of trace_context and route_sampling in both orders, random_sampling 0, W3C and B3 parents, rules that would decide otherwise",
        "24 of 24 decisions of a parent stand on each of 4 versions",
    );
}

/// In the order of the priorities the rules see every parent; in the other one they do not see one in B3.
#[test]
fn rules_against_a_parent_are_for_the_order_of_the_priorities() {
    for envoy in envoys() {
        let sinks = Sinks::start();
        let mut bootstrap = sinks.connect(Bootstrap::new());
        for order in ORDERS {
            let made = sampled_by_rule("ignore", order);
            bootstrap = bootstrap.listener(listener(&format!("{order:?}"), &made));
        }
        let mesh = Mesh::with(&envoy, bootstrap);
        let version = envoy.reported_version();
        for order in ORDERS {
            for (i, headers) in ARRIVALS.into_iter().enumerate() {
                for (flag, path) in [("1", "/drop"), ("0", "/keep")] {
                    let headers = with_flag(headers, flag);
                    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                    let name = format!("{order:?}");
                    let (_, continued, sampled, case) = decided(&mesh, &name, path, &headers);
                    assert!(continued, "{version}: {case}");
                    let by_rule = order == Order::ContextFirst || i == 0;
                    let expected = if by_rule {
                        path == "/keep"
                    } else {
                        flag == "1"
                    };
                    assert_eq!(sampled, expected, "{version}: {case}");
                }
            }
        }
    }
}

/// A decision without ids is obeyed by the context's mutation alone, and is no parent to the rules.
#[test]
fn an_acceptance_without_ids_is_the_rules_to_decide_in_the_order_of_the_priorities() {
    for envoy in envoys() {
        let sinks = Sinks::start();
        let made = sampled_by_rule("respect", Order::ContextFirst);
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(listener("both", &made));
        let mesh = Mesh::with(&envoy, bootstrap);
        for (header, path, kept) in [
            ("b3: 1", "/drop", false),
            ("b3: 1", "/keep", true),
            ("b3: 0", "/keep", false),
            ("x-b3-sampled: 1", "/drop", false),
        ] {
            let (_, _, sampled, case) = decided(&mesh, "both", path, &[header]);
            assert_eq!(sampled, kept, "{}: {case}", envoy.reported_version());
        }
    }
}

/// The files, in the order that Istio gives them: whichever was made first.
#[test]
fn the_priorities_of_the_files_put_the_context_first() {
    let filters = [envoy_filter(SAMPLING), envoy_filter(EARLY)];
    let mut by_priority = manager("otel");
    applied::apply_by_priority(&filters, &mut by_priority);
    let mut by_age = manager("otel");
    filters.iter().for_each(|filter| apply(filter, &mut by_age));
    let names = |manager: &Value| {
        let early = manager["early_header_mutation_extensions"].as_array();
        let early = early.expect("a list").iter();
        early
            .map(|one| one["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    let expected = ["meshtrace-trace-context", "meshtrace-route-sampling"];
    assert_eq!(names(&by_priority), expected);
    assert_ne!(names(&by_age), expected);
}

/// What a Telemetry with a percentage does to a caller's sampled trace, with and without the mutation.
#[test]
fn a_callers_sampled_trace_goes_on_at_any_percentage() {
    for envoy in envoys() {
        let at_zero = |files: &[&str]| {
            let mut made = applied::patched("otel", files);
            made["tracing"]["random_sampling"] = json!({"value": 0});
            made["tracing"]["custom_tags"] =
                json!([{"tag": "case", "request_header": {"name": CASE}}]);
            made
        };
        let sinks = Sinks::start();
        let listeners = BTreeMap::from([("alone", at_zero(&[])), ("early", at_zero(&[EARLY]))]);
        let bootstrap = listeners.iter().fold(
            sinks.connect(Bootstrap::new()),
            |bootstrap, (name, made)| bootstrap.listener(listener(name, made)),
        );
        let mesh = Mesh::with(&envoy, bootstrap);
        let version = envoy.reported_version();
        let w3c = ["traceparent: 00-$T-$S-01"];
        let (_, _, sampled, case) = decided(&mesh, "alone", "/", &w3c);
        assert_eq!(sampled, !envoy.is_at_least(1, 39), "{version}: {case}");
        for headers in ARRIVALS {
            for flag in ["1", "0"] {
                let headers = with_flag(headers, flag);
                let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                let (caller, continued, sampled, case) = decided(&mesh, "early", "/", &headers);
                assert!(continued, "{version}: {case}");
                assert_eq!(sampled, flag == "1", "{version}: {case}");
                if sampled {
                    sinks.spans(Tracer::OpenTelemetry, &caller.trace_id, &case, 1);
                }
            }
        }
        let (_, _, sampled, case) = decided(&mesh, "early", "/", &[]);
        assert!(!sampled, "{version}: {case}");
    }
    promises::held(
        "Manifests and examples",
        "A caller's decision stands at any percentage with the early mutation",
        "random_sampling 0, sampled and unsampled parents in W3C and B3, OpenTelemetry tracer",
        "8 of 8 on each of 4 versions; without the mutation Envoy from 1.39 on drops a sampled parent",
    );
}
