//! The code that the tests of sampling share. `route_sampling` or `mesh_tracing` makes the
//! decision.

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use envoy_test_harness::Envoy;
use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::HttpConnectionManager;
use meshtrace_render::sampling_settings;
use meshtrace_sampling::SamplingConfig;

use crate::host::Host;
use crate::tracers::Tracer;

/// The formats that this tracer reads, in the form of the filter's key `extract`.
pub fn extract(tracer: Tracer) -> &'static str {
    match tracer {
        Tracer::None | Tracer::OpenTelemetry => r#"["tracecontext"]"#,
        Tracer::ZipkinB3 => r#"["b3", "b3multi"]"#,
        Tracer::ZipkinB3WithW3c => r#"["b3", "b3multi", "tracecontext"]"#,
    }
}

/// A connection manager with the tracer. In front of it is the mutation that is rendered for a
/// filter of this configuration.
pub fn around(tracer: Tracer, config: &str) -> HttpConnectionManager {
    let config: SamplingConfig =
        meshtrace_config::read(config.as_bytes()).expect("a configuration");
    let settings = sampling_settings(&config, tracer.rendered()).expect("settings");
    HttpConnectionManager::new()
        .tracing(tracer.tracing().expect("a tracer"))
        .virtual_host(settings.virtual_host)
        .merge(settings.manager)
}

/// Asserts that about this share of the traces was found. Trace ids are random, so the count may
/// differ by six standard deviations. A larger difference happens less than once in ten million
/// runs.
#[track_caller]
pub fn assert_about(found: usize, ratio: f64, count: usize, what: &str) {
    let count = f64::from(u32::try_from(count).expect("a number"));
    let found = f64::from(u32::try_from(found).expect("a number"));
    let expected = ratio * count;
    let limit = 6.0 * (expected * (1.0 - ratio)).sqrt();
    assert!(
        (found - expected).abs() <= limit,
        "{what}: {found}, expected {expected} ± {limit}"
    );
}

/// Sends 24 times `each` requests at once to an Envoy whose rules sample `rate` traces a second.
/// Asserts that all its workers together keep no more and no fewer than the rate allows. Returns
/// how many they keep.
pub fn assert_one_bucket(
    host: Host,
    envoy: &Envoy,
    address: SocketAddr,
    rate: u64,
    each: u64,
) -> u64 {
    // The kernel gives each connection to some worker: all of them to one once in millions of runs.
    const SENDERS: u64 = 24;
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut connection = Connection::open(address).expect("a connection");
                for _ in 0..each {
                    let response = connection.send(&Request::get("/")).expect("a response");
                    assert_eq!(response.status, 200);
                }
            });
        }
    });
    let seconds = begin.elapsed().as_secs() + 1;
    let counter = |name: &str| {
        let name = host.counter(&format!("route_sampling.{name}"));
        envoy.stat(&name).expect("a counter")
    };
    let (kept, dropped) = (counter("default.sampled"), counter("default.dropped"));
    assert_eq!(kept + dropped, SENDERS * each);
    assert_eq!(counter("per_second.failed"), 0);
    assert!(kept >= rate, "a full bucket to begin with, and not {kept}");
    assert!(kept <= rate * (seconds + 1), "{kept} in {seconds} s");
    kept
}
