//! `mesh_tracing.wasm` and applications with an SDK report to one real OpenTelemetry Collector;
//! what it exports is compared span by span. `make test-mesh` builds the Collector and runs these.

mod process;
mod shop;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::TrafficDirection;
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{OtlpSink, Span, SpanKind, Upstream, WAIT_LIMIT, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE, envoys, get};
use serde_json::{Value, json};

use self::process::Collector;
use self::shop::{
    PYTHON, REQUEST_ID, Shop, TRACE_STATE, address, counter, dropped, proxy, resource,
};

#[path = "../../../demo/apps.rs"]
mod apps;

const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];

/// Who reported a span, and what it is.
fn told(span: &Span) -> (&str, &str, SpanKind, &str) {
    let sdk = &span.resource["telemetry.sdk.name"];
    (sdk, &span.service, span.kind, &span.name)
}

const PROXY: &str = "meshtrace";
const SDK: &str = "opentelemetry";
/// The order in which a request passes them.
const STATIONS: [(&str, &str, SpanKind, &str); 11] = [
    (PROXY, "gateway.shop", SpanKind::Server, "GET"),
    (PROXY, "gateway.shop", SpanKind::Client, "GET"),
    (PROXY, "storefront.shop", SpanKind::Server, "GET"),
    (SDK, "storefront", SpanKind::Server, "GET /checkout"),
    (SDK, "storefront", SpanKind::Client, "GET"),
    (PROXY, "storefront.shop", SpanKind::Client, "GET"),
    (PROXY, "payments.shop", SpanKind::Server, "GET"),
    (SDK, "payments", SpanKind::Server, "GET /charge"),
    (SDK, "payments", SpanKind::Client, "GET"),
    (PROXY, "payments.shop", SpanKind::Client, "GET"),
    (SDK, "storefront", SpanKind::Server, "GET /order"),
];

#[test]
#[ignore = "needs a Collector and Python: `make test-mesh`"]
fn gateway_sidecars_and_applications_are_one_trace() {
    // A propagator that carries `tracestate`, and one that does not.
    for (protocol, propagator) in PROTOCOLS.into_iter().zip(["tracecontext", "b3multi"]) {
        each_supported(|envoy| {
            let at = format!("{} {protocol}", envoy.reported_version());
            let sink = OtlpSink::start().expect("a sink");
            let collector = Collector::start(&sink);
            let logs = tempfile::tempdir().expect("a folder");
            let shop = Shop::open(envoy, &collector, protocol, propagator, &logs);
            let request = Request::get("/checkout?card=secret")
                .header("host", "shop.example.com:8443")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
                .header("tracestate", TRACE_STATE)
                .header("user-agent", "test/1.0")
                .header("x-request-id", REQUEST_ID)
                .header("x-tenant-id", "acme")
                .header("x-user-id", "zo\u{eb}");
            let response = request.send(address(&shop.gateway, "front"));
            assert_eq!(response.expect("a response").status, 200, "{at}");

            let spans = sink.wait_for_trace(TRACE, STATIONS.len()).expect("spans");
            // All of them came through the Collector, which encoded them anew.
            for export in sink.exports() {
                let agent = export.header_text("user-agent").unwrap_or_default();
                assert!(agent.contains("OpenTelemetry Collector"), "{at}: {agent}");
            }
            let chain = expect::chain(&spans, TRACE, SPAN);
            let stations: Vec<_> = chain.iter().map(|span| told(span)).collect();
            assert_eq!(stations, STATIONS, "{at}");
            for pair in chain.windows(2) {
                let child = expect::span().child_of(pair[0]).begun_during(pair[0]);
                child.at(&at).find_in(&spans);
            }
            for (nth, span) in chain.iter().enumerate() {
                let at = format!("{at} {nth}");
                assert!(span.start_unix_nanos < span.end_unix_nanos, "{at}");
                assert!(!span.status_error, "{at}");
                let carried = nth <= 2 || propagator == "tracecontext";
                let state = if carried { TRACE_STATE } else { "" };
                assert_eq!(span.trace_state, state, "{at}");
                if told(span).0 == PROXY {
                    let path = ["/checkout", "/charge", "/order"][nth / 4];
                    compare(span, shop.expected(nth, path), &at);
                    assert_eq!(span.resource, resource(&span.service), "{at}");
                }
            }
            // The caller's until an application leaves it out; then what the next proxy made, on
            // both sides of the call.
            let id = |nth: usize| chain[nth].attribute("http.request.header.x-request-id");
            let callers = format!("[\"{REQUEST_ID}\"]");
            assert_eq!([id(0), id(1), id(2)], [Some(callers.as_str()); 3], "{at}");
            assert!(id(5).is_some() && id(5) != id(0) && id(9) != id(5), "{at}");
            assert_eq!(id(6), id(5), "{at}");
            assert_lines_lead(&shop, &chain, &at);
            assert_types(&collector, &at);
            for envoy in [&shop.gateway, &shop.storefront, &shop.payments] {
                // The sink may have a span before its proxy has the Collector's answer.
                let exported = "wasmcustom.meshtrace.report.exported";
                let exported = envoy.wait_for_stat(exported, |count| count >= 2);
                assert_eq!(exported.expect("the answers"), 2, "{at}");
                assert_eq!(dropped(envoy), 0, "{at}");
                for name in ["report.retries", "report.malformed_answers", "host_errors"] {
                    assert_eq!(counter(envoy, name), 0, "{at} {name}");
                }
            }

            failures_are_kept(&shop, &sink, &at);
        });
    }
}

/// Every attribute, but that lengths and versions of others' making need only be there.
fn compare(span: &Span, expected: BTreeMap<String, String>, at: &str) {
    let mut found = span.attributes.clone();
    let id = found.remove("http.request.header.x-request-id");
    assert!(id.is_some(), "{at}");
    if span.kind == SpanKind::Server {
        let size = found.remove("http.response.body.size");
        let size: Option<u64> = size.and_then(|size| size.parse().ok());
        assert!(size > Some(0), "{at}: {size:?}");
    }
    if let Some(agent) = found.get_mut("user_agent.original")
        && agent.starts_with(PYTHON)
    {
        PYTHON.clone_into(agent);
    }
    assert_eq!(found, expected, "{at}");
}

fn list<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    value[key].as_array().into_iter().flatten().collect()
}

fn spans_of(resource: &Value) -> Vec<&Value> {
    let scopes = list(resource, "scopeSpans").into_iter();
    scopes.flat_map(|scope| list(scope, "spans")).collect()
}

/// The values of the proxies' spans and resources have the types of the semantic conventions, and
/// the flags say whether the parent is another's span.
fn assert_types(collector: &Collector, at: &str) {
    const NUMBERS: [&str; 7] = [
        "http.request.body.size",
        "http.response.body.size",
        "http.response.status_code",
        "network.peer.port",
        "server.port",
        "shard",
        "http.request.resend_count",
    ];
    let start = Instant::now();
    let resources = loop {
        let mut resources = Vec::new();
        for request in collector.typed.requests() {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            resources.extend(list(&body, "resourceSpans").into_iter().cloned());
        }
        if resources.iter().flat_map(spans_of).count() >= STATIONS.len() {
            break resources;
        }
        assert!(start.elapsed() < WAIT_LIMIT, "{at}: {resources:?}");
        thread::sleep(Duration::from_millis(20));
    };
    let mut flags = Vec::new();
    for resource in &resources {
        if resource["scopeSpans"][0]["scope"]["name"] != PROXY {
            continue;
        }
        let spans = spans_of(resource);
        let of_spans = spans.iter().flat_map(|span| list(span, "attributes"));
        for attribute in list(&resource["resource"], "attributes")
            .into_iter()
            .chain(of_spans)
        {
            let key = attribute["key"].as_str().expect("a key");
            let expected = match key {
                "canary" => "boolValue",
                "http.request.header.x-request-id" => "arrayValue",
                key if NUMBERS.contains(&key) => "intValue",
                _ => "stringValue",
            };
            assert!(
                attribute["value"].get(expected).is_some(),
                "{at}: {attribute}"
            );
        }
        flags.extend(spans.iter().filter_map(|span| span["flags"].as_u64()));
    }
    // Sampled, and known to have a parent elsewhere; but that a gateway's CLIENT span has its
    // SERVER span.
    flags.sort_unstable();
    assert_eq!(flags, [0x101, 0x301, 0x301, 0x301, 0x301, 0x301], "{at}");
}

/// The line of each proxy names its span; at a gateway the one that the upstream was told.
fn assert_lines_lead(shop: &Shop, chain: &[&Span], at: &str) {
    for (envoy, listener, nth) in [
        (&shop.gateway, "front", 0),
        (&shop.storefront, "in", 2),
        (&shop.storefront, "out", 5),
        (&shop.payments, "in", 6),
        (&shop.payments, "out", 9),
    ] {
        let log = envoy.access_log(listener);
        let lines = log.wait_for_lines(1).expect("a line");
        let span = chain[nth];
        let ids = ["trace_id", "span_id", "parent_span_id"]
            .map(|key| lines[0][key].as_str().unwrap_or_default().to_owned());
        let parent = span.parent_span_id.clone().unwrap_or_default();
        let expected = [span.trace_id.clone(), span.span_id.clone(), parent];
        assert_eq!(ids, expected, "{at} {listener}: {}", lines[0]);
    }
}

/// A request that was not sampled and failed: status, flags and `th` of both spans.
fn failures_are_kept(shop: &Shop, sink: &OtlpSink, at: &str) {
    sink.clear();
    let request = Request::get("/down")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-00"))
        .header("tracestate", TRACE_STATE);
    let response = request.send(address(&shop.gateway, "front"));
    assert_eq!(response.expect("a response").status, 503, "{at}");
    let spans = sink.wait_for_spans(2).expect("both spans");
    let chain = expect::chain(&spans, TRACE, SPAN);
    assert_eq!(chain.len(), 2, "{at}");
    // The caller got Envoy's own answer; the upstream gave none.
    let told = [("503", Some("503"), Some("error")), ("UF", None, None)];
    for (span, (error, status, kept)) in chain.iter().zip(told) {
        assert!(span.status_error, "{at}");
        assert_eq!(span.attribute("error.type"), Some(error), "{at}");
        assert_eq!(span.attribute("http.response.status_code"), status, "{at}");
        assert_eq!(span.attribute("response_flags"), Some("UF"), "{at}");
        assert_eq!(span.attribute("meshtrace.kept"), kept, "{at}");
        assert_eq!(span.trace_state, "", "{at}");
    }
    assert_eq!(counter(&shop.gateway, "report.kept"), 1, "{at}");
}

/// A trace that begins at the gateway is sampled by its id, and says at which rate.
#[test]
#[ignore = "needs a Collector: `make test-mesh`"]
fn roots_arrive_with_their_threshold() {
    for (protocol, envoy) in PROTOCOLS.into_iter().zip(envoys().into_iter().rev()) {
        let sink = OtlpSink::start().expect("a sink");
        let collector = Collector::start(&sink);
        let upstream = Upstream::start().expect("an upstream");
        let down = ClosedPort::reserve().expect("a closed port");
        let gateway = proxy(
            &envoy,
            (&collector, protocol),
            ("router", "gateway"),
            &[("front", TrafficDirection::Outbound, upstream.address())],
            &down,
            &json!({}),
        );
        let mut connection = Connection::open(address(&gateway, "front")).expect("a connection");
        for _ in 0..1500 {
            connection.send(&get(&[])).expect("a response");
        }
        let told = upstream.take();
        let parents = told.iter().filter_map(|r| r.header_text("traceparent"));
        let sampled: HashSet<_> = parents
            .filter(|parent| parent.ends_with("-01"))
            .map(|parent| parent[3..35].to_owned())
            .collect();
        assert_eq!(told.len(), 1500);
        assert!(!sampled.is_empty(), "one in a hundred");
        let spans = sink.wait_for_spans(sampled.len() * 2).expect("the spans");
        let reported: HashSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
        assert_eq!(reported, sampled);
        for span in &spans {
            let randomness = u64::from_str_radix(&span.trace_id[18..], 16).expect("digits");
            assert!(randomness >= 0xfd_70a4_0000_0000, "{}", span.trace_id);
            assert_eq!(span.trace_state, "ot=th:fd70a4");
            let is_root = span.kind == SpanKind::Server;
            assert_eq!(span.parent_span_id.is_none(), is_root, "{span:?}");
        }
    }
}

/// Stopped in mid traffic, away for longer than the queue lasts, and back.
#[test]
#[ignore = "needs a Collector: `make test-mesh`"]
fn a_collector_that_restarts_gets_all_that_was_not_counted_as_dropped() {
    for protocol in PROTOCOLS {
        each_supported(|envoy| {
            let at = format!("{} {protocol}", envoy.reported_version());
            let sink = OtlpSink::start().expect("a sink");
            let mut collector = Collector::start(&sink);
            let upstream = Upstream::start().expect("an upstream");
            let down = ClosedPort::reserve().expect("a closed port");
            let sidecar = proxy(
                envoy,
                (&collector, protocol),
                ("sidecar", "shop"),
                &[("in", TrafficDirection::Inbound, upstream.address())],
                &down,
                &json!({"batch": {"max_spans": 50, "max_queue": 200}}),
            );
            let door = address(&sidecar, "in");
            let over = AtomicBool::new(false);
            let sent = thread::scope(|scope| {
                let traffic = scope.spawn(|| {
                    let mut connection = Connection::open(door).expect("a connection");
                    let mut sent = 0;
                    while !over.load(Ordering::Relaxed) {
                        sent += 1;
                        let parent = format!("00-{sent:032x}-{SPAN}-01");
                        let response = connection.send(&get(&[("traceparent", &parent)]));
                        // Whatever becomes of its span.
                        assert_eq!(response.expect("a response").status, 200);
                    }
                    sent
                });
                let wait_for = |what: &str, met: &dyn Fn() -> bool| {
                    let start = Instant::now();
                    while !met() {
                        // The traffic must end for the test to.
                        if start.elapsed() > WAIT_LIMIT {
                            over.store(true, Ordering::Relaxed);
                            panic!("{at}: {what}: {:?}", sidecar.stats());
                        }
                        thread::sleep(Duration::from_millis(20));
                    }
                };
                wait_for("spans", &|| !sink.spans().is_empty());
                collector.stop();
                wait_for("a loss", &|| dropped(&sidecar) > 100);
                collector.run();
                let before = counter(&sidecar, "report.exported");
                wait_for("recovery", &|| {
                    counter(&sidecar, "report.exported") > before + 200
                });
                over.store(true, Ordering::Relaxed);
                traffic.join().expect("the traffic")
            });
            let start = Instant::now();
            let accounted = || counter(&sidecar, "report.exported") + dropped(&sidecar);
            while accounted() < sent {
                assert!(start.elapsed() < WAIT_LIMIT, "{at}: {:?}", sidecar.stats());
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(accounted(), sent, "{at}");
            let lost = counter(&sidecar, "report.dropped.queue_full");
            assert_eq!(dropped(&sidecar), lost, "{at}");
            assert!(counter(&sidecar, "report.retries") > 0, "{at}");

            // A call whose answer was lost is made again, so that a span may arrive twice: count
            // each once.
            let exported = counter(&sidecar, "report.exported");
            let arrived = || {
                let spans = sink.spans().into_iter();
                spans.map(|span| span.span_id).collect::<HashSet<_>>().len() as u64
            };
            let start = Instant::now();
            while arrived() < exported {
                assert!(
                    start.elapsed() < WAIT_LIMIT,
                    "{at}: {} of {exported}",
                    arrived()
                );
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(arrived(), exported, "{at}");
            eprintln!("{at}: of {sent} spans {exported} arrived and {lost} were dropped");
        });
    }
}
