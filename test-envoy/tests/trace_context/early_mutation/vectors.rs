//! Every vector of the three formats is continued or refused as its specification says.

use envoy_test_harness::each_supported;
use meshtrace_render::Tracer;

use super::{Case, Hop, Proxies, STRICT, TRACERS, sent, vectors};

/// The vectors of the three formats; what they call invalid starts a new trace.
fn vector_cases(tracer: Tracer) -> Vec<Case> {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().expect("cases");
    let formats = ["w3c", "w3c-tracestate", "b3-multi", "b3-single"];
    cases
        .iter()
        .filter(|case| formats.contains(&case["format"].as_str().expect("a format")))
        .map(|case| {
            let expect = &case["expect"];
            let decision = expect["sampled"].as_bool();
            let deferred = tracer != Tracer::OpenTelemetry;
            let expected = match expect["trace_id"].as_str() {
                Some(trace) => Hop::Continued {
                    trace: trace.to_owned(),
                    parent: expect["span_id"].as_str().map(str::to_owned),
                    sampled: decision.unwrap_or(deferred),
                },
                None => Hop::Started {
                    sampled: decision.unwrap_or(true),
                },
            };
            Case {
                name: case["name"].as_str().expect("a name").to_owned(),
                sent: sent(case),
                expected,
            }
        })
        .collect()
}

#[test]
fn every_vector_is_continued_or_refused_as_its_specification_says_by_every_tracer() {
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &[STRICT]);
        let mut differences = Vec::new();
        for tracer in TRACERS {
            let cases: Vec<_> = vector_cases(tracer)
                .into_iter()
                .filter(|case| case.name != "b3-single/parent-without-sampled")
                .collect();
            assert!(cases.len() > 130, "only {} vectors", cases.len());
            differences.extend(proxies.differences(tracer, STRICT, &cases));
        }
        assert!(
            differences.is_empty(),
            "{}:\n{}",
            envoy.reported_version(),
            differences.join("\n")
        );
    });
}
