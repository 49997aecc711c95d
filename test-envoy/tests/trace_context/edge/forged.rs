//! What a client forges neither forces a trace nor suppresses one, and names neither trace nor
//! span.

use std::collections::BTreeMap;

use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_render::Tracer;
use meshtrace_test_support::common::TRACE;
use meshtrace_test_support::promises;

use super::{
    Callers, Edge, FORCING, Headers, IGNORE, NOTHING, Passed, RESTART, SUPPRESSING, TRACERS,
    assert_clean,
};

/// Whether a request is traced although `random_sampling` is 0, where nothing is before the tracer.
fn forces(headers: Headers, tracer: Tracer, callers: Callers, version: &str) -> bool {
    let zipkin = tracer != Tracer::OpenTelemetry;
    let last = headers.last().map(|(name, _)| *name);
    match headers[0].0 {
        "x-client-trace-id" => true,
        "x-envoy-force-trace" if last == Some("x-forwarded-for") => {
            callers == Callers::InternalByHeader
        }
        "x-envoy-force-trace" => callers == Callers::Internal,
        "x-request-id" => callers.keeps_clients_headers(),
        "traceparent" => match tracer {
            Tracer::OpenTelemetry => version < "1.39",
            Tracer::ZipkinB3 => false,
            Tracer::ZipkinB3WithW3c => true,
        },
        "b3" => zipkin,
        _ => zipkin && last == Some("x-b3-sampled"),
    }
}

/// Whether a request is not traced although `random_sampling` is 100, where nothing is before the
/// tracer.
fn suppresses(headers: Headers, tracer: Tracer, callers: Callers) -> bool {
    let zipkin = tracer != Tracer::OpenTelemetry;
    match headers[0] {
        ("x-request-id", id) => id.starts_with("client") && callers.keeps_clients_headers(),
        ("traceparent", malformed) if malformed.len() < 55 => !zipkin,
        ("traceparent", _) => tracer != Tracer::ZipkinB3,
        _ => zipkin,
    }
}

#[test]
fn a_client_neither_forces_nor_suppresses_a_trace_nor_names_one() {
    let mut tried = 0;
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut edge = Edge::start(envoy, &[NOTHING, RESTART, IGNORE]);
        let mut behind = Vec::new();
        let mut alone = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in Callers::ALL {
                for remedy in [RESTART, IGNORE] {
                    behind.extend(edge.send(tracer, callers, 0, remedy, FORCING));
                    for requests in [FORCING, SUPPRESSING] {
                        let passed = edge.send(tracer, callers, 100, remedy, requests);
                        expected.extend(passed.iter().map(|passed| (passed.number, tracer)));
                        behind.extend(passed);
                    }
                }
                for (percent, requests) in [(0, FORCING), (100, SUPPRESSING)] {
                    let passed = edge.send(tracer, callers, percent, NOTHING, requests);
                    for (passed, headers) in passed.into_iter().zip(requests) {
                        let traced = match percent {
                            0 => forces(headers, tracer, callers, version),
                            _ => !suppresses(headers, tracer, callers),
                        };
                        if traced {
                            expected.insert(passed.number, tracer);
                        }
                        alone.push(passed);
                    }
                }
            }
        }

        let spans = edge.spans(&expected);
        let differences: Vec<_> = behind
            .iter()
            .chain(&alone)
            .filter(|passed| {
                spans.contains_key(&passed.number) != expected.contains_key(&passed.number)
            })
            .map(|passed| {
                let traced = spans.contains_key(&passed.number);
                format!("{}: traced: {traced}", passed.told)
            })
            .collect();
        assert!(
            differences.is_empty(),
            "{version}:\n{}",
            differences.join("\n")
        );
        for passed in &behind {
            assert_clean(passed);
            if let Some(span) = spans.get(&passed.number) {
                assert_eq!(span.parent_span_id, None, "{version}: {}", passed.told);
                assert!(
                    !span.trace_id.contains(&TRACE[16..]),
                    "{version}: {}",
                    passed.told
                );
            }
        }
        // Without the remedy the ids do go on.
        let names = |passed: &&Passed| {
            let mut values = passed
                .left
                .headers
                .iter()
                .map(|(_, value)| String::from_utf8_lossy(value));
            values.any(|value| value.contains(TRACE))
        };
        assert!(alone.iter().filter(names).count() > 50, "{version}");
        tried += behind.len();
    });
    promises::held(
        "Context and formats",
        "At the edge a client neither forces a trace nor suppresses one, and names neither trace nor span",
        "the rendered early mutation, restart and ignore: trace headers, x-client-trace-id, x-envoy-force-trace, x-request-id; \
         three tracers, four settings of internal callers, random_sampling 0 and 100",
        &format!(
            "{tried} of {tried} requests in traces of their own, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

#[test]
fn a_client_does_not_name_the_span() {
    let name: Headers = &[("x-envoy-decorator-operation", "the client's")];
    each_supported(|envoy| {
        let mut edge = Edge::start(envoy, &[NOTHING, RESTART, IGNORE]);
        let mut sent = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in Callers::ALL {
                for remedy in [NOTHING, RESTART, IGNORE] {
                    let passed = edge.send_one(tracer, callers, 100, remedy, name);
                    expected.insert(passed.number, tracer);
                    let named = remedy == NOTHING && callers.keeps_clients_headers();
                    sent.push((passed, named));
                }
            }
        }
        let spans = edge.spans(&expected);
        for (passed, named) in sent {
            let span = spans.get(&passed.number).expect(&passed.told);
            assert_eq!(
                span.name == "the client's",
                named,
                "{} on {}",
                passed.told,
                envoy.reported_version()
            );
        }
    });
}
