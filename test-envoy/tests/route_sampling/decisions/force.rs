//! Only the operator's secret forces a trace.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener, WasmFilter};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{self, Mesh, module};
use meshtrace_test_support::sampling::around;
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};

use super::{config, to_upstream, told};

#[test]
fn only_the_operators_secret_forces() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sinks = Sinks::start();
        let tracer = Tracer::OpenTelemetry;
        let keys = r#""default": "never", "force": {"header": "x-force-trace", "value_env": "FORCE_TRACE"}"#;
        let json = config(tracer, keys);
        let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
        let manager = |filter: WasmFilter| {
            let upstream =
                WasmFilter::new("upstream", module("route_sampling")).configuration(upstream);
            to_upstream(
                around(tracer, &json)
                    .filter(filter)
                    .upstream_filter(upstream),
            )
        };
        let with = WasmFilter::new("with-key", module("route_sampling")).configuration(&json);
        let without = WasmFilter::new("without-key", module("route_sampling")).configuration(&json);
        let bootstrap = sinks
            .connect(Bootstrap::new())
            // Until 1.39 the environment is no part of what tells VMs apart.
            .listener(Listener::http(
                "with",
                manager(with.env("FORCE_TRACE", "hunter2").vm_id("with-key")),
            ))
            .listener(Listener::http("without", manager(without)));
        let mesh = Mesh::with(envoy, bootstrap);
        let parent = format!("00-{}-{}-00", common::TRACE, common::SPAN);
        for (listener, secret, parent, expected) in [
            ("with", Some("hunter2"), None, true),
            ("with", Some("hunter3"), None, false),
            ("with", Some("hunter"), None, false),
            ("with", None, None, false),
            ("without", Some("hunter2"), None, false),
            ("without", Some(""), None, false),
            // The proxy's span is its parent's; the application's trace is forced by the upstream
            // filter.
            ("with", Some("hunter2"), Some(&parent), true),
            ("with", Some("hunter3"), Some(&parent), false),
        ] {
            let mut request = Request::get("/").header(CASE, "force");
            if let Some(secret) = secret {
                request = request.header("x-force-trace", secret);
            }
            if let Some(parent) = parent {
                request = request.header("traceparent", parent);
            }
            let seen = mesh.pass(&mut mesh.connect(listener), &request);
            let (_, sampled) = told(tracer, &seen);
            let what = format!("{listener} {secret:?} {parent:?} on {version}");
            assert_eq!(sampled, expected, "{what}");
            assert_eq!(seen.header_text("x-force-trace"), None, "{what}");
            assert_eq!(seen.header_text("x-envoy-force-trace"), None, "{what}");
        }
        for (counter, expected) in [("sampled", 2), ("refused", 3), ("off", 2)] {
            let name = format!("wasmcustom.meshtrace.route_sampling.force.{counter}");
            assert_eq!(
                mesh.envoy.stat(&name).expect("a counter"),
                expected,
                "{name} on {version}"
            );
        }
    });
}
