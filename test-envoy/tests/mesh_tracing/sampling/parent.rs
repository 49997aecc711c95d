//! The policies about a parent's decision.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::traceparent;
use serde_json::json;

use super::{KEPT, LOST, config, seen, tracestate};

#[test]
fn every_parent_policy_is_in_force_for_this_hops_span_and_for_the_next_hop() {
    each_host(|host, envoy, version| {
        let policies = ["respect", "ignore", "respect_sampled", "respect_dropped"];
        let listener = |policy: &str| {
            let sampling = json!({"parent": policy, "default": {"ratio": 0.5}});
            let config = config(sampling, json!({"resource": {"service.name": policy}}));
            let mut filter = config;
            filter["trace_context"] = json!({"inject": ["tracecontext", "b3"]});
            Listener::http(policy, host.manager(filter))
        };
        let bootstrap = policies
            .into_iter()
            .map(listener)
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        for (i, (policy, randomness, flag, state, left, left_state)) in [
            ("respect", LOST, "01", "a=1", "01", "a=1"),
            ("respect", LOST, "01", "a=1,ot=th:8,b=2", "01", "a=1,b=2"),
            ("respect", LOST, "01", "ot=th:8", "01", ""),
            ("respect", LOST, "00", "a=1,ot=th:8", "00", "a=1,ot=th:8"),
            ("ignore", LOST, "01", "a=1,ot=th:0;x:1", "00", "ot=x:1,a=1"),
            ("ignore", KEPT, "00", "a=1,b=2", "01", "ot=th:8,a=1,b=2"),
            (
                "ignore",
                LOST,
                "00",
                "a=1,ot=rv:ffffffffffffff",
                "01",
                "ot=th:8;rv:ffffffffffffff,a=1",
            ),
            ("ignore", KEPT, "01", "ot=th:c,a=1", "01", "ot=th:8,a=1"),
            ("respect_sampled", LOST, "01", "ot=th:0", "01", "ot=th:0"),
            ("respect_sampled", KEPT, "00", "a=1", "01", "ot=th:8,a=1"),
            ("respect_sampled", LOST, "00", "a=1", "00", "a=1"),
            ("respect_dropped", KEPT, "00", "a=1", "00", "a=1"),
            ("respect_dropped", LOST, "01", "a=1", "00", "a=1"),
            ("respect_dropped", KEPT, "01", "ot=th:c", "01", "ot=th:c"),
            ("respect_dropped", KEPT, "01", "ot=th:4", "01", "ot=th:8"),
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("{policy}, {randomness}, {flag}, {state} on {version}");
            let id = format!("4bf92f3577b34da6{i:02x}{randomness}");
            let request = Request::get("/")
                .header("traceparent", format!("00-{id}-{SPAN}-{flag}"))
                .header("tracestate", state);
            let address = mesh.envoy.address(policy).expect("its address");
            request.send(address).expect("a response");
            let told = seen(&mesh);
            let [trace_id, span_id, flags] = traceparent(&told);
            assert_eq!((&trace_id, flags.as_str()), (&id, left), "{what}");
            assert_eq!(tracestate(&told), left_state, "{what}");
            let b3 = format!("{id}-{span_id}-{}-{SPAN}", &left[1..]);
            assert_eq!(told.header_text("b3"), Some(b3), "{what}");
            if left == "01" {
                let spans = mesh.sink.wait_for_trace(&id, 1).expect("a span");
                assert_eq!(spans.len(), 1, "{what}");
                let span = &spans[0];
                assert_eq!(span.service, policy, "{what}");
                assert_eq!(span.span_id, span_id, "{what}");
                assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{what}");
                assert_eq!(span.trace_state, left_state, "{what}");
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            mesh.sink.spans().len(),
            10,
            "{version}: no other was exported"
        );
        mesh.assert_sound(version);
    });
}
