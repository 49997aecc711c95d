//! `mesh_tracing` with `sampling`: what is exported, and what the next hop is told, on real Envoys.

use meshtrace_test_support::common;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{
    Envoy, EnvoyBinary, Options, OtlpSink, Span, SpanKind, Upstream, each_supported, expect,
};
use meshtrace_render::{Tracer as RenderTracer, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::reporting::{Collected, collector, manager, mesh_tracing, traceparent};
use meshtrace_test_support::tracers::{CASE, Caller, Sinks, Tracer};
use serde_json::{Value, json};

/// The right-most 56 bits of a trace id that a half keeps, and of one that it does not.
const KEPT: &str = "ffffffffffffff";
const LOST: &str = "00000000000001";

/// A configuration that reports, with these rules and these further keys of `report`.
fn config(sampling: Value, report: Value) -> Value {
    let mut config = json!({"sampling": sampling, "report": {"cluster": "collector"}});
    let Value::Object(report) = report else {
        panic!("an object");
    };
    for (key, value) in report {
        config["report"][key] = value;
    }
    config
}

fn start(binary: &EnvoyBinary, config: Value) -> Collected {
    let listener = Listener::http("ingress", manager(mesh_tracing(config)));
    Collected::with(binary, "http/protobuf", Bootstrap::new().listener(listener))
}

/// A request whose trace is to be recorded whatever the rules say: it is the last span to come.
fn last(path: &str) -> (Request, String) {
    let caller = Caller::fresh();
    let value = format!("00-{}-{SPAN}-01", caller.trace_id);
    (
        Request::get(path).header("traceparent", value),
        caller.trace_id,
    )
}

/// All spans but those of a last request, which is sent and waited for: spans of one worker arrive in
/// their order.
fn exported(mesh: &Collected, hops: usize) -> Vec<Span> {
    let (request, trace_id) = last("/last");
    mesh.send(&request);
    mesh.sink
        .wait_for_trace(&trace_id, hops)
        .expect("the last request's spans");
    let spans = mesh.sink.spans();
    mesh.sink.clear();
    spans
        .into_iter()
        .filter(|span| span.trace_id != trace_id)
        .collect()
}

fn tracestate(request: &RecordedRequest) -> String {
    let lines = request.header_values("tracestate");
    assert!(lines.len() <= 1, "{lines:?}");
    request.header_text("tracestate").unwrap_or_default()
}

/// The one request that the upstream saw.
fn seen(mesh: &Collected) -> RecordedRequest {
    let mut requests = mesh.upstream.take();
    assert_eq!(requests.len(), 1, "{requests:#?}");
    requests.remove(0)
}

fn assert_sound(mesh: &Collected, what: &str) {
    for counter in ["host_errors", "route_sampling.edits_dropped"] {
        assert_eq!(mesh.counter(counter), 0, "{what}: {counter}");
    }
}

/// The part of 200 random ids that is kept: six standard deviations are exceeded less than once in
/// ten million times.
fn assert_about(found: usize, ratio: f64, count: u32, what: &str) {
    let found = f64::from(u32::try_from(found).expect("a number"));
    let expected = ratio * f64::from(count);
    let limit = 6.0 * (expected * (1.0 - ratio)).sqrt();
    assert!((found - expected).abs() <= limit, "{what}: {found}");
}

#[test]
fn a_trace_that_starts_here_follows_its_rule_by_its_id_at_both_hops() {
    const COUNT: u32 = 200;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let rules = json!({"rules": [
            {"name": "probes", "match": {"path": {"exact": "/health"}}, "sample": "never"},
            {"name": "payments", "match": {"path": {"prefix": "/payments"}}, "sample": "always"},
            {"name": "plain", "match": {"path": {"exact": "/plain"}}, "sample": "unchanged"},
        ], "default": {"ratio": 0.25}});
        // The next hop keeps an eighth of all traces, of those that come in recorded.
        let eighth = json!({"parent": "respect_dropped", "rules": [
            {"match": {"path": {"exact": "/last"}}, "sample": "unchanged"},
        ], "default": {"ratio": 0.125}});
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let inbound = manager(mesh_tracing(config(eighth, json!({}))));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("inbound", inbound))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let sidecar = Envoy::start(envoy, bootstrap).expect("a sidecar");
        let sidecar_address = sidecar.address("inbound").expect("its address");
        let middle = manager(mesh_tracing(config(rules, json!({}))));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", middle))
            .cluster(Cluster::http1("upstream", sidecar_address))
            .cluster(collector("http/protobuf", &sink));
        let gateway = Envoy::start(envoy, bootstrap).expect("a gateway");
        let address = gateway.address("ingress").expect("its address");
        let mut connection = Connection::open(address).expect("a connection");

        let mut send = |path: &str, count: u32| {
            for _ in 0..count {
                connection.send(&Request::get(path)).expect("a response");
            }
            upstream.take()
        };
        let orders = send("/orders?page=2", COUNT);
        let health = send("/health", 5);
        let payments = send("/payments/7", 5);
        let plain = send("/plain", 5);
        let (request, last) = last("/last");
        connection.send(&request).expect("a response");
        sink.wait_for_trace(&last, 2).expect("the last spans");
        let spans = sink.spans();
        let of_gateway = |span: &&Span| span.parent_span_id.is_none();

        // At the first hop a quarter, at the next an eighth, each by the id alone.
        let mut quarter = BTreeSet::new();
        let mut told = BTreeSet::new();
        for request in &orders {
            let [trace_id, _, flags] = traceparent(request);
            if trace_id[18..] >= *"c0000000000000" {
                quarter.insert(trace_id.clone());
            }
            let is_kept = trace_id[18..] >= *"e0000000000000";
            assert_eq!(flags == "01", is_kept, "{version}: {trace_id}");
            let expected = if is_kept { "ot=th:e" } else { "" };
            assert_eq!(tracestate(request), expected, "{version}: {trace_id}");
            if is_kept {
                told.insert(trace_id);
            }
        }
        assert_about(quarter.len(), 0.25, COUNT, version);
        let of_orders = |span: &&Span| span.attribute("url.path") == Some("/orders");
        let orders_of = |first: bool, state: &str| -> BTreeSet<String> {
            let spans = spans.iter().filter(of_orders);
            let spans = spans.filter(|span| of_gateway(span) == first);
            spans
                .map(|span| {
                    assert_eq!(span.trace_state, state, "{version}");
                    span.trace_id.clone()
                })
                .collect()
        };
        assert_eq!(orders_of(true, "ot=th:c"), quarter, "{version}");
        assert_eq!(orders_of(false, "ot=th:e"), told, "{version}");

        for request in health {
            assert_eq!(traceparent(&request)[2], "00", "{version}");
            assert_eq!(tracestate(&request), "", "{version}");
        }
        assert!(
            !spans
                .iter()
                .any(|span| span.attribute("url.path") == Some("/health")),
            "{version}"
        );
        let is_payment = |span: &&Span| span.attribute("url.path") == Some("/payments/7");
        let first = spans.iter().filter(is_payment).filter(of_gateway);
        let first: Vec<_> = first.collect();
        assert_eq!((first.len(), payments.len()), (5, 5), "{version}");
        assert!(first.iter().all(|span| span.trace_state == "ot=th:0"));
        for request in plain {
            let [trace_id, ..] = traceparent(&request);
            let exported = spans
                .iter()
                .find(|span| span.trace_id == trace_id && span.parent_span_id.is_none());
            let expected = trace_id[18..] >= *"fd70a400000000";
            assert_eq!(exported.is_some(), expected, "{version}: one in a hundred");
        }

        let counter = |name: &str| {
            let name = format!("wasmcustom.meshtrace.route_sampling.{name}");
            gateway.stat(&name).expect("a counter")
        };
        assert_eq!(counter("rule.payments.sampled"), 5, "{version}");
        assert_eq!(counter("rule.probes.dropped"), 5, "{version}");
        assert_eq!(counter("rule.plain.unchanged"), 5, "{version}");
        let kept = u64::try_from(quarter.len()).expect("a number");
        assert_eq!(counter("default.sampled"), kept, "{version}");
        assert_eq!(counter("default.dropped"), u64::from(COUNT) - kept);
        assert_eq!(counter("parent.sampled"), 1, "{version}: the last one");
        for envoy in [&gateway, &sidecar] {
            let errors = envoy.stat("wasmcustom.meshtrace.host_errors");
            assert_eq!(errors.expect("a counter"), 0, "{version}");
        }
    });
}

#[test]
fn every_parent_policy_is_in_force_for_this_hops_span_and_for_the_next_hop() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let policies = ["respect", "ignore", "respect_sampled", "respect_dropped"];
        let listener = |policy: &str| {
            let sampling = json!({"parent": policy, "default": {"ratio": 0.5}});
            let config = config(sampling, json!({"resource": {"service.name": policy}}));
            let mut filter = config;
            filter["trace_context"] = json!({"inject": ["tracecontext", "b3"]});
            Listener::http(policy, manager(mesh_tracing(filter)))
        };
        let bootstrap = policies
            .into_iter()
            .map(listener)
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (i, (policy, randomness, flag, state, left, left_state)) in [
            ("respect", LOST, "01", "a=1", "01", "a=1"),
            ("respect", LOST, "01", "a=1,ot=th:8,b=2", "01", "a=1,b=2"),
            ("respect", LOST, "01", "ot=th:8", "01", ""),
            ("respect", LOST, "00", "a=1,ot=th:8", "00", "a=1,ot=th:8"),
            ("ignore", LOST, "01", "a=1,ot=th:0;x:1", "00", "ot=x:1,a=1"),
            ("ignore", KEPT, "00", "a=1,b=2", "01", "ot=th:8,a=1,b=2"),
            (
                "ignore",
                LOST,
                "00",
                "a=1,ot=rv:ffffffffffffff",
                "01",
                "ot=th:8;rv:ffffffffffffff,a=1",
            ),
            ("ignore", KEPT, "01", "ot=th:c,a=1", "01", "ot=th:8,a=1"),
            ("respect_sampled", LOST, "01", "ot=th:0", "01", "ot=th:0"),
            ("respect_sampled", KEPT, "00", "a=1", "01", "ot=th:8,a=1"),
            ("respect_sampled", LOST, "00", "a=1", "00", "a=1"),
            ("respect_dropped", KEPT, "00", "a=1", "00", "a=1"),
            ("respect_dropped", LOST, "01", "a=1", "00", "a=1"),
            ("respect_dropped", KEPT, "01", "ot=th:c", "01", "ot=th:c"),
            ("respect_dropped", KEPT, "01", "ot=th:4", "01", "ot=th:8"),
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("{policy}, {randomness}, {flag}, {state} on {version}");
            let id = format!("4bf92f3577b34da6{i:02x}{randomness}");
            let request = Request::get("/")
                .header("traceparent", format!("00-{id}-{SPAN}-{flag}"))
                .header("tracestate", state);
            let address = mesh.envoy.address(policy).expect("its address");
            request.send(address).expect("a response");
            let told = seen(&mesh);
            let [trace_id, span_id, flags] = traceparent(&told);
            assert_eq!((&trace_id, flags.as_str()), (&id, left), "{what}");
            assert_eq!(tracestate(&told), left_state, "{what}");
            let b3 = format!("{id}-{span_id}-{}-{SPAN}", &left[1..]);
            assert_eq!(told.header_text("b3"), Some(b3), "{what}");
            if left == "01" {
                let spans = mesh.sink.wait_for_trace(&id, 1).expect("a span");
                assert_eq!(spans.len(), 1, "{what}");
                let span = &spans[0];
                assert_eq!(span.service, policy, "{what}");
                assert_eq!(span.span_id, span_id, "{what}");
                assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{what}");
                assert_eq!(span.trace_state, left_state, "{what}");
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            mesh.sink.spans().len(),
            10,
            "{version}: no other was exported"
        );
        assert_sound(&mesh, version);
    });
}

#[test]
fn only_the_operators_secret_forces_and_no_hop_sees_it() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling =
            json!({"default": "never", "force": {"header": "x-force", "value_env": "FORCE"}});
        // Until 1.39 the environment is no part of what tells VMs apart.
        let filter = mesh_tracing(config(sampling, json!({})))
            .env("FORCE", "hunter2")
            .vm_id("with-key");
        let listener = Listener::http("ingress", manager(filter));
        let bootstrap = Bootstrap::new().listener(listener);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (secret, parent, forced) in [
            (Some("hunter2"), None, true),
            (Some("hunter3"), None, false),
            (None, None, false),
            (Some("hunter2"), Some("00"), true),
            (Some("hunter3"), Some("00"), false),
        ] {
            let caller = Caller::fresh();
            let mut request = Request::get("/").header("tracestate", "ot=th:8,a=1");
            if let Some(secret) = secret {
                request = request.header("x-force", secret);
            }
            if let Some(flags) = parent {
                let value = format!("00-{}-{SPAN}-{flags}", caller.trace_id);
                request = request.header("traceparent", value);
            }
            mesh.send(&request);
            let what = format!("{secret:?} {parent:?} on {version}");
            let told = seen(&mesh);
            assert_eq!(told.header_text("x-force"), None, "{what}");
            let [trace_id, span_id, flags] = traceparent(&told);
            assert_eq!(flags == "01", forced, "{what}");
            let spans = exported(&mesh, 1);
            mesh.upstream.take();
            assert_eq!(spans.len(), usize::from(forced), "{what}");
            for span in spans {
                assert_eq!((&span.trace_id, &span.span_id), (&trace_id, &span_id));
                // Who forces a trace gives it no probability.
                let expected = if parent.is_some() { "a=1" } else { "" };
                assert_eq!(span.trace_state, expected, "{what}");
                assert_eq!(tracestate(&told), expected, "{what}");
            }
        }
        assert_eq!(mesh.counter("route_sampling.force.sampled"), 2, "{version}");
        assert_eq!(mesh.counter("route_sampling.force.refused"), 2, "{version}");
        assert_sound(&mesh, version);
    });
}

#[test]
fn a_never_rule_wins_over_keep() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"rules": [
            {"match": {"path": {"template": "/users/{id}/photo"}}, "sample": {"ratio": 0.000_001}},
            {"match": {"path": {"prefix": "/health"}}, "sample": "never"},
        ], "default": "never"});
        let mesh = start(envoy, config(sampling, json!({})));
        mesh.upstream.respond_with(|_| Reply::status(500));
        let dropped = |caller: &Caller, path: &str| {
            let value = format!("00-{}-{SPAN}-00", caller.trace_id);
            Request::get(path)
                .header("traceparent", value)
                .header("tracestate", "a=1,ot=th:c")
        };
        for path in ["/health", "/health/live"] {
            mesh.send(&Request::get(path));
            mesh.send(&dropped(&Caller::fresh(), path));
        }
        assert!(exported(&mesh, 1).is_empty(), "{version}");
        assert_eq!(mesh.counter("report.kept"), 0, "{version}");
        for path in ["/users/7/photo", "/else"] {
            for caller in [None, Some(Caller::fresh())] {
                mesh.upstream.take();
                match &caller {
                    None => mesh.send(&Request::get(path)),
                    Some(caller) => mesh.send(&dropped(caller, path)),
                };
                let what = format!("{path} on {version}");
                assert_eq!(traceparent(&seen(&mesh))[2], "00", "{what}");
                let spans = exported(&mesh, 1);
                let [span] = spans.as_slice() else {
                    panic!("{what}: {spans:#?}");
                };
                assert_eq!(span.attribute("meshtrace.kept"), Some("error"), "{what}");
                assert_eq!(span.trace_state, "", "{what}: no probability is claimed");
                let route = (path != "/else").then_some("/users/{id}/photo");
                assert_eq!(span.attribute("http.route"), route, "{what}");
                let name = route.map_or("GET".to_owned(), |route| format!("GET {route}"));
                assert_eq!(span.name, name, "{what}");
            }
        }
        assert_sound(&mesh, version);
    });
}

#[test]
fn what_envoy_answers_itself_is_decided_by_the_same_rules() {
    let deny = HttpFilter::raw(
        "deny",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [{"url_path": {"path": {"prefix": "/denied"}}}],
                "principals": [{"any": true}],
            }}},
        }),
    );
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"rules": [
            {"name": "template", "match": {"path": {"template": "/denied/{id}"}}, "sample": "always"},
            {"name": "never", "match": {"path": {"prefix": "/denied/never"}}, "sample": "never"},
            {"name": "rate", "match": {"path": {"prefix": "/denied/rate"}}, "sample": {"per_second": 1}},
            {"name": "route", "match": {"route": "checkout"}, "sample": "always"},
            {"name": "cluster", "match": {"cluster": "ledger"}, "sample": "always"},
            {"name": "direct", "match": {"path": {"exact": "/direct"}}, "sample": "always"},
        ], "default": "never",
           "force": {"header": "x-force", "value_env": "FORCE"}});
        let filter = mesh_tracing(config(sampling, json!({})))
            .env("FORCE", "hunter2")
            .vm_id("with-key");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(
                Route::prefix("/denied/checkout/")
                    .cluster("upstream")
                    .name("checkout"),
            )
            .route(Route::prefix("/denied/ledger/").cluster("ledger"))
            .route(Route::prefix("/").cluster("upstream"))
            .filter(deny.clone())
            .filter(filter);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1(
                "ledger",
                "127.0.0.1:9".parse().expect("an address"),
            ));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (path, secret, status, rule, state) in [
            (
                "/denied/7",
                None,
                403,
                "rule.template.sampled",
                Some("ot=th:0"),
            ),
            ("/denied/never/x", None, 403, "rule.never.dropped", None),
            ("/denied/rate/x", None, 403, "rule.rate.sampled", Some("")),
            (
                "/denied/checkout/x",
                None,
                403,
                "rule.route.sampled",
                Some("ot=th:0"),
            ),
            (
                "/denied/ledger/x",
                None,
                403,
                "rule.cluster.sampled",
                Some("ot=th:0"),
            ),
            ("/denied/x/y", None, 403, "default.dropped", None),
            (
                "/denied/never/x",
                Some("hunter2"),
                403,
                "force.sampled",
                Some(""),
            ),
            ("/direct", None, 404, "rule.direct.sampled", Some("ot=th:0")),
        ] {
            let mut request = Request::get(path);
            if let Some(secret) = secret {
                request = request.header("x-force", secret);
            }
            let what = format!("{path} on {version}");
            let counter = format!("route_sampling.{rule}");
            let before = mesh.counter(&counter);
            assert_eq!(mesh.send(&request).status, status, "{what}");
            let spans = exported(&mesh, 1);
            mesh.wait_for_counter(&counter, before + 1);
            let states: Vec<_> = spans.iter().map(|span| span.trace_state.as_str()).collect();
            assert_eq!(states, Vec::from_iter(state), "{what}");
            for span in &spans {
                let status = status.to_string();
                let code = span.attribute("http.response.status_code");
                assert_eq!(code, Some(status.as_str()), "{what}");
                let route = (path == "/denied/7").then_some("/denied/{id}");
                assert_eq!(span.attribute("http.route"), route, "{what}");
            }
        }
        assert!(mesh.upstream.take().len() >= 8, "{version}: the last ones");
        assert_sound(&mesh, version);
    });
}

#[test]
fn rules_may_name_envoys_route_and_cluster() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"rules": [
            {"match": {"route": "checkout"}, "sample": "always"},
            {"match": {"cluster": "ledger", "host": "*.example"}, "sample": "always"},
        ], "default": "never"});
        let upstream = Upstream::start().expect("an upstream");
        // Properties of attributes stand before those of the rules.
        let mut config = config(sampling, json!({}));
        config["span_attributes"] = json!({"attributes": [
            {"key": "shop.cluster", "from": {"property": ["xds", "cluster_name"]}},
        ]});
        let manager = HttpConnectionManager::new()
            .route(
                Route::prefix("/checkout")
                    .cluster("upstream")
                    .name("checkout"),
            )
            .route(Route::prefix("/ledger").cluster("ledger"))
            .route(Route::prefix("/").cluster("upstream"))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("ledger", upstream.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (path, host, cluster) in [
            ("/checkout", "shop.test", Some("upstream")),
            ("/ledger", "Pay.Example:8080", Some("ledger")),
            ("/ledger", "pay.test", None),
            ("/", "pay.example", None),
        ] {
            mesh.send(&Request::get(path).header("host", host));
            let spans = exported(&mesh, 1);
            let clusters: Vec<_> = spans
                .iter()
                .map(|span| span.attribute("shop.cluster"))
                .collect();
            let expected: Vec<_> = cluster.map(Some).into_iter().collect();
            assert_eq!(clusters, expected, "{path} {host} on {version}");
        }
        assert_sound(&mesh, version);
    });
}

#[test]
fn the_route_is_the_template_on_the_server_and_on_the_client_span() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut config = config(
            json!({"rules": [
                {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
            ], "default": "always"}),
            json!({"role": "gateway"}),
        );
        config["span_attributes"] = json!({"attributes": [
            {"key": "order.id", "from": {"path": "/orders/{id}/**", "capture": "id"}},
        ]});
        let mesh = start(envoy, config);
        for (path, route) in [
            ("/users/7?token=1", Some("/users/{id}")),
            ("/orders/7/items", Some("/orders/{id}/**")),
            ("/else", None),
        ] {
            mesh.send(&Request::get(path));
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            let what = format!("{path} on {version}");
            assert_eq!(spans.len(), 2, "{what}: {spans:#?}");
            let name = route.map_or("GET".to_owned(), |route| format!("GET {route}"));
            let named = |kind, other: &str| {
                let span = expect::span().of_kind(kind).named(&name);
                span.without(other).at(&what)
            };
            let server = named(SpanKind::Server, "url.template").find_in(&spans);
            let client = named(SpanKind::Client, "http.route").child_of(server);
            let client = client.find_in(&spans);
            assert_eq!(server.attribute("http.route"), route, "{what}");
            assert_eq!(client.attribute("url.template"), route, "{what}");
            for span in &spans {
                assert_eq!(span.trace_state, "ot=th:0", "{what}");
            }
        }
        assert_sound(&mesh, version);
    });
}

/// Two workers: the bucket is one for both.
#[test]
fn the_workers_of_a_proxy_share_one_bucket() {
    const RATE: u64 = 20;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"default": {"per_second": RATE}});
        let upstream = Upstream::start().expect("an upstream");
        let sink = OtlpSink::start().expect("a collector");
        let filter = mesh_tracing(config(sampling, json!({})));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager(filter)))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let envoy =
            Envoy::start_with(envoy, bootstrap, Options::new().concurrency(2)).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");
        let begin = Instant::now();
        let senders: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut connection = Connection::open(address).expect("a connection");
                    for _ in 0..100 {
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
        assert_eq!(kept + dropped, 800, "{version}");
        assert_eq!(counter("per_second.failed"), 0, "{version}");
        assert!(
            kept >= RATE && kept <= RATE * (seconds + 1),
            "{version}: {kept}"
        );
        let told = upstream.take().into_iter().filter_map(|request| {
            let [trace_id, _, flags] = traceparent(&request);
            assert_eq!(tracestate(&request), "", "{version}: no probability");
            (flags == "01").then_some(trace_id)
        });
        let told: BTreeSet<_> = told.collect();
        assert_eq!(u64::try_from(told.len()).ok(), Some(kept), "{version}");
        let spans = sink.wait_for_spans(told.len()).expect("the spans");
        let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
        assert_eq!(
            (traces, spans.len()),
            (told.clone(), told.len()),
            "{version}"
        );
    });
}

/// Without `report` the proxy's own tracer follows, as it does `route_sampling`.
#[test]
fn before_the_proxys_own_tracer_it_is_the_single_filter() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"extract": ["tracecontext"], "rules": [
            {"name": "keep", "match": {"path": {"prefix": "/keep"}}, "sample": "always"},
        ], "default": "never"});
        let typed: SamplingConfig =
            serde_json::from_value(sampling.clone()).expect("a configuration");
        let settings = sampling_settings(&typed, RenderTracer::OpenTelemetry).expect("settings");
        let sinks = Sinks::start();
        let manager = HttpConnectionManager::new()
            .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
            .virtual_host(settings.virtual_host)
            .merge(settings.manager)
            .route(Route::prefix("/").cluster("upstream"))
            .filter(mesh_tracing(json!({"sampling": sampling})));
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http("ingress", manager));
        let mesh = common::Mesh::with(envoy, bootstrap);
        let mut connection = mesh.connect("ingress");
        for (path, kept) in [("/drop", false), ("/keep/it", true)] {
            let told = mesh.pass(&mut connection, &Request::get(path).header(CASE, path));
            let [trace_id, _, flags] = traceparent(&told);
            assert_eq!(flags == "01", kept, "{path} on {version}");
            assert_eq!(told.header_text("x-envoy-force-trace"), None, "{version}");
            if kept {
                sinks.spans(Tracer::OpenTelemetry, &trace_id, path, 1);
            }
        }
        assert!(sinks.arrived("/drop").is_empty(), "{version}");
        let counter = "wasmcustom.meshtrace.route_sampling.rule.keep.sampled";
        assert_eq!(mesh.envoy.stat(counter).expect("a counter"), 1, "{version}");
    });
}
