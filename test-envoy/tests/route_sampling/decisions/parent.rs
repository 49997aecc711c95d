//! A decision that comes in.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::Mesh;
use meshtrace_test_support::tracers::{CASE, Caller, Sinks, Tracer};

use super::{TENTH, TRACERS, config, exported, sampling, to_upstream, told};

#[test]
fn a_decision_that_comes_in_stands_and_nothing_of_the_filter_goes_on() {
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let listener = |tracer: Tracer| {
            let manager = to_upstream(sampling(tracer, &config(tracer, TENTH)));
            Listener::http(&format!("{tracer:?}"), manager)
        };
        let bootstrap = TRACERS
            .map(listener)
            .into_iter()
            .fold(sinks.connect(Bootstrap::new()), Bootstrap::listener);
        let mesh = Mesh::with(envoy, bootstrap);
        for tracer in TRACERS {
            let what = format!("{tracer:?} on {}", envoy.reported_version());
            let mut connection = mesh.connect(&format!("{tracer:?}"));
            let mut pass = |path: &str, lines: &[&str]| {
                let caller = Caller::fresh();
                let request = Request::get(path).header(CASE, path);
                let request = lines.iter().fold(request, |request, line| {
                    let (name, value) = line.split_once(": ").expect("a header line");
                    request.header(name, caller.fill(value))
                });
                let seen = mesh.pass(&mut connection, &request);
                for name in ["x-envoy-force-trace", "x-client-trace-id"] {
                    assert_eq!(seen.header_text(name), None, "{what}: {name}");
                }
                let mark = seen.header_text("x-request-id").expect("an id");
                assert_eq!(&mark[14..15], "4", "{what}: {mark}");
                let (trace_id, sampled) = told(tracer, &seen);
                (trace_id == caller.trace_id, sampled, trace_id)
            };
            let parent: &[(&[&str], bool)] = match tracer {
                Tracer::ZipkinB3 => &[
                    (&["b3: $T-$S-1"], true),
                    (&["b3: $T-$S-0"], false),
                    (
                        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
                        true,
                    ),
                    (
                        &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 0"],
                        false,
                    ),
                ],
                _ => &[
                    (&["traceparent: 00-$T-$S-01"], true),
                    (&["traceparent: 00-$T-$S-00"], false),
                ],
            };
            for (lines, expected) in parent {
                // The rules would decide otherwise.
                let path = if *expected { "/health" } else { "/payments" };
                let (continues, sampled, trace_id) = pass(path, lines);
                // Until 1.39 a `b3` goes on beside what the tracer writes.
                assert!(continues, "{what}: {lines:?}");
                assert_eq!(sampled, *expected, "{what}: {lines:?}");
                if sampled {
                    assert_eq!(sinks.spans(tracer, &trace_id, path, 1).len(), 1, "{what}");
                }
            }
            // Whoever asks for a trace without a context is not obeyed.
            for header in ["x-client-trace-id: 1", "x-envoy-force-trace: true"] {
                assert!(!pass("/health", &[header]).1, "{what}: {header}");
            }
            let (_, sampled, last) = pass("/last", &[]);
            assert!(sampled, "{what}");
            assert!(
                exported(&sinks, tracer, "/payments", &last, 1).is_empty(),
                "{what}"
            );
        }
    });
}
