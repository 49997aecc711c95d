//! Before the proxy's own tracer the filter does what `route_sampling` does.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener, Route};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common;
use meshtrace_test_support::reporting::{mesh_tracing, traceparent};
use meshtrace_test_support::sampling::around;
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};
use serde_json::json;

/// Without `report` the proxy's own tracer follows, as it does `route_sampling`.
#[test]
fn before_the_proxys_own_tracer_it_is_the_single_filter() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"extract": ["tracecontext"], "rules": [
            {"name": "keep", "match": {"path": {"prefix": "/keep"}}, "sample": "always"},
        ], "default": "never"});
        let sinks = Sinks::start();
        let manager = around(Tracer::OpenTelemetry, &sampling.to_string())
            .route(Route::prefix("/").cluster("upstream"))
            .filter(mesh_tracing(json!({"sampling": sampling})));
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http("ingress", manager));
        let mesh = common::Mesh::with(envoy, bootstrap);
        let mut connection = mesh.connect("ingress");
        for (path, kept) in [("/drop", false), ("/keep/it", true)] {
            let told = mesh.pass(&mut connection, &Request::get(path).header(CASE, path));
            let [trace_id, _, flags] = traceparent(&told);
            assert_eq!(flags == "01", kept, "{path} on {version}");
            assert_eq!(told.header_text("x-envoy-force-trace"), None, "{version}");
            if kept {
                sinks.spans(Tracer::OpenTelemetry, &trace_id, path, 1);
            }
        }
        assert!(sinks.arrived("/drop").is_empty(), "{version}");
        let counter = "wasmcustom.meshtrace.route_sampling.rule.keep.sampled";
        assert_eq!(mesh.envoy.stat(counter).expect("a counter"), 1, "{version}");
    });
}
