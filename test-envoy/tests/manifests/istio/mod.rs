//! The Istio manifests: their plugin configuration in real Envoys, beside the tracers that they are
//! for.

mod access_log;
mod behind_opentelemetry;
mod beside_zipkin;
mod like_the_examples;
mod route_sampling;
mod span_attributes;

use std::collections::BTreeSet;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_config::read;
use meshtrace_propagation::{Propagation, TraceContextConfig};
use meshtrace_test_support::common::{Mesh, get, trace_headers};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";

/// The configuration as the filter reads it.
fn read_and_compile(json: &str) -> TraceContextConfig {
    let config: TraceContextConfig = read(json.as_bytes()).expect("a configuration");
    Propagation::new(&config).expect("one that compiles");
    config
}

/// Starts one listener, as a sidecar has it for what comes in.
fn inbound(envoy: &EnvoyBinary, managers: Vec<(&str, HttpConnectionManager)>) -> Mesh {
    let collector = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new().cluster(Cluster::http2("collector", collector.address()));
    let bootstrap = managers
        .into_iter()
        .fold(bootstrap, |bootstrap, (name, manager)| {
            let manager = manager.route(Route::prefix("/").cluster("upstream"));
            let listener = Listener::http(name, manager).direction(TrafficDirection::Inbound);
            bootstrap.listener(listener)
        });
    Mesh::with(envoy, bootstrap)
}

fn leaving(mesh: &Mesh, listener: &str, headers: &[(&str, &str)]) -> Vec<String> {
    trace_headers(&mesh.pass(&mut mesh.connect(listener), &get(headers)))
}

/// The traces and spans that the headers name, in any format.
fn spans(headers: &[String]) -> BTreeSet<String> {
    let value = |name: &str| {
        let line = headers.iter().find_map(|header| header.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": "))
    };
    let pair = |text: &str| text.split('-').take(2).collect::<Vec<_>>().join("-");
    let multi = value("x-b3-traceid").zip(value("x-b3-spanid"));
    let named = [
        value("traceparent").map(|text| pair(text.trim_start_matches("00-"))),
        value("b3").map(pair),
        multi.map(|(trace, span)| format!("{trace}-{span}")),
    ];
    named.into_iter().flatten().collect()
}
