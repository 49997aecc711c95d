//! A configuration that leaves no room for spans in a batch is refused; the largest that does not
//! still exports.

use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{SPAN, TRACE, get};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing};
use serde_json::{Value, json};

fn start(envoy: &envoy_test_harness::EnvoyBinary, report: Value) -> Collected {
    let config = json!({ "report": report });
    let listener = Listener::http("ingress", manager(mesh_tracing(config)));
    Collected::with(envoy, "http/protobuf", Bootstrap::new().listener(listener))
}

#[test]
fn what_no_batch_has_room_for_is_refused_when_it_is_configured() {
    let large = "x".repeat(1_000_000);
    each_supported(|envoy| {
        for (report, key, limit) in [
            (
                json!({"cluster": "collector", "resource": {"a": large}}),
                "resource",
                "163840",
            ),
            (
                json!({"cluster": "collector", "resource": {"service.name": large}}),
                "resource",
                "163840",
            ),
            (
                json!({"cluster": "collector", "headers": {"x-a": large}}),
                "headers",
                "60416",
            ),
            (
                json!({"cluster": "collector", "authority": large}),
                "authority",
                "60416",
            ),
        ] {
            let at = format!("{} {key}", envoy.reported_version());
            let mesh = start(envoy, report);
            let line = mesh
                .envoy
                .wait_for_log(&format!("mesh_tracing.report.{key}: too large: "));
            let line = line.expect("a line");
            assert!(
                line.contains(limit) && line.contains(" 100") && line.len() < 500,
                "{at}: {line}"
            );
            assert_eq!(mesh.counter("config_invalid"), 1, "{at}");
            let sampled = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
            assert_eq!(mesh.send(&sampled).status, 200, "{at}");
        }
        let fits = "x".repeat(160_000);
        let mesh = start(
            envoy,
            json!({"cluster": "collector", "resource": {"a": fits}}),
        );
        for _ in 0..200 {
            mesh.send(&get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]));
        }
        mesh.wait_for_counter("report.exported", 200);
        assert_eq!(mesh.sink.spans().len(), 200);
        assert_eq!(mesh.sink.spans()[0].resource["a"], fits);
    });
    promises::held(
        "Configuration",
        "What leaves no room for spans in a batch, or for the call that carries it, is refused when it is configured",
        "1 MB as a resource attribute, a service name, a header and the authority; 160,000 bytes",
        "refused with its key, its size and the limit; 200 of 200 spans beside the largest resource, 4 versions",
    );
}
