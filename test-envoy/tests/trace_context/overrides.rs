//! `overrides`: what a destination gets that is told something else than the rest, on every
//! supported Envoy.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Upstream};
use meshtrace_propagation::Field;
use meshtrace_test_support::common::{self, Mesh, get, trace_context, trace_headers};
use meshtrace_test_support::tracers::{Caller, Reader, Sinks, Tracer};
use serde_json::json;

/// Every request is refused twice, so it takes this many attempts.
const ATTEMPTS: usize = 3;

/// Nothing that a tracer, a filter or a caller knows a trace by.
const NOTHING: &str = r#""inject": [], "clear": ["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray",
    "gcp", "datadog", "grpc-trace-bin", "sw8", "x-ot-span-context", "baggage"]"#;

/// Whatever can carry a trace, or what belongs to one.
fn told(request: &RecordedRequest) -> Vec<String> {
    let names = request.headers.iter();
    let names = names.map(|(name, _)| String::from_utf8_lossy(name).to_lowercase());
    let is_trace = |name: &String| {
        let prefixes = ["baggage", "uberctx-", "ot-baggage-"];
        Field::from_name(name.as_bytes()).is_some()
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    names.filter(is_trace).collect()
}

fn request(path: &str, caller: &Caller, headers: &[&str]) -> Request {
    headers.iter().fold(Request::get(path), |request, line| {
        let (name, value) = line.split_once(": ").expect("a header line");
        request.header(name, caller.fill(value))
    })
}

/// Refuses each request twice.
fn refuse_twice(upstream: &Upstream) {
    let count = AtomicUsize::new(1);
    upstream.respond_with(
        move |_| match count.fetch_add(1, Ordering::SeqCst) % ATTEMPTS {
            0 => Reply::ok(),
            _ => Reply::status(503),
        },
    );
}

fn on_every_envoy(promise: impl Fn(&EnvoyBinary) + Sync) {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        for envoy in &envoys {
            scope.spawn(|| promise(envoy));
        }
    });
}

/// Everything that a caller may send about its trace.
const EVERYTHING: [&str; 22] = [
    "traceparent: 00-$T-$S-01",
    "tracestate: a=1",
    "b3: $T-$S-1",
    "x-b3-traceid: $T",
    "x-b3-spanid: $S",
    "x-b3-parentspanid: $V",
    "x-b3-sampled: 1",
    "uber-trace-id: $T:$S:0:1",
    "ot-tracer-traceid: $T",
    "ot-tracer-spanid: $S",
    "ot-tracer-sampled: true",
    "x-amzn-trace-id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=$S;Sampled=1",
    "x-cloud-trace-context: $T/1;o=1",
    "x-datadog-trace-id: 1234",
    "x-datadog-parent-id: 5678",
    "x-datadog-origin: rum",
    "x-datadog-tags: _dd.p.dm=-1",
    "sw8: 1-a-b-3-c-d-e-f",
    "x-ot-span-context: opaque",
    "baggage: user=1",
    "uberctx-user: 1",
    "ot-baggage-user: 1",
];

#[test]
fn behind_every_tracer_nothing_leaves_to_the_cluster_that_is_named() {
    let requests: [&[&str]; 8] = [
        &[],
        &EVERYTHING,
        &["traceparent: 00-$T-$S-01", "tracestate: a=1"],
        &["tracestate: a=1"],
        &["b3: $T-$S-1-$V"],
        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-flags: 1"],
        &["b3: junk", "traceparent: junk", "tracestate: junk"],
        &["b3: 0"],
    ];
    on_every_envoy(|binary| {
        let sinks = Sinks::start();
        let partner = Upstream::start().expect("an upstream");
        let listeners = Tracer::ALL.into_iter().flat_map(|tracer| {
            [true, false].map(|spawn| {
                let filter = trace_context(&format!(
                    r#"{{"placement": "upstream", "tracer": "{}", "inject": ["tracecontext", "b3", "b3multi"],
                        "overrides": [{{"cluster": "partner", {NOTHING}}}]}}"#,
                    tracer.writes()
                ));
                let manager = HttpConnectionManager::new()
                    .route(Route::prefix("/partner").cluster("partner").retry("5xx", 5))
                    .route(Route::prefix("/").cluster("upstream").retry("5xx", 5))
                    .upstream_filter(filter);
                let manager = match tracer.tracing() {
                    Some(tracing) => manager.tracing(
                        tracing.spawn_upstream_span(spawn).random_sampling(100.0),
                    ),
                    None => manager,
                };
                Listener::http(&format!("{tracer:?} {spawn}"), manager)
            })
        });
        let bootstrap = listeners.fold(Bootstrap::new(), Bootstrap::listener);
        let bootstrap = bootstrap.cluster(Cluster::http1("partner", partner.address()));
        let mesh = Mesh::with(binary, sinks.connect(bootstrap));
        refuse_twice(&partner);
        refuse_twice(&mesh.upstream);
        for tracer in Tracer::ALL {
            for spawn in [true, false] {
                let listener = format!("{tracer:?} {spawn}");
                for headers in requests {
                    let case = format!("{} {listener} {headers:?}", binary.reported_version());
                    let caller = Caller::fresh();
                    let mut connection = mesh.connect(&listener);
                    let mut send = |path: &str| {
                        let request = request(path, &caller, headers);
                        let response = connection.send(&request).expect("a response");
                        assert_eq!(response.status, 200, "{case}");
                    };
                    send("/partner");
                    let attempts = partner.take();
                    assert_eq!(attempts.len(), ATTEMPTS, "{case}");
                    for attempt in attempts {
                        assert_eq!(told(&attempt), Vec::<String>::new(), "{case}");
                    }
                    // The same request to another cluster carries the trace in every format.
                    send("/");
                    let attempts = mesh.upstream.take();
                    assert_eq!(attempts.len(), ATTEMPTS, "{case}");
                    let is_traced = tracer != Tracer::None && !headers.contains(&"b3: junk")
                        || headers.contains(&"traceparent: 00-$T-$S-01");
                    for attempt in attempts {
                        let read = Reader::ALL.map(|reader| reader.read(&attempt));
                        let everywhere = read.iter().all(|told| *told == read[0]);
                        if is_traced {
                            assert!(everywhere && read[0].is_some(), "{case}: {read:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(
            mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

/// The trace headers of one request for `host` to `listener`.
fn left(mesh: &Mesh, listener: &str, host: &str) -> Vec<String> {
    let request = get(&[("traceparent", &traceparent())]).without_host();
    let request = request.header("host", host);
    trace_headers(&mesh.pass(&mut mesh.connect(listener), &request))
}

fn traceparent() -> String {
    format!("00-{}-{}-01", common::TRACE, common::SPAN)
}

#[test]
fn a_host_is_matched_as_it_leaves() {
    let filter = || -> HttpFilter {
        trace_context(
            r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["tracecontext"],
                "overrides": [
                    {"host": "Partner.example.com", "inject": [], "clear": ["tracecontext"]},
                    {"host": "*.b3.example.com", "inject": ["b3"]}
                ]}"#,
        )
        .into()
    };
    let manager = |action| {
        HttpConnectionManager::new()
            .route(Route::prefix("/").action("route", action))
            .upstream_filter(filter())
    };
    on_every_envoy(|binary| {
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("as sent", manager(json!({"cluster": "upstream"}))))
            .listener(Listener::http(
                "rewritten",
                manager(json!({"cluster": "upstream", "host_rewrite_literal": "partner.example.com:443"})),
            ));
        let mesh = Mesh::with(binary, bootstrap);
        let traced = vec![format!("traceparent: {}", traceparent())];
        let nothing: Vec<String> = Vec::new();
        let b3 = format!("b3: {}-{}-1", common::TRACE, common::SPAN);
        for (listener, host, expected) in [
            ("as sent", "other.example.com", &traced),
            ("as sent", "partner.example.com", &nothing),
            ("as sent", "PARTNER.example.COM:8443", &nothing),
            ("as sent", "partner.example.com.", &nothing),
            ("as sent", "b3.example.com", &traced),
            ("as sent", "a.b3.example.com", &vec![b3, traced[0].clone()]),
            ("rewritten", "other.example.com", &nothing),
        ] {
            let version = binary.reported_version();
            assert_eq!(
                left(&mesh, listener, host),
                *expected,
                "{listener}, {host} on {version}"
            );
        }
    });
}

/// `:authority` is taken from the endpoint when there is a connection to it, which is after the
/// filter.
#[test]
fn a_host_that_is_taken_from_the_endpoint_is_not_matched_and_its_cluster_is() {
    let nothing = r#""inject": [], "clear": ["tracecontext", "b3multi"]"#;
    let manager = |destination: &str| {
        let filter = trace_context(&format!(
            r#"{{"placement": "upstream", "tracer": "tracecontext", "overrides": [{{{destination}, {nothing}}}]}}"#
        ));
        let action = json!({"cluster": "endpoint", "auto_host_rewrite": true});
        HttpConnectionManager::new()
            .route(Route::prefix("/").action("route", action))
            .upstream_filter(filter)
    };
    on_every_envoy(|binary| {
        let endpoint = Upstream::start().expect("an upstream");
        let cluster = Cluster::http1("endpoint", endpoint.address()).merge(json!({
            "type": "STRICT_DNS",
            "dns_lookup_family": "V4_ONLY",
            "load_assignment": {"cluster_name": "endpoint", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "hostname": "partner.example.com",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": endpoint.address().port()}},
            }}]}]},
        }));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http(
                "host",
                manager(r#""host": "partner.example.com""#),
            ))
            .listener(Listener::http(
                "cluster",
                manager(r#""cluster": "endpoint""#),
            ))
            .cluster(cluster);
        let mesh = Mesh::with(binary, bootstrap);
        for (listener, count) in [("host", 4), ("cluster", 0)] {
            let request = get(&[("traceparent", &traceparent())]);
            let response = mesh.connect(listener).send(&request).expect("a response");
            assert_eq!(response.status, 200);
            let arrived = endpoint.take();
            let version = binary.reported_version();
            assert_eq!(
                arrived[0].header_text("host").as_deref(),
                Some("partner.example.com")
            );
            assert_eq!(
                trace_headers(&arrived[0]).len(),
                count,
                "{listener} on {version}"
            );
        }
    });
}

/// Downstream it holds where no tracer writes after the filter; Envoy's log says so at the start.
#[test]
fn downstream_an_override_holds_without_a_tracer_and_the_log_says_so() {
    on_every_envoy(|binary| {
        let sinks = Sinks::start();
        let partner = Upstream::start().expect("an upstream");
        let manager = || {
            let filter = trace_context(&format!(
                r#"{{"overrides": [{{"cluster": "partner", {NOTHING}}}]}}"#
            ));
            HttpConnectionManager::new()
                .route(Route::prefix("/partner").cluster("partner"))
                .route(Route::prefix("/").cluster("upstream"))
                .filter(filter)
        };
        let tracing = Tracer::OpenTelemetry.tracing().expect("a tracer");
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("plain", manager()))
            .listener(Listener::http(
                "traced",
                manager().tracing(tracing.random_sampling(100.0)),
            ))
            .cluster(Cluster::http1("partner", partner.address()));
        let mesh = Mesh::with(binary, sinks.connect(bootstrap));
        let caller = Caller::fresh();
        let send = |listener: &str, path: &str| {
            let request = request(path, &caller, &EVERYTHING);
            let response = mesh.connect(listener).send(&request).expect("a response");
            assert_eq!(response.status, 200);
        };
        send("plain", "/partner");
        assert_eq!(told(&partner.take()[0]), Vec::<String>::new());
        send("plain", "/");
        assert!(told(&mesh.upstream.take()[0]).len() >= EVERYTHING.len());

        // What the tracer writes then is the tracer's.
        send("traced", "/partner");
        assert_eq!(told(&partner.take()[0]), ["traceparent", "tracestate"]);
        mesh.envoy
            .wait_for_log("trace_context.overrides: beside this proxy's own tracer")
            .expect("a line of Envoy's log");
    });
}

/// It has a cluster of its own, and another host than the request itself.
#[test]
fn a_mirrored_request_is_matched_by_its_own_cluster() {
    let filter = || -> HttpFilter {
        trace_context(&format!(
            r#"{{"placement": "upstream", "tracer": "tracecontext", "overrides": [{{"cluster": "mirror", {NOTHING}}}]}}"#
        ))
        .into()
    };
    on_every_envoy(|binary| {
        for by_cluster in [false, true] {
            let mirror = Upstream::start().expect("an upstream");
            let cluster = Cluster::http1("mirror", mirror.address());
            let action =
                json!({"cluster": "upstream", "request_mirror_policies": [{"cluster": "mirror"}]});
            let manager =
                HttpConnectionManager::new().route(Route::prefix("/").action("route", action));
            let (manager, cluster) = match by_cluster {
                true => (manager, cluster.filter(filter())),
                false => (manager.upstream_filter(filter()), cluster),
            };
            let listener = Listener::http("ingress", manager);
            let mesh = Mesh::with(binary, Bootstrap::new().listener(listener).cluster(cluster));
            let request = get(&[("traceparent", &traceparent())]);
            let left = mesh.pass(&mut mesh.connect("ingress"), &request);
            assert!(told(&left).contains(&"traceparent".to_owned()));
            let mirrored = mirror.wait_for_requests(1).expect("a mirrored request");
            let case = format!("{}, {by_cluster}", binary.reported_version());
            assert_eq!(told(&mirrored[0]), Vec::<String>::new(), "{case}");
            let host = mirrored[0].header_text("host").expect("a host");
            assert!(host.contains("-shadow"), "{case}: {host}");
        }
    });
}
