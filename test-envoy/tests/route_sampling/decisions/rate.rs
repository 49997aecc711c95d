//! A number of traces a second, for all workers of a proxy together.

use envoy_test_harness::config::{Bootstrap, Cluster, Listener};
use envoy_test_harness::{Envoy, Options, Upstream, each_supported};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::sampling::assert_one_bucket;
use meshtrace_test_support::tracers::{Sinks, Tracer};

use super::{config, sampling, to_upstream, told};

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

        let kept = assert_one_bucket(Host::Wasm, &envoy, address, RATE, 50);
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
