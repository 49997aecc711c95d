//! What `route_sampling` decides, counted in the spans that real tracers export.

mod early;
mod force;
mod parent;
mod rate;
mod ratio;
mod route;
mod rules;
mod upstream;

use std::collections::BTreeSet;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream};
use meshtrace_test_support::common::{Mesh, module};
use meshtrace_test_support::sampling::around;
use meshtrace_test_support::sampling::extract;
use meshtrace_test_support::tracers::{CASE, Reader, Sinks, Tracer};

const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

fn route_sampling(config: &str) -> WasmFilter {
    WasmFilter::new("route_sampling", module("route_sampling")).configuration(config)
}

/// `keys` of a configuration, for the filter before this tracer.
fn config(tracer: Tracer, keys: &str) -> String {
    format!(r#"{{"extract": {}, {keys}}}"#, extract(tracer))
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
