//! Behind the tracer, as an upstream filter, every policy decides what the next hop is told.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, WasmFilter};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{self, Mesh, module};
use meshtrace_test_support::tracers::{CASE, Caller, Reader, Sinks, Tracer};

use super::{assert_no_host_errors, route_sampling, to_upstream};

/// Behind the tracer every policy works, for the next hop: a changed flag has a new parent id, and
/// `th` agrees with the flag.
#[test]
fn upstream_any_policy_decides_what_the_next_hop_is_told() {
    // The right-most 56 bits of a trace id that a half keeps, and of one that it does not.
    const KEPT: &str = "ffffffffffffff";
    const LOST: &str = "00000000000001";
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let upstream = |policy: &str| {
            let json = format!(
                r#"{{"placement": "upstream", "tracer": "tracecontext", "parent": "{policy}",
                     "default": {{"ratio": 0.5}}}}"#
            );
            let name = format!("upstream-{policy}");
            let filter = WasmFilter::new(&name, module("route_sampling")).configuration(json);
            let manager = HttpConnectionManager::new()
                .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
                .upstream_filter(filter);
            Listener::http(policy, to_upstream(manager))
        };
        let sinks = Sinks::start();
        let policies = ["respect", "ignore", "respect_sampled", "respect_dropped"];
        let bootstrap = policies
            .into_iter()
            .map(upstream)
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        let cases = [
            ("respect", LOST, "01", "a=1", "01", "a=1"),
            (
                "respect",
                LOST,
                "01",
                "a=1,ot=th:8;rv:ffffffffffffff",
                "01",
                "a=1,ot=th:8;rv:ffffffffffffff",
            ),
            ("respect", LOST, "01", "a=1,ot=th:8", "01", "a=1"),
            ("ignore", LOST, "01", "a=1,ot=th:0;x:1", "00", "ot=x:1,a=1"),
            ("ignore", KEPT, "00", "a=1", "01", "ot=th:8,a=1"),
            ("ignore", KEPT, "01", "ot=th:8", "01", "ot=th:8"),
            ("ignore", KEPT, "01", "ot=th:c", "01", "ot=th:8"),
            ("respect_sampled", LOST, "01", "ot=th:0", "01", "ot=th:0"),
            ("respect_sampled", KEPT, "00", "", "01", "ot=th:8"),
            ("respect_sampled", LOST, "00", "", "00", ""),
            ("respect_dropped", KEPT, "00", "", "00", ""),
            ("respect_dropped", LOST, "01", "", "00", ""),
            ("respect_dropped", KEPT, "01", "ot=th:c", "01", "ot=th:c"),
        ];
        for (i, (policy, randomness, flag, state, left, left_state)) in
            cases.into_iter().enumerate()
        {
            let what = format!("{policy}, {randomness}, {flag}, {state} on {version}");
            let parent = format!("00-4bf92f3577b34da6{i:02x}{randomness}-{}", common::SPAN);
            let request = Request::get("/")
                .header(CASE, &what)
                .header("traceparent", format!("{parent}-{flag}"))
                .header("tracestate", state);
            let seen = mesh.pass(&mut mesh.connect(policy), &request);
            let told = Reader::W3c.read(&seen).expect("a context");
            assert_eq!(told.sampled, Some(left == "01"), "{what}");
            assert_eq!(
                seen.header_text("tracestate").unwrap_or_default(),
                left_state,
                "{what}"
            );
            if flag == "01" {
                // The proxy's own span is as its parent was, and its id is told on only with its
                // flag.
                let spans = sinks.spans(Tracer::OpenTelemetry, &told.trace_id, &what, 1);
                let reported = spans.iter().any(|span| span.span_id == told.span_id);
                assert_eq!(reported, left == "01", "{what}");
            }
        }
        assert_no_host_errors(&mesh.envoy);
    });
}

#[test]
fn upstream_a_changed_decision_changes_every_format_that_the_tracer_wrote() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        for (tracer, writes) in [
            (Tracer::ZipkinB3, "b3multi"),
            (Tracer::ZipkinB3WithW3c, "tracecontext"),
        ] {
            let json = format!(
                r#"{{"placement": "upstream", "tracer": "{writes}", "parent": "ignore", "default": "never"}}"#
            );
            let sinks = Sinks::start();
            let manager = HttpConnectionManager::new()
                .tracing(tracer.tracing().expect("a tracer"))
                .upstream_filter(route_sampling(&json));
            let listener = Listener::http("ingress", to_upstream(manager));
            let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
            for lines in [
                &[][..],
                &["b3: $T-$S-1"],
                &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
            ] {
                let caller = Caller::fresh();
                let request = caller.request("changed", lines);
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let told: Vec<_> = Reader::ALL
                    .iter()
                    .filter_map(|reader| reader.read(&seen))
                    .collect();
                assert!(!told.is_empty());
                for one in &told {
                    assert_eq!(
                        one, &told[0],
                        "{tracer:?} on {version}: {lines:?}: one span in every format"
                    );
                    assert_eq!(
                        one.sampled,
                        Some(false),
                        "{tracer:?} on {version}: {lines:?}"
                    );
                }
            }
        }
    });
}
