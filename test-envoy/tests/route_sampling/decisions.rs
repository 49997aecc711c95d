//! What `route_sampling` decides, counted in the spans that real tracers export.

use meshtrace_test_support::common;
use std::collections::BTreeSet;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, Options, Upstream, each_supported};
use meshtrace_render::{Tracer as RenderTracer, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use meshtrace_test_support::common::{Mesh, module};
use meshtrace_test_support::tracers::{CASE, Caller, Reader, Sinks, Tracer};
use serde_json::json;

const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

fn route_sampling(config: &str) -> WasmFilter {
    WasmFilter::new("route_sampling", module("route_sampling")).configuration(config)
}

/// Which of them this tracer reads, as the filter is told.
fn extract(tracer: Tracer) -> &'static str {
    match tracer {
        Tracer::None | Tracer::OpenTelemetry => r#""extract": ["tracecontext"]"#,
        Tracer::ZipkinB3 => r#""extract": ["b3", "b3multi"]"#,
        Tracer::ZipkinB3WithW3c => r#""extract": ["b3", "b3multi", "tracecontext"]"#,
    }
}

/// `keys` of a configuration, for the filter before this tracer.
fn config(tracer: Tracer, keys: &str) -> String {
    format!("{{{}, {keys}}}", extract(tracer))
}

/// A manager with the tracer, and what is rendered for the filter of `config`.
fn around(tracer: Tracer, config: &str) -> HttpConnectionManager {
    let rendered = match tracer {
        Tracer::None | Tracer::OpenTelemetry => RenderTracer::OpenTelemetry,
        Tracer::ZipkinB3 => RenderTracer::ZipkinB3,
        Tracer::ZipkinB3WithW3c => RenderTracer::ZipkinB3WithW3c,
    };
    let config: SamplingConfig = serde_json::from_str(config).expect("a configuration");
    let settings = sampling_settings(&config, rendered).expect("settings");
    HttpConnectionManager::new()
        .tracing(tracer.tracing().expect("a tracer"))
        .virtual_host(settings.virtual_host)
        .merge(settings.manager)
}

/// The filter of `config` and what stands around it.
fn sampling(tracer: Tracer, config: &str) -> HttpConnectionManager {
    around(tracer, config).filter(route_sampling(config))
}

fn to_upstream(manager: HttpConnectionManager) -> HttpConnectionManager {
    manager.route(Route::prefix("/").cluster("upstream"))
}

/// Whether the application is told to record, in the format of this tracer.
fn told(tracer: Tracer, request: &RecordedRequest) -> (String, bool) {
    let reader = match tracer {
        Tracer::None | Tracer::OpenTelemetry | Tracer::ZipkinB3WithW3c => Reader::W3c,
        // From 1.40 the shape that came in stays.
        Tracer::ZipkinB3 if request.header("x-b3-traceid").is_none() => Reader::B3,
        Tracer::ZipkinB3 => Reader::B3Multi,
    };
    let told = reader
        .read(request)
        .unwrap_or_else(|| panic!("{request:?}"));
    (told.trace_id, told.sampled.expect("a decision"))
}

/// Sends `count` requests for `path`, and returns the traces that the application saw, each with
/// whether it is to record it.
fn send(
    mesh: &Mesh,
    listener: &str,
    tracer: Tracer,
    path: &str,
    count: usize,
) -> Vec<(String, bool)> {
    let mut connection = mesh.connect(listener);
    let request = Request::get(path).header(CASE, path);
    (0..count)
        .map(|_| told(tracer, &mesh.pass(&mut connection, &request)))
        .collect()
}

fn sampled(traces: &[(String, bool)]) -> BTreeSet<String> {
    let sampled = traces.iter().filter(|(_, sampled)| *sampled);
    sampled.map(|(trace_id, _)| trace_id.clone()).collect()
}

/// The traces that the proxies exported for the case. The last one to be sent is `last`, and spans
/// of one worker arrive in their order.
fn exported(
    sinks: &Sinks,
    tracer: Tracer,
    case: &str,
    last: &str,
    hops: usize,
) -> BTreeSet<String> {
    sinks.spans(tracer, last, "/last", hops);
    let spans = sinks.arrived(case);
    let traces: BTreeSet<String> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!(spans.len(), traces.len() * hops, "{case}: a span a hop");
    traces
}

/// Ids are random: six standard deviations are exceeded less than once in ten million times.
fn assert_about(found: usize, ratio: f64, count: usize, what: &str) {
    let count = f64::from(u32::try_from(count).expect("a number"));
    let found = f64::from(u32::try_from(found).expect("a number"));
    let expected = ratio * count;
    let limit = 6.0 * (expected * (1.0 - ratio)).sqrt();
    assert!(
        (found - expected).abs() <= limit,
        "{what}: {found}, expected {expected} ± {limit}"
    );
}

fn assert_no_host_errors(envoy: &Envoy) {
    let errors = envoy.stat("wasmcustom.meshtrace.host_errors");
    assert_eq!(errors.expect("a counter"), 0);
}

const TENTH: &str = r#""rules": [
    {"name": "probes", "match": {"path": {"exact": "/health"}}, "sample": "never"},
    {"name": "metrics", "match": {"path": {"prefix": "/metrics"}}, "sample": "never"},
    {"name": "payments", "match": {"path": {"prefix": "/payments"}, "methods": ["GET"]}, "sample": "always"},
    {"name": "last", "match": {"path": {"exact": "/last"}}, "sample": "always"}
  ],
  "default": {"ratio": 0.1}"#;

/// A gateway and a sidecar, each with its tracer and the filter, before an application.
struct TwoProxies {
    gateway: Mesh,
    _sidecar: Envoy,
    sinks: Sinks,
}

/// Both have a listener for each tracer, of the tracer's name.
fn two_proxies(envoy: &EnvoyBinary) -> TwoProxies {
    let sinks = Sinks::start();
    let application = Upstream::start().expect("an application");
    let listener = |tracer: Tracer, cluster: &str| {
        let manager = sampling(tracer, &config(tracer, TENTH));
        let manager = manager.route(Route::prefix("/").cluster(cluster));
        Listener::http(&format!("{tracer:?}"), manager)
    };
    let bootstrap = sinks
        .connect(Bootstrap::new())
        .cluster(Cluster::http1("upstream", application.address()));
    let bootstrap = TRACERS.iter().fold(bootstrap, |bootstrap, tracer| {
        bootstrap.listener(listener(*tracer, "upstream"))
    });
    let sidecar = Envoy::start(envoy, bootstrap).expect("a sidecar");
    let bootstrap = sinks.connect(Bootstrap::new());
    let bootstrap = TRACERS.iter().fold(bootstrap, |bootstrap, tracer| {
        let name = format!("{tracer:?}");
        let inbound = sidecar.address(&name).expect("its address");
        bootstrap
            .listener(listener(*tracer, &name))
            .cluster(Cluster::http1(&name, inbound))
    });
    TwoProxies {
        gateway: Mesh {
            envoy: Envoy::start(envoy, bootstrap).expect("a gateway"),
            upstream: application,
        },
        _sidecar: sidecar,
        sinks,
    }
}

#[test]
fn a_tenth_of_all_traces_is_whole_and_the_rest_is_nowhere() {
    /// Of each tracer.
    const ORDERS: usize = 400;
    each_supported(|envoy| {
        let what = envoy.reported_version();
        let proxies = two_proxies(envoy);
        let (mesh, sinks) = (&proxies.gateway, &proxies.sinks);
        let (mut orders, mut payments) = (BTreeSet::new(), BTreeSet::new());
        for tracer in TRACERS {
            let what = format!("{tracer:?} on {what}");
            let name = format!("{tracer:?}");
            let sent = |path: &str, count| sampled(&send(mesh, &name, tracer, path, count));
            let kept = sent("/orders?page=2", ORDERS);
            assert_about(kept.len(), 0.1, ORDERS, &what);
            orders.extend(kept);
            assert!(sent("/health", 20).is_empty(), "{what}");
            assert!(sent("/metrics/envoy", 20).is_empty(), "{what}");
            let paid = sent("/payments/7", 20);
            assert_eq!(paid.len(), 20, "{what}");
            payments.extend(paid);
            let last = send(mesh, &name, tracer, "/last", 1).remove(0).0;
            let of = |case: &str| exported(sinks, tracer, case, &last, 2);
            assert_eq!(
                of("/orders?page=2"),
                orders,
                "{what}: gateway, sidecar and application agree"
            );
            assert!(of("/health").is_empty(), "{what}");
            assert!(of("/metrics/envoy").is_empty(), "{what}");
            assert_eq!(of("/payments/7"), payments, "{what}");
        }
        let count = ORDERS * TRACERS.len();
        assert_about(orders.len(), 0.1, count, what);

        let counter = |name: &str| {
            let name = format!("wasmcustom.meshtrace.route_sampling.{name}");
            mesh.envoy.stat(&name).expect("a counter")
        };
        assert_eq!(counter("rule.payments.sampled"), 60, "{what}");
        assert_eq!(counter("rule.probes.dropped"), 60, "{what}");
        assert_eq!(counter("rule.metrics.dropped"), 60, "{what}");
        let number = |count: usize| u64::try_from(count).expect("a number");
        assert_eq!(counter("default.sampled"), number(orders.len()), "{what}");
        let dropped = number(count - orders.len());
        assert_eq!(counter("default.dropped"), dropped, "{what}");
    });
}

#[test]
fn a_decision_that_comes_in_stands_and_nothing_of_the_filter_goes_on() {
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let listener = |tracer: Tracer| {
            let manager = to_upstream(sampling(tracer, &config(tracer, TENTH)));
            Listener::http(&format!("{tracer:?}"), manager)
        };
        let bootstrap = TRACERS
            .map(listener)
            .into_iter()
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        for tracer in TRACERS {
            let what = format!("{tracer:?} on {}", envoy.reported_version());
            let mut connection = mesh.connect(&format!("{tracer:?}"));
            let mut pass = |path: &str, lines: &[&str]| {
                let caller = Caller::fresh();
                let request = Request::get(path).header(CASE, path);
                let request = lines.iter().fold(request, |request, line| {
                    let (name, value) = line.split_once(": ").expect("a header line");
                    request.header(name, caller.fill(value))
                });
                let seen = mesh.pass(&mut connection, &request);
                for name in ["x-envoy-force-trace", "x-client-trace-id"] {
                    assert_eq!(seen.header_text(name), None, "{what}: {name}");
                }
                let mark = seen.header_text("x-request-id").expect("an id");
                assert_eq!(&mark[14..15], "4", "{what}: {mark}");
                let (trace_id, sampled) = told(tracer, &seen);
                (trace_id == caller.trace_id, sampled, trace_id)
            };
            let parent: &[(&[&str], bool)] = match tracer {
                Tracer::ZipkinB3 => &[
                    (&["b3: $T-$S-1"], true),
                    (&["b3: $T-$S-0"], false),
                    (
                        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
                        true,
                    ),
                    (
                        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 0"],
                        false,
                    ),
                ],
                _ => &[
                    (&["traceparent: 00-$T-$S-01"], true),
                    (&["traceparent: 00-$T-$S-00"], false),
                ],
            };
            for (lines, expected) in parent {
                // The rules would decide otherwise.
                let path = if *expected { "/health" } else { "/payments" };
                let (continues, sampled, trace_id) = pass(path, lines);
                // Until 1.39 a `b3` goes on beside what the tracer writes.
                assert!(continues, "{what}: {lines:?}");
                assert_eq!(sampled, *expected, "{what}: {lines:?}");
                if sampled {
                    assert_eq!(sinks.spans(tracer, &trace_id, path, 1).len(), 1, "{what}");
                }
            }
            // Whoever asks for a trace without a context is not obeyed.
            for header in ["x-client-trace-id: 1", "x-envoy-force-trace: true"] {
                assert!(!pass("/health", &[header]).1, "{what}: {header}");
            }
            let (_, sampled, last) = pass("/last", &[]);
            assert!(sampled, "{what}");
            assert!(
                exported(&sinks, tracer, "/payments", &last, 1).is_empty(),
                "{what}"
            );
        }
    });
}

/// With the helper header the trace id of the span decides, as it would anywhere else.
#[test]
fn the_helper_header_makes_a_ratio_consistent_and_the_upstream_filter_tells_it() {
    const HELPER: &str = "x-active-trace-id";
    each_supported(|envoy| {
        for tracer in [Tracer::OpenTelemetry, Tracer::ZipkinB3WithW3c] {
            let what = format!("{tracer:?} on {}", envoy.reported_version());
            let sinks = Sinks::start();
            let keys = format!(
                r#""default": {{"ratio": 0.25}}, "ids": {{"trace_id_header": "{HELPER}"}}"#
            );
            let json = config(tracer, &keys);
            let ids = HttpFilter::header_mutation(
                "ids",
                json!([
                    {"remove": HELPER},
                    {"append": {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                                "header": {"key": HELPER, "value": "%TRACE_ID%"}}},
                ]),
            );
            // It is the one that takes the header of the decision away here.
            let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
            let manager = around(tracer, &json)
                .virtual_host(json!({"request_headers_to_remove": null}))
                .filter(ids)
                .filter(route_sampling(&json))
                .upstream_filter(
                    WasmFilter::new("upstream", module("route_sampling")).configuration(upstream),
                );
            let listener = Listener::http("ingress", to_upstream(manager));
            let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
            let mut connection = mesh.connect("ingress");
            let mut kept = 0;
            for _ in 0..100 {
                let seen = mesh.pass(&mut connection, &Request::get("/"));
                let (trace_id, sampled) = told(tracer, &seen);
                let consistent = trace_id[18..] >= *"c0000000000000";
                assert_eq!(sampled, consistent, "{what}: {trace_id}");
                let state = seen.header_text("tracestate").unwrap_or_default();
                assert_eq!(state, if sampled { "ot=th:c" } else { "" }, "{what}");
                for name in [HELPER, "x-envoy-force-trace"] {
                    assert_eq!(seen.header_text(name), None, "{what}: {name}");
                }
                kept += usize::from(sampled);
            }
            assert_about(kept, 0.25, 100, &what);
            assert_no_host_errors(&mesh.envoy);
        }
    });
}

/// Behind the tracer every policy works, for the next hop: a changed flag has a new parent id, and
/// `th` agrees with the flag.
#[test]
fn upstream_any_policy_decides_what_the_next_hop_is_told() {
    // The right-most 56 bits of a trace id that a half keeps, and of one that it does not.
    const KEPT: &str = "ffffffffffffff";
    const LOST: &str = "00000000000001";
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let upstream = |policy: &str| {
            let json = format!(
                r#"{{"placement": "upstream", "tracer": "tracecontext", "parent": "{policy}",
                     "default": {{"ratio": 0.5}}}}"#
            );
            let name = format!("upstream-{policy}");
            let filter = WasmFilter::new(&name, module("route_sampling")).configuration(json);
            let manager = HttpConnectionManager::new()
                .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
                .upstream_filter(filter);
            Listener::http(policy, to_upstream(manager))
        };
        let sinks = Sinks::start();
        let policies = ["respect", "ignore", "respect_sampled", "respect_dropped"];
        let bootstrap = policies
            .into_iter()
            .map(upstream)
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        let cases = [
            ("respect", LOST, "01", "a=1", "01", "a=1"),
            (
                "respect",
                LOST,
                "01",
                "a=1,ot=th:8;rv:ffffffffffffff",
                "01",
                "a=1,ot=th:8;rv:ffffffffffffff",
            ),
            ("respect", LOST, "01", "a=1,ot=th:8", "01", "a=1"),
            ("ignore", LOST, "01", "a=1,ot=th:0;x:1", "00", "ot=x:1,a=1"),
            ("ignore", KEPT, "00", "a=1", "01", "ot=th:8,a=1"),
            ("ignore", KEPT, "01", "ot=th:8", "01", "ot=th:8"),
            ("ignore", KEPT, "01", "ot=th:c", "01", "ot=th:8"),
            ("respect_sampled", LOST, "01", "ot=th:0", "01", "ot=th:0"),
            ("respect_sampled", KEPT, "00", "", "01", "ot=th:8"),
            ("respect_sampled", LOST, "00", "", "00", ""),
            ("respect_dropped", KEPT, "00", "", "00", ""),
            ("respect_dropped", LOST, "01", "", "00", ""),
            ("respect_dropped", KEPT, "01", "ot=th:c", "01", "ot=th:c"),
        ];
        for (i, (policy, randomness, flag, state, left, left_state)) in
            cases.into_iter().enumerate()
        {
            let what = format!("{policy}, {randomness}, {flag}, {state} on {version}");
            let parent = format!("00-4bf92f3577b34da6{i:02x}{randomness}-{}", common::SPAN);
            let request = Request::get("/")
                .header(CASE, &what)
                .header("traceparent", format!("{parent}-{flag}"))
                .header("tracestate", state);
            let seen = mesh.pass(&mut mesh.connect(policy), &request);
            let told = Reader::W3c.read(&seen).expect("a context");
            assert_eq!(told.sampled, Some(left == "01"), "{what}");
            assert_eq!(
                seen.header_text("tracestate").unwrap_or_default(),
                left_state,
                "{what}"
            );
            if flag == "01" {
                // The proxy's own span is as its parent was, and its id is told on only with its flag.
                let spans = sinks.spans(Tracer::OpenTelemetry, &told.trace_id, &what, 1);
                let reported = spans.iter().any(|span| span.span_id == told.span_id);
                assert_eq!(reported, left == "01", "{what}");
            }
        }
        assert_no_host_errors(&mesh.envoy);
    });
}

#[test]
fn upstream_a_changed_decision_changes_every_format_that_the_tracer_wrote() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        for (tracer, writes) in [
            (Tracer::ZipkinB3, "b3multi"),
            (Tracer::ZipkinB3WithW3c, "tracecontext"),
        ] {
            let json = format!(
                r#"{{"placement": "upstream", "tracer": "{writes}", "parent": "ignore", "default": "never"}}"#
            );
            let sinks = Sinks::start();
            let manager = HttpConnectionManager::new()
                .tracing(tracer.tracing().expect("a tracer"))
                .upstream_filter(route_sampling(&json));
            let listener = Listener::http("ingress", to_upstream(manager));
            let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
            for lines in [
                &[][..],
                &["b3: $T-$S-1"],
                &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
            ] {
                let caller = Caller::fresh();
                let request = caller.request("changed", lines);
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let told: Vec<_> = Reader::ALL
                    .iter()
                    .filter_map(|reader| reader.read(&seen))
                    .collect();
                assert!(!told.is_empty());
                for one in &told {
                    assert_eq!(
                        one, &told[0],
                        "{tracer:?} on {version}: {lines:?}: one span in every format"
                    );
                    assert_eq!(
                        one.sampled,
                        Some(false),
                        "{tracer:?} on {version}: {lines:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn only_the_operators_secret_forces() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sinks = Sinks::start();
        let tracer = Tracer::OpenTelemetry;
        let keys = r#""default": "never", "force": {"header": "x-force-trace", "value_env": "FORCE_TRACE"}"#;
        let json = config(tracer, keys);
        let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
        let manager = |filter: WasmFilter| {
            let upstream =
                WasmFilter::new("upstream", module("route_sampling")).configuration(upstream);
            to_upstream(
                around(tracer, &json)
                    .filter(filter)
                    .upstream_filter(upstream),
            )
        };
        let with = WasmFilter::new("with-key", module("route_sampling")).configuration(&json);
        let without = WasmFilter::new("without-key", module("route_sampling")).configuration(&json);
        let bootstrap = sinks
            .connect(Bootstrap::new())
            // Until 1.39 the environment is no part of what tells VMs apart.
            .listener(Listener::http(
                "with",
                manager(with.env("FORCE_TRACE", "hunter2").vm_id("with-key")),
            ))
            .listener(Listener::http("without", manager(without)));
        let mesh = Mesh::with(envoy, bootstrap);
        let parent = format!("00-{}-{}-00", common::TRACE, common::SPAN);
        for (listener, secret, parent, expected) in [
            ("with", Some("hunter2"), None, true),
            ("with", Some("hunter3"), None, false),
            ("with", Some("hunter"), None, false),
            ("with", None, None, false),
            ("without", Some("hunter2"), None, false),
            ("without", Some(""), None, false),
            // The proxy's span is its parent's; the application's trace is forced by the upstream filter.
            ("with", Some("hunter2"), Some(&parent), true),
            ("with", Some("hunter3"), Some(&parent), false),
        ] {
            let mut request = Request::get("/").header(CASE, "force");
            if let Some(secret) = secret {
                request = request.header("x-force-trace", secret);
            }
            if let Some(parent) = parent {
                request = request.header("traceparent", parent);
            }
            let seen = mesh.pass(&mut mesh.connect(listener), &request);
            let (_, sampled) = told(tracer, &seen);
            let what = format!("{listener} {secret:?} {parent:?} on {version}");
            assert_eq!(sampled, expected, "{what}");
            assert_eq!(seen.header_text("x-force-trace"), None, "{what}");
            assert_eq!(seen.header_text("x-envoy-force-trace"), None, "{what}");
        }
        for (counter, expected) in [("sampled", 2), ("refused", 3), ("off", 2)] {
            let name = format!("wasmcustom.meshtrace.route_sampling.force.{counter}");
            assert_eq!(
                mesh.envoy.stat(&name).expect("a counter"),
                expected,
                "{name} on {version}"
            );
        }
    });
}

/// Two workers, two connections to each at least: the bucket is one for all of them.
#[test]
fn the_workers_of_a_proxy_share_one_bucket() {
    const RATE: u64 = 20;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let tracer = Tracer::OpenTelemetry;
        let json = config(tracer, &format!(r#""default": {{"per_second": {RATE}}}"#));
        let sinks = Sinks::start();
        let upstream = Upstream::start().expect("an upstream");
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http(
                "ingress",
                to_upstream(sampling(tracer, &json)),
            ))
            .cluster(Cluster::http1("upstream", upstream.address()));
        let envoy =
            Envoy::start_with(envoy, bootstrap, Options::new().concurrency(2)).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");

        let begin = std::time::Instant::now();
        let senders: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut connection = Connection::open(address).expect("a connection");
                    for _ in 0..150 {
                        let response = connection.send(&Request::get("/")).expect("a response");
                        assert_eq!(response.status, 200);
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().expect("all requests");
        }
        let seconds = begin.elapsed().as_secs() + 1;

        let counter = |name: &str| {
            let name = format!("wasmcustom.meshtrace.route_sampling.{name}");
            envoy.stat(&name).expect("a counter")
        };
        let (kept, dropped) = (counter("default.sampled"), counter("default.dropped"));
        assert_eq!(kept + dropped, 1200, "{version}");
        assert_eq!(counter("per_second.failed"), 0, "{version}");
        assert!(
            kept >= RATE,
            "{version}: a full bucket to begin with, and not {kept}"
        );
        assert!(
            kept <= RATE * (seconds + 1),
            "{version}: {kept} in {seconds} s"
        );
        let seen = upstream
            .requests()
            .iter()
            .filter(|request| told(tracer, request).1)
            .count();
        assert_eq!(u64::try_from(seen).ok(), Some(kept), "{version}");
        let connections = |worker: u32| {
            let name = format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total");
            envoy.stat(&name).expect("a counter")
        };
        assert!(
            connections(0) > 0 && connections(1) > 0,
            "{version}: both work"
        );
    });
}

#[test]
fn rules_may_name_envoys_route_and_cluster() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(
        tracer,
        r#""rules": [
            {"name": "route", "match": {"route": "checkout"}, "sample": "always"},
            {"name": "cluster", "match": {"cluster": "ledger", "host": "*.example"}, "sample": "always"}
        ], "default": "never""#,
    );
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let upstream = Upstream::start().expect("an upstream");
        let manager = sampling(tracer, &json)
            .route(Route::prefix("/checkout").cluster("other").name("checkout"))
            .route(Route::prefix("/ledger").cluster("ledger"))
            .route(Route::prefix("/").cluster("other"));
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("other", upstream.address()))
            .cluster(Cluster::http1("ledger", upstream.address()));
        let envoy = Envoy::start(envoy, bootstrap).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");
        for (path, host, expected) in [
            ("/checkout", "shop.test", true),
            ("/ledger", "Pay.Example:8080", true),
            ("/ledger", "pay.test", false),
            ("/", "pay.example", false),
        ] {
            let request = Request::get(path).header("host", host);
            request.send(address).expect("a response");
            let seen = upstream.take();
            assert_eq!(told(tracer, &seen[0]).1, expected, "{path} {host}");
        }
        assert_no_host_errors(&envoy);
    });
}

/// What the rules of [`EARLY`] say about a request.
fn early_rule(path: &str, host: &str, randomness: &str) -> bool {
    match (path, host) {
        ("/health", _) => false,
        ("/users/7" | "/pay/1", _) => true,
        (_, "a.example:80") => true,
        _ => randomness >= "80000000000000",
    }
}

const EARLY: &str = r#""rules": [
    {"match": {"path": {"exact": "/health"}}, "sample": "never"},
    {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
    {"match": {"path": {"prefix": "/pay"}}, "sample": "always"},
    {"match": {"path": {"exact": "/last"}}, "sample": "always"},
    {"match": {"host": "*.example", "methods": ["GET", "HEAD"],
               "headers": [{"name": "x-tenant", "prefix": "go"}]}, "sample": "always"}
  ],
  "default": {"ratio": 0.5}"#;

/// What is rendered before the tracer lets the rules decide about traces that come in: the proxy's
/// own span and the application follow, as parts of the caller's trace.
#[test]
fn before_the_tracer_any_policy_decides_about_traces_that_come_in() {
    const RANDOM: [&str; 2] = ["ffffffffffffff", "00000000000001"];
    let w3c = ("traceparent", "00-$T-$S-0$D");
    let single = ("b3", "$T-$S-$D");
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let policies = ["ignore", "respect_sampled", "respect_dropped"];
        let name = |tracer: Tracer, policy: &str| format!("{tracer:?} {policy}");
        let listener = |(tracer, policy): (Tracer, &str)| {
            let keys = format!(r#""parent": "{policy}", {EARLY}"#);
            let json = config(tracer, &keys);
            Listener::http(&name(tracer, policy), to_upstream(sampling(tracer, &json)))
        };
        let bootstrap = TRACERS
            .iter()
            .flat_map(|tracer| policies.map(|policy| (*tracer, policy)))
            .map(listener)
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        let mut expected = BTreeSet::new();
        let mut count = 0;
        for (tracer, arrivals) in [
            (Tracer::OpenTelemetry, vec![Some(w3c)]),
            (Tracer::ZipkinB3, vec![Some(single), None]),
            (Tracer::ZipkinB3WithW3c, vec![Some(w3c), Some(single), None]),
        ] {
            for policy in policies {
                let mut connection = mesh.connect(&name(tracer, policy));
                for arrival in &arrivals {
                    for (path, host, randomness, came) in [
                        ("/health", "h", RANDOM[0], true),
                        ("/users/7?x", "h", RANDOM[1], false),
                        ("/users/7", "h", RANDOM[1], true),
                        ("/pay/1", "h", RANDOM[1], false),
                        ("/payment", "h", RANDOM[1], true),
                        ("/other", "h", RANDOM[0], false),
                        ("/other", "h", RANDOM[1], true),
                        ("/other", "a.example:80", RANDOM[1], false),
                    ] {
                        count += 1;
                        let trace_id = format!("4bf92f3577b34d{count:04x}{randomness}");
                        let digit = if came { "1" } else { "0" };
                        let fill = |text: &str| {
                            text.replace("$T", &trace_id)
                                .replace("$S", common::SPAN)
                                .replace("$D", digit)
                        };
                        let request = Request::get(path)
                            .header(CASE, "early")
                            .header("host", host)
                            .header("x-tenant", "gold");
                        let request = match arrival {
                            Some((name, value)) => request.header(name, fill(value)),
                            None => request
                                .header("x-b3-traceid", &trace_id)
                                .header("x-b3-spanid", common::SPAN)
                                .header("x-b3-sampled", digit),
                        };
                        let seen = mesh.pass(&mut connection, &request);
                        let path = path.trim_end_matches("?x");
                        let rule = early_rule(path, host, randomness);
                        let stands = match policy {
                            "ignore" => false,
                            "respect_sampled" => came,
                            _ => !came,
                        };
                        let keeps = if stands { came } else { rule };
                        let what = format!(
                            "{policy} {arrival:?} {path} {host} {randomness} {came}, {tracer:?} on {}",
                            envoy.reported_version()
                        );
                        assert_eq!(told(tracer, &seen), (trace_id.clone(), keeps), "{what}");
                        let helpers = seen.headers.iter().filter(|(name, _)| {
                            let name = String::from_utf8_lossy(name).to_lowercase();
                            name.starts_with("x-meshtrace-") || name == "x-client-trace-id"
                        });
                        assert_eq!(helpers.count(), 0, "{what}");
                        if keeps {
                            expected.insert(trace_id);
                        }
                    }
                }
            }
            let last = send(&mesh, &name(tracer, "ignore"), tracer, "/last", 1);
            let found = exported(&sinks, tracer, "early", &last[0].0, 1);
            assert_eq!(
                found,
                expected,
                "{tracer:?} on {}",
                envoy.reported_version()
            );
            let children = sinks.arrived("early");
            assert!(
                children
                    .iter()
                    .all(|span| span.parent_span_id.as_deref() == Some(common::SPAN)),
                "{tracer:?} on {}",
                envoy.reported_version()
            );
        }
    });
}

#[test]
fn rules_of_a_route_alone_need_no_filter_and_respect_a_parent() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(
        tracer,
        r#""rules": [
            {"match": {"route": "pay"}, "sample": "always"},
            {"match": {"route": "probe"}, "sample": "never"}
        ]"#,
    );
    let parsed: SamplingConfig = serde_json::from_str(&json).expect("a configuration");
    let settings = sampling_settings(&parsed, RenderTracer::OpenTelemetry).expect("settings");
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let manager = settings
            .routes
            .iter()
            .fold(around(tracer, &json), |manager, block| {
                let path = format!("/{}", block.route);
                let route = Route::prefix(&path).cluster("upstream").name(&block.route);
                manager.route(route.tracing(block.tracing.clone()))
            });
        let listener = Listener::http("ingress", to_upstream(manager));
        let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
        for (path, parent, expected) in [
            ("/pay", None, true),
            ("/probe", None, false),
            ("/other", None, false),
            ("/pay", Some("00"), false),
            ("/probe", Some("01"), true),
        ] {
            let mut request = Request::get(path).header(CASE, path);
            if let Some(flags) = parent {
                let parent = format!("00-{}-{}-{flags}", common::TRACE, common::SPAN);
                request = request.header("traceparent", parent);
            }
            let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
            let what = format!("{path} {parent:?} on {}", envoy.reported_version());
            assert_eq!(told(tracer, &seen).1, expected, "{what}");
        }
    });
}

/// Any other header reaches the tracer by a route that asks for it.
#[test]
fn a_route_may_follow_the_decision_by_a_header_of_its_own() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(tracer, &format!(r#""request_header": "x-keep", {TENTH}"#));
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let full = json!({"random_sampling": {"numerator": 100}});
        let kept = Route::prefix("/")
            .header("x-keep", "true")
            .cluster("upstream");
        let manager = sampling(tracer, &json).route(kept.tracing(full));
        let listener = Listener::http("ingress", to_upstream(manager));
        let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
        for (path, expected) in [("/payments", true), ("/health", false)] {
            let request = Request::get(path).header(CASE, path);
            let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
            let what = format!("{path} on {}", envoy.reported_version());
            let (trace_id, sampled) = told(tracer, &seen);
            assert_eq!(sampled, expected, "{what}");
            assert_eq!(seen.header_text("x-keep"), None, "{what}");
            if expected {
                assert_eq!(sinks.spans(tracer, &trace_id, path, 1).len(), 1, "{what}");
            }
        }
    });
}
