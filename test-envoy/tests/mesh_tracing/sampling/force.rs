//! Only the operator's secret forces a trace.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing, traceparent};
use meshtrace_test_support::tracers::Caller;
use serde_json::json;

use super::{config, exported, seen, tracestate};

#[test]
fn only_the_operators_secret_forces_and_no_hop_sees_it() {
    each_host(|host, envoy, version| {
        let sampling =
            json!({"default": "never", "force": {"header": "x-force", "value_env": "FORCE"}});
        let config = config(sampling, json!({}));
        let (manager, options) = match host {
            Host::Wasm => {
                // Until 1.39 the environment is no part of what tells VMs apart.
                let filter = mesh_tracing(config).env("FORCE", "hunter2");
                (manager(filter.vm_id("with-key")), host.options())
            }
            Host::Native => (host.manager(config), host.options().env("FORCE", "hunter2")),
        };
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
        let mesh = Collected::on(host, envoy, "http/protobuf", bootstrap, options);
        for (secret, parent, forced) in [
            (Some("hunter2"), None, true),
            (Some("hunter3"), None, false),
            (None, None, false),
            (Some("hunter2"), Some("00"), true),
            (Some("hunter3"), Some("00"), false),
        ] {
            let caller = Caller::fresh();
            let mut request = Request::get("/").header("tracestate", "ot=th:8,a=1");
            if let Some(secret) = secret {
                request = request.header("x-force", secret);
            }
            if let Some(flags) = parent {
                let value = format!("00-{}-{SPAN}-{flags}", caller.trace_id);
                request = request.header("traceparent", value);
            }
            mesh.send(&request);
            let what = format!("{secret:?} {parent:?} on {version}");
            let told = seen(&mesh);
            assert_eq!(told.header_text("x-force"), None, "{what}");
            let [trace_id, span_id, flags] = traceparent(&told);
            assert_eq!(flags == "01", forced, "{what}");
            let spans = exported(&mesh, 1);
            mesh.upstream.take();
            assert_eq!(spans.len(), usize::from(forced), "{what}");
            for span in spans {
                assert_eq!((&span.trace_id, &span.span_id), (&trace_id, &span_id));
                // Who forces a trace gives it no probability.
                let expected = if parent.is_some() { "a=1" } else { "" };
                assert_eq!(span.trace_state, expected, "{what}");
                assert_eq!(tracestate(&told), expected, "{what}");
            }
        }
        assert_eq!(mesh.counter("route_sampling.force.sampled"), 2, "{version}");
        assert_eq!(mesh.counter("route_sampling.force.refused"), 2, "{version}");
        mesh.assert_sound(version);
    });
}
