//! The rows of "Which tracer" in istio-manifests/README.md, on real Envoys: what each file does
//! beside its tracer, and what it does beside another one.

use std::collections::BTreeSet;

use envoy_test_harness::config::{Bootstrap, Cluster};
use envoy_test_harness::upstream::{ClosedPort, RecordedRequest};
use envoy_test_harness::{Envoy, EnvoyBinary, each_supported};
use meshtrace_test_support::applied::{listener, merge, patched};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, get, trace_headers};
use meshtrace_test_support::joined::{self, ARRIVALS, Cell, Names};
use meshtrace_test_support::promises;
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};
use serde_json::{Value, json};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";

const NO_TRACER: &str = "istio-manifests/envoyfilter/trace-context-no-tracer.yaml";
const EDGE: &str = "istio-manifests/envoyfilter/trace-context-edge.yaml";
const ZIPKIN: &str = "istio-manifests/wasmplugin/trace-context-zipkin.yaml";
const OTEL_EARLY: &str = "istio-manifests/envoyfilter/trace-context-otel-early.yaml";
const OTEL_UPSTREAM: &str = "istio-manifests/envoyfilter/trace-context-otel-upstream.yaml";
const OTEL_UPSTREAM_IMAGE: &str =
    "istio-manifests/envoyfilter/trace-context-otel-upstream-image.yaml";
const ZIPKIN_B3_EARLY: &str = "istio-manifests/envoyfilter/trace-context-zipkin-b3-early.yaml";
const ZIPKIN_B3_UPSTREAM: &str =
    "istio-manifests/envoyfilter/trace-context-zipkin-b3-upstream.yaml";

/// A row of the table.
struct Row {
    /// As heads call it.
    tracer: &'static str,
    measured: Tracer,
    files: &'static [&'static str],
    /// Whether all that arrives becomes one trace.
    whole: bool,
}

const ROWS: [Row; 6] = [
    Row {
        tracer: "none",
        measured: Tracer::None,
        files: &[NO_TRACER],
        whole: true,
    },
    Row {
        tracer: "zipkin-b3",
        measured: Tracer::ZipkinB3,
        files: &[ZIPKIN_B3_EARLY, ZIPKIN_B3_UPSTREAM],
        whole: true,
    },
    Row {
        tracer: "zipkin",
        measured: Tracer::ZipkinB3WithW3c,
        files: &[ZIPKIN],
        whole: false,
    },
    Row {
        tracer: "otel",
        measured: Tracer::OpenTelemetry,
        files: &[OTEL_UPSTREAM],
        whole: false,
    },
    Row {
        tracer: "otel",
        measured: Tracer::OpenTelemetry,
        files: &[OTEL_EARLY, OTEL_UPSTREAM],
        whole: true,
    },
    Row {
        tracer: "otel",
        measured: Tracer::OpenTelemetry,
        files: &[OTEL_EARLY, OTEL_UPSTREAM_IMAGE],
        whole: true,
    },
];

/// With a span for each attempt, as Istio's gateways report them.
fn traced(mut manager: Value) -> Value {
    if !manager["tracing"].is_null() {
        let more = json!({
            "spawn_upstream_span": true,
            "custom_tags": [{"tag": "case", "request_header": {"name": CASE}}],
        });
        merge(&mut manager["tracing"], &more);
    }
    manager
}

/// How much of the trace is whole.
fn rank(cell: Cell) -> u8 {
    match cell {
        Cell::Yes => 2,
        Cell::OnlyW3cApp | Cell::OnlyB3App | Cell::OtherTrace => 1,
        Cell::No | Cell::NoTrace => 0,
    }
}

#[test]
fn every_row_does_what_it_says_and_nothing_is_worse_than_without_it() {
    each_supported(|envoy| {
        let version = envoy.reported_version().to_owned();
        let sinks = Sinks::start();
        let mut bootstrap = sinks.connect(Bootstrap::new());
        let mut listeners = Vec::new();
        for (i, row) in ROWS.iter().enumerate() {
            for (name, files) in [("without", &[][..]), ("with", row.files)] {
                let name = format!("{i} {name}");
                let manager = traced(patched(row.tracer, files));
                bootstrap = bootstrap.listener(listener(&name, &manager));
                listeners.push((name, row.measured));
            }
        }
        let mesh = Mesh::with(envoy, bootstrap);
        let cells = joined::measure(&mesh, &sinks, &listeners);
        for (i, row) in ROWS.iter().enumerate() {
            let (without, with) = (
                &cells[&format!("{i} without")],
                &cells[&format!("{i} with")],
            );
            for (arrival, (without, with)) in ARRIVALS.iter().zip(without.iter().zip(with)) {
                let at = format!("{version}: {:?} of {}", row.files, arrival.title);
                assert!(
                    rank(*with) >= rank(*without),
                    "{at}: {without}, then {with}"
                );
                // Without a tracer nobody begins a trace.
                let can_be = row.tracer != "none" || arrival.names != Names::NoTrace;
                if row.whole && can_be {
                    assert_eq!(*with, Cell::Yes, "{at}");
                }
                let speaks_w3c = arrival.title.starts_with("W3C") || arrival.headers.is_empty();
                if row.tracer == "otel" && speaks_w3c {
                    assert_eq!(*with, Cell::Yes, "{at}");
                }
            }
        }
    });
    promises::held(
        "Manifests and examples",
        "The files of a tracer's row leave no request worse than without them",
        "6 rows of istio-manifests/README.md beside their tracers, 10 ways in which a context arrives, exported spans \
         against the headers that left",
        "0 of 60 worse on each of 4 versions; one trace in all cases where the row says so",
    );
}

/// A listener for each of `names` and its connection manager, whose tracers report to nobody.
fn unreported(envoy: &EnvoyBinary, listeners: &[(&str, Value)]) -> Mesh {
    let closed = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new()
        .cluster(Cluster::http2("otlp", closed.address()))
        .cluster(Cluster::http1("zipkin", closed.address()));
    let bootstrap = listeners
        .iter()
        .fold(bootstrap, |bootstrap, (name, manager)| {
            bootstrap.listener(listener(name, manager))
        });
    Mesh::with(envoy, bootstrap)
}

fn leaving(mesh: &Mesh, listener: &str, headers: &[(&str, &str)]) -> RecordedRequest {
    mesh.pass(&mut mesh.connect(listener), &get(headers))
}

/// The traces that W3C and both shapes of B3 name.
fn traces(request: &RecordedRequest) -> BTreeSet<String> {
    let part = |name: &str, at: usize| {
        let text = request.header_text(name)?;
        text.split('-').nth(at).map(str::to_owned)
    };
    let named = [
        part("traceparent", 1),
        part("b3", 0),
        part("x-b3-traceid", 0),
    ];
    named.into_iter().flatten().collect()
}

/// What docs/istio.md says of a file beside another tracer than its name's: why the name has it.
#[test]
fn a_file_of_another_tracer_does_harm() {
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    each_supported(|envoy| {
        let mesh = unreported(
            envoy,
            &[
                ("otel", patched("otel", &[ZIPKIN])),
                ("zipkin-b3", patched("zipkin-b3", &[ZIPKIN])),
            ],
        );
        let left = leaving(&mesh, "otel", &[("b3", &b3)]);
        assert!(
            !traces(&left).contains(OTHER_TRACE),
            "{:?}",
            trace_headers(&left)
        );
        let left = leaving(&mesh, "zipkin-b3", &[("traceparent", &w3c)]);
        assert_eq!(traces(&left).len(), 2, "{:?}", trace_headers(&left));
    });
}

#[test]
fn beside_datadog_the_files_of_opentelemetry_make_one_trace() {
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let own = [
        ("x-datadog-trace-id", "1234567890"),
        ("x-datadog-parent-id", "987654321"),
        ("x-datadog-sampling-priority", "1"),
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version().to_owned();
        let mesh = unreported(
            envoy,
            &[
                ("alone", patched("datadog", &[])),
                ("upstream", patched("datadog", &[OTEL_UPSTREAM])),
                ("both", patched("datadog", &[OTEL_EARLY, OTEL_UPSTREAM])),
            ],
        );
        let named = |listener, headers: &[(&str, &str)]| traces(&leaving(&mesh, listener, headers));
        assert_eq!(named("alone", &[("b3", &b3)]).len(), 2, "{version}");
        for listener in ["upstream", "both"] {
            for arrival in [
                &[][..],
                &[("traceparent", w3c.as_str())],
                &[("b3", b3.as_str())],
                &own,
            ] {
                let left = leaving(&mesh, listener, arrival);
                let at = format!(
                    "{version} {listener} {arrival:?}: {:?}",
                    trace_headers(&left)
                );
                assert_eq!(traces(&left).len(), 1, "{at}");
                assert!(left.header_text("x-datadog-trace-id").is_some(), "{at}");
                assert!(left.header_text("x-b3-spanid").is_some(), "{at}");
            }
            let continued = named(listener, &[("traceparent", &w3c)]);
            assert!(continued.contains(TRACE), "{version} {listener}");
        }
        assert!(
            named("both", &[("b3", &b3)]).contains(OTHER_TRACE),
            "{version}"
        );
    });
}

#[test]
fn beside_skywalking_the_file_without_a_tracer_makes_the_applications_formats_agree() {
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    each_supported(|envoy| {
        let version = envoy.reported_version().to_owned();
        let mesh = unreported(
            envoy,
            &[
                ("alone", traced(patched("skywalking", &[]))),
                ("filtered", traced(patched("skywalking", &[NO_TRACER]))),
            ],
        );
        for (arrival, trace) in [(("traceparent", &w3c), TRACE), (("b3", &b3), OTHER_TRACE)] {
            let arrival = [(arrival.0, arrival.1.as_str())];
            let alone = leaving(&mesh, "alone", &arrival);
            assert_eq!(trace_headers(&alone).len(), 1, "{version}: as it came");
            let left = leaving(&mesh, "filtered", &arrival);
            let at = format!("{version}: {:?}", trace_headers(&left));
            assert_eq!(traces(&left), BTreeSet::from([trace.to_owned()]), "{at}");
            assert!(left.header_text("x-b3-traceid").is_some(), "{at}");
            assert!(left.header_text("traceparent").is_some(), "{at}");
            for request in [&alone, &left] {
                assert!(request.header_text("sw8").is_some(), "{at}");
            }
        }
    });
}

/// At the edge the file stands beside any tracer, and what each of them reads is removed.
#[test]
fn at_the_edge_no_tracer_continues_what_a_client_sent() {
    let b3 = format!("{TRACE}-{SPAN}-1");
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let xray = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
    // The ids are text in base64 there: "mytraceid", "segment" and so on.
    let skywalking =
        "1-bXl0cmFjZWlk-c2VnbWVudA==-3-c2VydmljZQ==-aW5zdGFuY2U=-ZW5kcG9pbnQ=-YWRkcmVzcw==";
    let sent = [
        ("traceparent", w3c.as_str()),
        ("b3", &b3),
        ("x-datadog-trace-id", "1234567890"),
        ("x-datadog-parent-id", "987"),
        ("x-datadog-sampling-priority", "2"),
        ("x-amzn-trace-id", xray),
        ("sw8", skywalking),
    ];
    let ids = [
        TRACE,
        SPAN,
        "1234567890",
        "499602d2",
        "77b34da6",
        "bXl0cmFjZWlk",
    ];
    let tracers = [
        "otel",
        "zipkin",
        "zipkin-b3",
        "datadog",
        "skywalking",
        "none",
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version().to_owned();
        let mut listeners = Vec::new();
        for tracer in tracers {
            listeners.push((tracer.to_owned(), patched(tracer, &[EDGE])));
            listeners.push((format!("{tracer} alone"), patched(tracer, &[])));
        }
        let listeners: Vec<_> = listeners
            .iter()
            .map(|(name, manager)| (name.as_str(), manager.clone()))
            .collect();
        let mesh = unreported(envoy, &listeners);
        let told = |listener: &str| {
            let left = leaving(&mesh, listener, &sent);
            let lines = left.headers.iter().map(|(name, value)| {
                let (name, value) = (
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value),
                );
                format!("{name}: {value}")
            });
            let found = lines.filter(|line| ids.iter().any(|id| line.contains(id)));
            found.collect::<Vec<_>>()
        };
        for tracer in tracers {
            assert_eq!(told(tracer), [""; 0], "{version} {tracer}");
            assert_ne!(told(&format!("{tracer} alone")), [""; 0], "{version}");
        }
    });
    promises::held(
        "Manifests and examples",
        "At the edge no tracer of Envoy's continues what a client sent",
        "envoyfilter/trace-context-edge.yaml beside OpenTelemetry, Zipkin, Zipkin with USE_B3, Datadog, SkyWalking and none; \
         contexts in W3C, B3 and the formats of Datadog, X-Ray and SkyWalking",
        &format!(
            "0 ids of the client's left, {} tracers, {} versions",
            tracers.len(),
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// The README says that nothing was measured beside it, and why.
#[test]
fn no_envoy_within_reach_has_the_tracer_of_x_ray() {
    each_supported(|envoy| {
        let closed = ClosedPort::reserve().expect("a port");
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http1("upstream", closed.address()))
            .listener(listener("ingress", &patched("xray", &[])));
        let refused = Envoy::start(envoy, bootstrap).expect_err("a refusal");
        assert!(
            refused.to_string().contains("envoy.tracers.xray"),
            "{refused}"
        );
    });
}
