//! An edge for real: no header of a client's forces a trace, suppresses one, or reaches the application with an id.

use meshtrace_test_support::common;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, OtlpSink, Span, SpanKind, ZipkinSink, each_supported};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

type Headers = &'static [(&'static str, &'static str)];

const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

/// Whom Envoy takes for an internal caller; the client is at 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    /// `use_remote_address`: nobody.
    Remote,
    /// Without it: nobody, but no client is known to be outside either.
    Unknown,
    /// `use_remote_address`, and the client's network is internal.
    Internal,
    /// Without it, and the network that a client writes into `x-forwarded-for` is internal.
    InternalByHeader,
}

impl Callers {
    const ALL: [Self; 4] = [
        Self::Remote,
        Self::Unknown,
        Self::Internal,
        Self::InternalByHeader,
    ];

    fn settings(self) -> Value {
        let remote = matches!(self, Self::Remote | Self::Internal);
        let mut settings = json!({"use_remote_address": remote});
        if matches!(self, Self::Internal | Self::InternalByHeader) {
            let network =
                |address, length| json!({"address_prefix": address, "prefix_len": length});
            settings["internal_address_config"] = json!({
                "cidr_ranges": [network("127.0.0.0", 8), network("10.0.0.0", 8)],
            });
        }
        settings
    }

    /// Whether a client's request id and span name are left to it.
    fn keeps_clients_headers(self) -> bool {
        self != Self::Remote
    }
}

/// What is before the tracer.
const NOTHING: &str = "";
const RESTART: &str = r#"{"incoming": "restart"}"#;
const IGNORE: &str = r#"{"incoming": "ignore", "clear": ["baggage"]}"#;

const BAGGAGE: (&str, &str) = ("baggage", "user=4bf92f3577b34da6");

/// Each makes some Envoy trace a request that it would not trace.
const FORCING: &[Headers] = &[
    &[("x-client-trace-id", "client-trace")],
    &[("x-envoy-force-trace", "true")],
    &[
        ("x-envoy-force-trace", "true"),
        ("x-forwarded-for", "10.1.1.1"),
    ],
    &[("x-request-id", "12345678-1234-9234-9234-123456789abc")],
    &[("x-request-id", "12345678-1234-a234-9234-123456789abc")],
    &[("x-request-id", "12345678-1234-b234-9234-123456789abc")],
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )],
    &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")],
    &[("b3", "d")],
    &[
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-flags", "1"),
    ],
    &[
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-sampled", "1"),
    ],
    &[("x-b3-flags", "1")],
    &[("x-b3-sampled", "1")],
];

/// Each keeps some Envoy from tracing a request that it would trace, or is a client's own id.
const SUPPRESSING: &[Headers] = &[
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    )],
    &[("traceparent", "4bf92f3577b34da6a3ce929d0e0e4736")],
    &[("b3", "0")],
    &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0")],
    &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736")],
    &[("x-b3-sampled", "0")],
    &[
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-sampled", "0"),
    ],
    &[("x-request-id", "12345678-1234-4234-9234-123456789abc")],
    &[("x-request-id", "client-12345678-1234")],
];

/// The ids in them, as they could be found elsewhere.
const IDS: [&str; 5] = [
    "4bf92f3577b34da6",
    "a3ce929d0e0e4736",
    SPAN,
    "12345678-1234",
    "client-trace",
];

struct Edge {
    mesh: Mesh,
    otlp: OtlpSink,
    zipkin: ZipkinSink,
    sent: usize,
}

/// One request, and what left of it.
struct Passed {
    number: usize,
    told: String,
    left: RecordedRequest,
}

impl Edge {
    fn start(envoy: &EnvoyBinary, remedies: &[&str]) -> Self {
        let otlp = OtlpSink::start().expect("a sink");
        let zipkin = ZipkinSink::start().expect("a sink");
        let mut bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", otlp.grpc_addr()))
            .cluster(Cluster::http1("zipkin", zipkin.address()));
        for tracer in TRACERS {
            for callers in Callers::ALL {
                for percent in [0, 100] {
                    for remedy in remedies {
                        let name = listener(tracer, callers, percent, remedy);
                        let manager = manager(tracer, callers, percent, remedy);
                        bootstrap = bootstrap.listener(Listener::http(&name, manager));
                    }
                }
            }
        }
        Self {
            mesh: Mesh::with(envoy, bootstrap),
            otlp,
            zipkin,
            sent: 0,
        }
    }

    fn send(
        &mut self,
        tracer: Tracer,
        callers: Callers,
        percent: u8,
        remedy: &str,
        requests: &[Headers],
    ) -> Vec<Passed> {
        let send = |headers: &Headers| self.send_one(tracer, callers, percent, remedy, headers);
        requests.iter().map(send).collect()
    }

    fn send_one(
        &mut self,
        tracer: Tracer,
        callers: Callers,
        percent: u8,
        remedy: &str,
        headers: &[(&str, &str)],
    ) -> Passed {
        self.sent += 1;
        let request = headers.iter().chain([&BAGGAGE]).fold(
            Request::get(&format!("/{}", self.sent)),
            |request, (name, value)| request.header(name, value),
        );
        let mut connection = self
            .mesh
            .connect(&listener(tracer, callers, percent, remedy));
        Passed {
            number: self.sent,
            told: format!("{headers:?} to {tracer:?}, {callers:?}, at {percent}, {remedy:?}"),
            left: self.mesh.pass(&mut connection, &request),
        }
    }

    /// The spans of the requests; those that come are complete when there are as many as expected.
    fn spans(&self, expected: &BTreeMap<usize, Tracer>) -> BTreeMap<usize, Span> {
        let tracers = expected.values();
        let otlp = tracers
            .filter(|tracer| **tracer == Tracer::OpenTelemetry)
            .count();
        // Fewer spans than expected are told as differences by the caller.
        let _ = self.otlp.wait_for_spans(otlp);
        let _ = self.zipkin.wait_for_spans(expected.len() - otlp);
        let spans = self.otlp.spans().into_iter().chain(self.zipkin.spans());
        let spans = spans.filter(|span| span.kind == SpanKind::Server);
        spans.map(|span| (number(&span), span)).collect()
    }
}

fn number(span: &Span) -> usize {
    let url = span.attribute("http.url").expect("a URL");
    let (_, number) = url.rsplit_once('/').expect("a path");
    number.parse().expect("a number")
}

fn listener(tracer: Tracer, callers: Callers, percent: u8, remedy: &str) -> String {
    format!("{tracer:?} {callers:?} {percent} {remedy}")
}

fn manager(tracer: Tracer, callers: Callers, percent: u8, remedy: &str) -> HttpConnectionManager {
    let manager = HttpConnectionManager::new()
        .tracing(tracing(tracer).random_sampling(percent.into()))
        .merge(callers.settings())
        .route(Route::prefix("/").cluster("upstream"));
    if remedy == NOTHING {
        return manager;
    }
    let config = serde_json::from_str(remedy).expect("a configuration");
    let rendered = early_mutation(&config, tracer).expect("a mutation");
    manager
        .early_header_mutation(rendered.extension)
        .merge(rendered.manager.to_json())
}

fn tracing(tracer: Tracer) -> Tracing {
    let zipkin = |option| {
        Tracing::zipkin("zipkin")
            .shared_span_context(false)
            .trace_context_option(option)
    };
    match tracer {
        Tracer::OpenTelemetry => Tracing::opentelemetry_grpc("otlp", "edge"),
        Tracer::ZipkinB3 => zipkin(TraceContextOption::B3),
        Tracer::ZipkinB3WithW3c => zipkin(TraceContextOption::B3WithW3c),
    }
}

/// Nothing of the client's went on, and there is a request id.
fn assert_clean(passed: &Passed) {
    for (name, value) in &passed.left.headers {
        let name = String::from_utf8_lossy(name).to_lowercase();
        let value = String::from_utf8_lossy(value);
        // Nobody asked for its removal.
        if name == "baggage" && passed.told.contains("restart") {
            continue;
        }
        let found = IDS.iter().find(|id| value.contains(**id));
        assert_eq!(found, None, "{name} of {}", passed.told);
        let forces = ["x-client-trace-id", "x-envoy-force-trace", "baggage"];
        assert!(
            !forces.contains(&name.as_str()),
            "{name} of {}",
            passed.told
        );
        assert!(
            !name.starts_with("x-meshtrace"),
            "{name} of {}",
            passed.told
        );
    }
    let id = passed.left.header_text("x-request-id");
    assert_eq!(id.map(|id| id.len()), Some(36), "{}", passed.told);
}

/// Whether a request is traced although `random_sampling` is 0, where nothing is before the tracer.
fn forces(headers: Headers, tracer: Tracer, callers: Callers, version: &str) -> bool {
    let zipkin = tracer != Tracer::OpenTelemetry;
    let last = headers.last().map(|(name, _)| *name);
    match headers[0].0 {
        "x-client-trace-id" => true,
        "x-envoy-force-trace" if last == Some("x-forwarded-for") => {
            callers == Callers::InternalByHeader
        }
        "x-envoy-force-trace" => callers == Callers::Internal,
        "x-request-id" => callers.keeps_clients_headers(),
        "traceparent" => match tracer {
            Tracer::OpenTelemetry => version < "1.39",
            Tracer::ZipkinB3 => false,
            Tracer::ZipkinB3WithW3c => true,
        },
        "b3" => zipkin,
        _ => zipkin && last == Some("x-b3-sampled"),
    }
}

/// Whether a request is not traced although `random_sampling` is 100, where nothing is before the tracer.
fn suppresses(headers: Headers, tracer: Tracer, callers: Callers) -> bool {
    let zipkin = tracer != Tracer::OpenTelemetry;
    match headers[0] {
        ("x-request-id", id) => id.starts_with("client") && callers.keeps_clients_headers(),
        ("traceparent", malformed) if malformed.len() < 55 => !zipkin,
        ("traceparent", _) => tracer != Tracer::ZipkinB3,
        _ => zipkin,
    }
}

#[test]
fn a_client_neither_forces_nor_suppresses_a_trace_nor_names_one() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut edge = Edge::start(envoy, &[NOTHING, RESTART, IGNORE]);
        let mut behind = Vec::new();
        let mut alone = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in Callers::ALL {
                for remedy in [RESTART, IGNORE] {
                    behind.extend(edge.send(tracer, callers, 0, remedy, FORCING));
                    for requests in [FORCING, SUPPRESSING] {
                        let passed = edge.send(tracer, callers, 100, remedy, requests);
                        expected.extend(passed.iter().map(|passed| (passed.number, tracer)));
                        behind.extend(passed);
                    }
                }
                for (percent, requests) in [(0, FORCING), (100, SUPPRESSING)] {
                    let passed = edge.send(tracer, callers, percent, NOTHING, requests);
                    for (passed, headers) in passed.into_iter().zip(requests) {
                        let traced = match percent {
                            0 => forces(headers, tracer, callers, version),
                            _ => !suppresses(headers, tracer, callers),
                        };
                        if traced {
                            expected.insert(passed.number, tracer);
                        }
                        alone.push(passed);
                    }
                }
            }
        }

        let spans = edge.spans(&expected);
        let differences: Vec<_> = behind
            .iter()
            .chain(&alone)
            .filter(|passed| {
                spans.contains_key(&passed.number) != expected.contains_key(&passed.number)
            })
            .map(|passed| {
                let traced = spans.contains_key(&passed.number);
                format!("{}: traced: {traced}", passed.told)
            })
            .collect();
        assert!(
            differences.is_empty(),
            "{version}:\n{}",
            differences.join("\n")
        );
        for passed in &behind {
            assert_clean(passed);
            if let Some(span) = spans.get(&passed.number) {
                assert_eq!(span.parent_span_id, None, "{version}: {}", passed.told);
                assert!(
                    !span.trace_id.contains(&TRACE[16..]),
                    "{version}: {}",
                    passed.told
                );
            }
        }
        // Without the remedy the ids do go on.
        let names = |passed: &&Passed| {
            let mut values = passed
                .left
                .headers
                .iter()
                .map(|(_, value)| String::from_utf8_lossy(value));
            values.any(|value| value.contains(TRACE))
        };
        assert!(alone.iter().filter(names).count() > 50, "{version}");
    });
}

#[test]
fn a_client_does_not_name_the_span() {
    let name: Headers = &[("x-envoy-decorator-operation", "the client's")];
    each_supported(|envoy| {
        let mut edge = Edge::start(envoy, &[NOTHING, RESTART, IGNORE]);
        let mut sent = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in Callers::ALL {
                for remedy in [NOTHING, RESTART, IGNORE] {
                    let passed = edge.send_one(tracer, callers, 100, remedy, name);
                    expected.insert(passed.number, tracer);
                    let named = remedy == NOTHING && callers.keeps_clients_headers();
                    sent.push((passed, named));
                }
            }
        }
        let spans = edge.spans(&expected);
        for (passed, named) in sent {
            let span = spans.get(&passed.number).expect(&passed.told);
            assert_eq!(
                span.name == "the client's",
                named,
                "{} on {}",
                passed.told,
                envoy.reported_version()
            );
        }
    });
}

const REQUEST_ID: &str = "12345678-1234-9234-9234-123456789abc";

/// A context that every tracer reads.
const CONTEXT: [(&str, &str); 6] = [
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("tracestate", "vendor=1,other=2"),
    ("x-b3-traceid", TRACE),
    ("x-b3-spanid", SPAN),
    ("x-b3-sampled", "1"),
    ("x-request-id", REQUEST_ID),
];

#[test]
fn a_believed_caller_keeps_its_context_and_its_request_id() {
    let by_header = r#"{"incoming": {"mode": "restart", "when": {"header_absent": "X-Known"}}}"#;
    let by_network = r#"{"incoming": {"mode": "ignore", "when": {"not_from_cidrs": ["10.0.0.0/8", "127.0.0.0/8"]}}}"#;
    let elsewhere =
        r#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#;
    let either = r#"{"incoming": {"mode": "restart",
        "when": {"not_from_cidrs": ["10.0.0.0/8"], "header_absent": "x-known"}}}"#;
    let known = ("x-known", "1");
    let forwarded = ("x-forwarded-for", "10.1.1.1");
    let forged = [
        ("x-meshtrace-early-believed", "1"),
        ("x-meshtrace-early-kept", "1"),
    ];
    let cases: [(&str, &[_], bool); 10] = [
        (by_header, &[known], true),
        (by_header, &[], false),
        (by_header, &forged, false),
        (by_network, &[], true),
        (by_network, &[forwarded], false),
        (elsewhere, &[], false),
        (elsewhere, &[known], false),
        (elsewhere, &[forwarded], false),
        (either, &[known], true),
        (either, &[], false),
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut edge = Edge::start(envoy, &[by_header, by_network, elsewhere, either]);
        let mut sent = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in [Callers::Unknown, Callers::Internal] {
                for (remedy, more, believed) in cases {
                    let headers: Vec<_> = CONTEXT.iter().chain(more).copied().collect();
                    let passed = edge.send_one(tracer, callers, 100, remedy, &headers);
                    expected.insert(passed.number, tracer);
                    sent.push((passed, believed));
                }
            }
        }
        let spans = edge.spans(&expected);
        for (passed, believed) in sent {
            let told = format!("{version}: {}", passed.told);
            let span = spans.get(&passed.number).expect(&told);
            assert_eq!(span.trace_id == TRACE, believed, "{told}");
            let parent = believed.then_some(SPAN);
            assert_eq!(span.parent_span_id.as_deref(), parent, "{told}");
            let id = passed.left.header_text("x-request-id").expect(&told);
            assert_eq!(id == REQUEST_ID, believed, "{told}");
            let helper =
                |(name, _): &(_, _)| AsRef::<[u8]>::as_ref(name).starts_with(b"x-meshtrace");
            assert!(!passed.left.headers.iter().any(helper), "{told}");
            let state = passed.left.header_text("tracestate").unwrap_or_default();
            assert_eq!(state == "vendor=1,other=2", believed, "{told}");
        }
    });
}

#[test]
fn a_believed_callers_headers_are_put_back_as_the_limits_tell() {
    let remedy = r#"{"incoming": {"mode": "restart", "when": {"header_absent": "x-known"}}}"#;
    let bytes: &[u8] = b"vendor=\xff\xc3\x28";
    let request = |headers: &[(&str, &[u8])]| {
        let request = Request::get("/").header("x-known", "1");
        headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    };
    each_supported(|envoy| {
        let version = envoy.reported_version();
        // No tracer: what leaves is what the mutation left.
        let config = serde_json::from_str(remedy).expect("a configuration");
        let rendered = early_mutation(&config, Tracer::ZipkinB3).expect("a mutation");
        let manager = HttpConnectionManager::new()
            .early_header_mutation(rendered.extension)
            .merge(rendered.manager.to_json())
            .route(Route::prefix("/").cluster("upstream"));
        let mesh = Mesh::with(
            envoy,
            Bootstrap::new().listener(Listener::http("edge", manager)),
        );
        let left = |request: &Request| mesh.pass(&mut mesh.connect("edge"), request);

        let states: [(&str, &[u8]); 3] =
            [("tracestate", b"a=1"), ("tracestate", b"b=2"), ("b3", b"")];
        let repeated = left(&request(&states));
        assert_eq!(
            repeated.header_values("tracestate"),
            [b"a=1,b=2"],
            "{version}"
        );
        assert_eq!(repeated.header_text("b3"), None, "{version}");

        let state = left(&request(&[("tracestate", bytes), ("x-b3-sampled", b"1")]));
        assert_eq!(state.header_values("tracestate"), [bytes], "{version}");
        assert_eq!(state.header_values("x-b3-sampled"), [b"1"], "{version}");
    });
}

/// Sends a request from `from` and returns whether it was believed.
async fn is_believed_from(from: Ipv4Addr, proxy: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddrV4::new(from, 0).into())
        .expect("a loopback address");
    let mut stream = socket.connect(proxy).await.expect("a connection");
    let request = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-request-id: {REQUEST_ID}\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a request is sent");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .await
        .expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    response.contains(REQUEST_ID)
}

#[test]
fn a_network_holds_the_addresses_that_it_holds() {
    const NETWORKS: [&str; 11] = [
        "0.0.0.0/0",
        "126.0.0.0/7",
        "96.0.0.0/3",
        "127.0.0.0/8",
        "127.16.0.0/12",
        "127.100.0.0/14",
        "127.10.10.0/23",
        "127.0.0.0/25",
        "127.0.0.128/25",
        "127.0.0.8/29",
        "127.0.0.1/32",
    ];
    let last = [1, 2, 7, 8, 15, 16, 27, 99, 100, 127, 128, 199, 200, 255];
    let mut callers: Vec<_> = [1, 10, 15, 16, 17, 29, 31, 32, 99, 100, 103, 104, 116, 255]
        .map(|second| Ipv4Addr::new(127, second, 10, 1))
        .into();
    callers.extend([1, 9, 10, 11, 12, 100].map(|third| Ipv4Addr::new(127, 10, third, 1)));
    callers.extend(last.map(|last| Ipv4Addr::new(127, 0, 0, last)));

    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    each_supported(|envoy| {
        let mut bootstrap = Bootstrap::new();
        for network in NETWORKS {
            let config = format!(
                r#"{{"incoming": {{"mode": "restart", "when": {{"not_from_cidrs": ["{network}"]}}}}}}"#
            );
            let config = serde_json::from_str(&config).expect("a configuration");
            let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
            let manager = HttpConnectionManager::new()
                .early_header_mutation(rendered.extension)
                .merge(rendered.manager.to_json())
                .merge(json!({"always_set_request_id_in_response": true}))
                .route(Route::prefix("/").cluster("upstream"));
            bootstrap = bootstrap.listener(Listener::http(network, manager));
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for text in NETWORKS {
            let (network, length) = text.split_once('/').expect("a network");
            let network: Ipv4Addr = network.parse().expect("an address");
            let length: u32 = length.parse().expect("a length");
            for caller in &callers {
                let differing = (caller.to_bits() ^ network.to_bits()).leading_zeros();
                let believed = is_believed_from(*caller, mesh.address(text));
                assert_eq!(
                    runtime.block_on(believed),
                    differing >= length,
                    "{caller} in {text} on {}",
                    envoy.reported_version()
                );
            }
        }
    });
}

/// The mutations that docs/early-mutation.md offers to those who want the client's id.
fn kept_request_id() -> Value {
    let page = common::text("docs/early-mutation.md");
    let (_, rest) = page.split_once("```yaml\n").expect("a block of YAML");
    let (yaml, _) = rest.split_once("```").expect("its end");
    serde_saphyr::from_str(yaml).expect("YAML")
}

#[test]
fn the_request_id_is_told_to_the_client_and_its_own_can_be_kept() {
    each_supported(|envoy| {
        let config = serde_json::from_str(RESTART).expect("a configuration");
        let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
        let mut extension = rendered.extension;
        let mutations = &mut extension["typed_config"]["mutations"];
        let mut all = kept_request_id();
        let list = all.as_array_mut().expect("mutations");
        list.append(mutations.as_array_mut().expect("mutations"));
        *mutations = all;

        let told = json!({"always_set_request_id_in_response": true});
        let traced = || {
            HttpConnectionManager::new()
                .tracing(Tracing::opentelemetry_grpc("otlp", "edge"))
                .early_header_mutation(extension.clone())
                .merge(told.clone())
                .route(Route::prefix("/").cluster("upstream"))
        };
        let otlp = OtlpSink::start().expect("a sink");
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", otlp.grpc_addr()))
            .listener(Listener::http(
                "edge",
                traced().merge(rendered.manager.to_json()),
            ))
            .listener(Listener::http(
                "no ids",
                traced().generate_request_id(false),
            ));
        let mesh = Mesh::with(envoy, bootstrap);
        let request = common::get(&[
            ("x-request-id", REQUEST_ID),
            ("x-client-request-id", "forged"),
        ]);
        let response = mesh.connect("edge").send(&request).expect("a response");
        let left = mesh.upstream.take().remove(0);
        let id = response.header_text("x-request-id").expect("an id");
        assert_eq!(left.header_text("x-request-id").as_ref(), Some(&id));
        assert_ne!(id, REQUEST_ID);
        assert_eq!(
            left.header_values("x-client-request-id"),
            [REQUEST_ID.as_bytes()]
        );
        let without = common::get(&[("x-client-request-id", "forged")]);
        let left = mesh.pass(&mut mesh.connect("edge"), &without);
        assert_eq!(left.header_text("x-client-request-id"), None);

        // Why `generate_request_id` is among the settings.
        let flags = |listener| {
            let left = mesh.pass(&mut mesh.connect(listener), &common::get(&[]));
            let traceparent = left.header_text("traceparent").expect("a context");
            traceparent
                .rsplit_once('-')
                .map(|(_, flags)| flags.to_owned())
        };
        assert_eq!(flags("edge").as_deref(), Some("01"));
        assert_eq!(flags("no ids").as_deref(), Some("00"));
    });
}

/// Whether each of some requests with this id is traced.
fn traced(mesh: &Mesh, listener: &str, id: &str) -> Vec<bool> {
    let mut connection = mesh.connect(listener);
    let flags = |_| {
        let left = mesh.pass(&mut connection, &common::get(&[("x-request-id", id)]));
        let traceparent = left.header_text("traceparent").expect("a context");
        traceparent.ends_with("-01")
    };
    (0..64).map(flags).collect()
}

#[test]
fn gentler_settings_leave_the_request_id_a_say() {
    const FORCED: &str = "12345678-1234-a234-9234-123456789abc";
    const MALFORMED: &str = "client-12345678-1234";
    const LOW: &str = "00000000-1234-4234-9234-123456789abc";
    const HIGH: &str = "0000270f-1234-4234-9234-123456789abc";
    let extension = |setting: &str| {
        let mut uuid = json!({
            "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        });
        uuid[setting] = json!(false);
        json!({"request_id_extension": {"typed_config": uuid}})
    };
    let settings = [
        ("default", json!({})),
        (
            "preserved",
            json!({"use_remote_address": true, "preserve_external_request_id": true}),
        ),
        ("not packed", extension("pack_trace_reason")),
        ("not by id", extension("use_request_id_for_trace_sampling")),
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let otlp = OtlpSink::start().expect("a sink");
        let mut bootstrap = Bootstrap::new().cluster(Cluster::http2("otlp", otlp.grpc_addr()));
        for percent in [0, 50, 100] {
            for (name, setting) in &settings {
                let behind = manager(Tracer::OpenTelemetry, Callers::Unknown, percent, RESTART);
                let alone = manager(Tracer::OpenTelemetry, Callers::Unknown, percent, NOTHING);
                let listener = |name: String, manager: HttpConnectionManager| {
                    Listener::http(&name, manager.merge(setting.clone()))
                };
                bootstrap = bootstrap
                    .listener(listener(format!("{name} {percent}"), alone))
                    .listener(listener(format!("{name} {percent} behind"), behind));
            }
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for (listener, id, expected) in [
            ("default 0", FORCED, true),
            ("default 100", MALFORMED, false),
            ("default 50", LOW, true),
            ("default 50", HIGH, false),
            ("preserved 0", FORCED, false),
            ("preserved 100", MALFORMED, false),
            ("preserved 50", LOW, true),
            ("preserved 50", HIGH, false),
            ("not packed 0", FORCED, false),
            ("not packed 100", MALFORMED, false),
            ("not packed 50", LOW, true),
            ("not packed 50", HIGH, false),
            ("not by id 0", LOW, true),
            ("not by id 0", HIGH, true),
        ] {
            let seen = traced(&mesh, listener, id);
            assert_eq!(seen, [expected; 64], "{id} to {listener} on {version}");
        }
        for name in ["default", "preserved", "not packed"] {
            let traced = |percent, id| traced(&mesh, &format!("{name} {percent} behind"), id);
            assert_eq!(traced(0, FORCED), [false; 64], "{name} on {version}");
            assert_eq!(traced(100, MALFORMED), [true; 64], "{name} on {version}");
            // Neither all nor none: Envoy's own ids decide.
            for id in [LOW, HIGH] {
                let seen = traced(50, id);
                assert!(
                    seen.contains(&true) && seen.contains(&false),
                    "{name} on {version}"
                );
            }
        }
    });
}
