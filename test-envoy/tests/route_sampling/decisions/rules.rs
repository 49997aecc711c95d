//! Rules that name Envoy's route and cluster.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, Listener, Route};
use envoy_test_harness::{Envoy, Upstream, each_supported};
use meshtrace_test_support::tracers::{Sinks, Tracer};

use super::{assert_no_host_errors, config, sampling, told};

#[test]
fn rules_may_name_envoys_route_and_cluster() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(
        tracer,
        r#""rules": [
            {"name": "route", "match": {"route": "checkout"}, "sample": "always"},
            {"name": "cluster", "match": {"cluster": "ledger", "host": "*.example"}, "sample": "always"}
        ], "default": "never""#,
    );
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let upstream = Upstream::start().expect("an upstream");
        let manager = sampling(tracer, &json)
            .route(Route::prefix("/checkout").cluster("other").name("checkout"))
            .route(Route::prefix("/ledger").cluster("ledger"))
            .route(Route::prefix("/").cluster("other"));
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("other", upstream.address()))
            .cluster(Cluster::http1("ledger", upstream.address()));
        let envoy = Envoy::start(envoy, bootstrap).expect("an Envoy");
        let address = envoy.address("ingress").expect("its address");
        for (path, host, expected) in [
            ("/checkout", "shop.test", true),
            ("/ledger", "Pay.Example:8080", true),
            ("/ledger", "pay.test", false),
            ("/", "pay.example", false),
        ] {
            let request = Request::get(path).header("host", host);
            request.send(address).expect("a response");
            let seen = upstream.take();
            assert_eq!(told(tracer, &seen[0]).1, expected, "{path} {host}");
        }
        assert_no_host_errors(&envoy);
    });
}
