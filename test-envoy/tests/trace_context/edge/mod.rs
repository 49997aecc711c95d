//! An edge for real: no header of a client's forces a trace, suppresses one, or reaches the
//! application with an id.

mod believed;
mod forged;
mod request_id;

use std::collections::BTreeMap;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, OtlpSink, Span, SpanKind, ZipkinSink};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{Mesh, SPAN};
use serde_json::{Value, json};
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
    let config = meshtrace_config::read(remedy.as_bytes()).expect("a configuration");
    let rendered = early_mutation(&config, tracer).expect("a mutation");
    manager
        .early_header_mutation(rendered.extension)
        .merge(rendered.manager.to_json())
        .virtual_host(rendered.virtual_host)
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

const REQUEST_ID: &str = "12345678-1234-9234-9234-123456789abc";
