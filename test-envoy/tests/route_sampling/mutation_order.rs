//! Two early mutations in one connection manager: that of `trace_context` and that of
//! `route_sampling`, in both orders.

use std::collections::BTreeMap;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{Tracer as Rendered, early_mutation, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use meshtrace_test_support::applied::{self, apply, envoy_filter, listener, manager};
use meshtrace_test_support::common::{Mesh, module};
use meshtrace_test_support::promises;
use meshtrace_test_support::tracers::{CASE, Caller, Reader, Sinks, Told, Tracer};
use serde_json::{Value, json};

const EARLY: &str = "istio-manifests/envoyfilter/trace-context-otel-early.yaml";
const SAMPLING: &str = "istio-manifests/envoyfilter/route-sampling-otel.yaml";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ContextFirst,
    SamplingFirst,
}

const ORDERS: [Order; 2] = [Order::ContextFirst, Order::SamplingFirst];

/// A tracer behind both mutations.
#[derive(Clone, Copy, Debug)]
struct Beside {
    /// As heads call it.
    name: &'static str,
    rendered: Rendered,
    measured: Tracer,
    /// What `route_sampling` reads: the tracer's own formats.
    extract: &'static str,
    /// Those of [`ARRIVALS`] that come in a format of the tracer's.
    own: &'static [usize],
}

const TRACERS: [Beside; 3] = [
    Beside {
        name: "otel",
        rendered: Rendered::OpenTelemetry,
        measured: Tracer::OpenTelemetry,
        extract: r#"["tracecontext"]"#,
        own: &[0, 4, 5],
    },
    Beside {
        name: "zipkin-b3",
        rendered: Rendered::ZipkinB3,
        measured: Tracer::ZipkinB3,
        extract: r#"["b3", "b3multi"]"#,
        own: &[1, 2, 3],
    },
    Beside {
        name: "zipkin",
        rendered: Rendered::ZipkinB3WithW3c,
        measured: Tracer::ZipkinB3WithW3c,
        extract: r#"["b3", "b3multi", "tracecontext"]"#,
        own: &[0, 1, 2, 3, 4, 5],
    },
];

impl Beside {
    /// The span that the tracer tells the next hop.
    fn told(self, request: &RecordedRequest) -> Option<Told> {
        let readers: &[Reader] = match self.measured {
            Tracer::ZipkinB3 => &[Reader::B3Multi, Reader::B3],
            _ => &[Reader::W3c],
        };
        readers.iter().find_map(|reader| reader.read(request))
    }
}

fn name(tracer: Beside, order: Order) -> String {
    format!("{} {order:?}", tracer.name)
}

/// `route_sampling` behind both mutations, at a random sampling of 0.
fn sampled_by_rule(tracer: Beside, parent: &str, order: Order) -> Value {
    let config = format!(
        r#"{{"extract": {}, "parent": "{parent}", "rules": [
            {{"match": {{"path": {{"prefix": "/keep"}}}}, "sample": "always"}},
            {{"match": {{"path": {{"prefix": "/drop"}}}}, "sample": "never"}}
        ]}}"#,
        tracer.extract
    );
    let parsed: SamplingConfig =
        meshtrace_config::read(config.as_bytes()).expect("a configuration");
    let settings = sampling_settings(&parsed, tracer.rendered).expect("settings");
    let context = early_mutation(&TraceContextConfig::default(), tracer.rendered);
    let context = context.expect("a mutation");
    let mut made = manager(tracer.name);
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

/// All tracers in all orders.
fn bootstrap(sinks: &Sinks, parent: &str) -> Bootstrap {
    let mut bootstrap = sinks.connect(Bootstrap::new());
    for tracer in TRACERS {
        for order in ORDERS {
            let made = sampled_by_rule(tracer, parent, order);
            bootstrap = bootstrap.listener(listener(&name(tracer, order), &made));
        }
    }
    bootstrap
}

/// What became of a request.
#[derive(Debug)]
struct Decided {
    caller: Caller,
    continued: bool,
    sampled: bool,
    case: String,
}

fn decided(mesh: &Mesh, tracer: Beside, listener: &str, path: &str, headers: &[&str]) -> Decided {
    let caller = Caller::fresh();
    let case = format!("{listener} {path} {headers:?} {}", caller.trace_id);
    let mut request = Request::get(path).header(CASE, &case);
    for line in headers {
        let (name, value) = line.split_once(": ").expect("a header line");
        request = request.header(name, caller.fill(value));
    }
    let seen = mesh.pass(&mut mesh.connect(listener), &request);
    let told = tracer
        .told(&seen)
        .unwrap_or_else(|| panic!("{case}: {seen:?}"));
    for own in ["x-client-trace-id", "x-envoy-force-trace"] {
        assert_eq!(seen.header_text(own), None, "{case}");
    }
    Decided {
        continued: told.trace_id == caller.trace_id,
        sampled: told.sampled == Some(true),
        caller,
        case,
    }
}

/// The ways of a caller with a trace of its own; the flag is filled in.
const ARRIVALS: [&[&str]; 6] = [
    &["traceparent: 00-$T-$S-0@"],
    &["b3: $T-$S-@"],
    &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: @"],
    &["traceparent: malformed", "b3: $T-$S-@"],
    &["traceparent: 00-$T-$S-0@", "traceparent: 00-$T-$S-0@"],
    &["traceparent: 01-$T-$S-0@"],
];

fn with_flag(headers: &[&str], flag: &str) -> Vec<String> {
    headers.iter().map(|line| line.replace('@', flag)).collect()
}

#[test]
fn a_parents_decision_is_respected_in_either_order() {
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let mesh = Mesh::with(envoy, bootstrap(&sinks, "respect"));
        let version = envoy.reported_version();
        for (tracer, order) in TRACERS
            .iter()
            .flat_map(|one| ORDERS.map(|order| (*one, order)))
        {
            let at = name(tracer, order);
            for headers in ARRIVALS {
                for (flag, path) in [("1", "/drop"), ("1", "/other"), ("0", "/keep")] {
                    let headers = with_flag(headers, flag);
                    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                    let seen = decided(&mesh, tracer, &at, path, &headers);
                    assert!(seen.continued, "{version}: {seen:?}");
                    assert_eq!(seen.sampled, flag == "1", "{version}: {seen:?}");
                    if seen.sampled {
                        let caller = &seen.caller;
                        let spans = sinks.spans(tracer.measured, &caller.trace_id, &seen.case, 1);
                        let parent = spans[0].parent_span_id.as_ref();
                        assert_eq!(parent, Some(&caller.span_id), "{version}: {seen:?}");
                    }
                }
            }
            // Without a parent the rules decide, and not a client.
            for (path, headers, kept) in [
                ("/keep", &[][..], true),
                ("/drop", &[], false),
                ("/drop", &["x-client-trace-id: 1"], false),
            ] {
                let seen = decided(&mesh, tracer, &at, path, headers);
                assert_eq!(seen.sampled, kept, "{version}: {seen:?}");
            }
        }
    });
    promises::held(
        "Manifests and examples",
        "Two early mutations in one proxy keep a sampled trace",
        "those of trace_context and route_sampling in both orders beside three tracers, random_sampling 0, W3C and B3 parents, \
         rules that would decide otherwise",
        "108 of 108 decisions of a parent stand on each of 4 versions",
    );
}

/// B3: "Debug implies an accept decision". Alone, a Zipkin tracer takes it for no decision.
#[test]
fn debug_is_an_acceptance_at_any_percentage() {
    let debug = ["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-flags: 1"];
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let mesh = Mesh::with(envoy, bootstrap(&sinks, "respect"));
        for tracer in TRACERS {
            let at = name(tracer, Order::ContextFirst);
            let seen = decided(&mesh, tracer, &at, "/drop", &debug);
            let told = format!("{}: {seen:?}", envoy.reported_version());
            assert!(seen.continued && seen.sampled, "{told}");
            sinks.spans(tracer.measured, &seen.caller.trace_id, &seen.case, 1);
        }
    });
}

/// In the order of the priorities the rules see every parent; in the other one they see none that
/// comes in another format than the tracer's.
#[test]
fn rules_against_a_parent_are_for_the_order_of_the_priorities() {
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let mesh = Mesh::with(envoy, bootstrap(&sinks, "ignore"));
        let version = envoy.reported_version();
        for (tracer, order) in TRACERS
            .iter()
            .flat_map(|one| ORDERS.map(|order| (*one, order)))
        {
            for (i, headers) in ARRIVALS.into_iter().enumerate() {
                for (flag, path) in [("1", "/drop"), ("0", "/keep")] {
                    let headers = with_flag(headers, flag);
                    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                    let seen = decided(&mesh, tracer, &name(tracer, order), path, &headers);
                    assert!(seen.continued, "{version}: {seen:?}");
                    let by_rule = order == Order::ContextFirst || tracer.own.contains(&i);
                    let expected = if by_rule {
                        path == "/keep"
                    } else {
                        flag == "1"
                    };
                    assert_eq!(seen.sampled, expected, "{version}: {seen:?}");
                }
            }
        }
    });
}

/// A decision without ids is obeyed by the context's mutation alone, and is no parent to the rules.
#[test]
fn an_acceptance_without_ids_is_the_rules_to_decide_in_the_order_of_the_priorities() {
    let [otel, ..] = TRACERS;
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let mesh = Mesh::with(envoy, bootstrap(&sinks, "respect"));
        for (header, path, kept) in [
            ("b3: 1", "/drop", false),
            ("b3: 1", "/keep", true),
            ("b3: 0", "/keep", false),
            ("x-b3-sampled: 1", "/drop", false),
        ] {
            let at = name(otel, Order::ContextFirst);
            let seen = decided(&mesh, otel, &at, path, &[header]);
            assert_eq!(seen.sampled, kept, "{}: {seen:?}", envoy.reported_version());
        }
    });
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

/// What a Telemetry with a percentage does to a caller's sampled trace, with and without the
/// mutation.
#[test]
fn a_callers_sampled_trace_goes_on_at_any_percentage() {
    each_supported(|envoy| {
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
        let mesh = Mesh::with(envoy, bootstrap);
        let version = envoy.reported_version();
        let [otel, ..] = TRACERS;
        let seen = decided(&mesh, otel, "alone", "/", &["traceparent: 00-$T-$S-01"]);
        assert_eq!(
            seen.sampled,
            !envoy.is_at_least(1, 39),
            "{version}: {seen:?}"
        );
        for headers in ARRIVALS {
            for flag in ["1", "0"] {
                let headers = with_flag(headers, flag);
                let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                let seen = decided(&mesh, otel, "early", "/", &headers);
                assert!(seen.continued, "{version}: {seen:?}");
                assert_eq!(seen.sampled, flag == "1", "{version}: {seen:?}");
                if seen.sampled {
                    sinks.spans(otel.measured, &seen.caller.trace_id, &seen.case, 1);
                }
            }
        }
        let seen = decided(&mesh, otel, "early", "/", &[]);
        assert!(!seen.sampled, "{version}: {seen:?}");
    });
    promises::held(
        "Manifests and examples",
        "A caller's decision stands at any percentage with the early mutation",
        "random_sampling 0, sampled and unsampled parents in W3C and B3, OpenTelemetry tracer",
        "12 of 12 on each of 4 versions; without the mutation Envoy from 1.39 on drops a sampled parent",
    );
}
