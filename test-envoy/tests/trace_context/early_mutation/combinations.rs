//! Headers of several formats: the tracer continues the context that the filter reads.

use envoy_test_harness::EnvoyBinary;
use meshtrace_render::Tracer;
use meshtrace_test_support::common;

use super::{Case, Lines, Proxies, STRICT, TRACERS, as_the_filter_reads, sent, vectors};

/// Headers of one format, each as single requests send them.
type Forms = &'static [&'static [(&'static str, &'static str)]];

const TRACEPARENTS: Forms = &[
    &[],
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )],
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    )],
    &[(
        "traceparent",
        "00-000000000000000064fe8b2a57d3eff7-e457b5a2e4d86bd1-03",
    )],
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b77-01",
    )],
    &[(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    )],
    &[("traceparent", "")],
    &[(
        "traceparent",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )],
    &[(
        "traceparent",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )],
    &[(
        "traceparent",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more-1",
    )],
    &[(
        "traceparent",
        "01-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01-",
    )],
    &[
        (
            "traceparent",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ),
        (
            "traceparent",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ),
    ],
];

const B3: Forms = &[
    &[],
    &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")],
    &[(
        "b3",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0-05e3ac9a4f6e3b90",
    )],
    &[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-d-05e3ac9a4f6e3b90")],
    &[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1")],
    &[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-05e3ac9a4f6e3b90")],
    &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1")],
    // A parent of zeros is none.
    &[(
        "b3",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-0000000000000000",
    )],
    // As long as the valid ones, with a dash elsewhere.
    &[("b3", "80f198ee56343ba864fe8b2a57d3eff-e457b5a2e4d86bd11-1")],
    &[("b3", "80f198ee56343ba864fe8b2a57d3ef-e457b5a2e4d86bd1-1")],
    &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1 ")],
    &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-2")],
    &[("b3", "")],
    &[("b3", "0")],
    &[("b3", "1")],
    &[("b3", "d")],
    &[
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ("b3", "0"),
    ],
];

const B3_MULTI: Forms = &[
    &[],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-sampled", "1"),
    ],
    &[
        ("x-b3-traceid", "48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-sampled", "false"),
    ],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-parentspanid", "0020000000000001"),
        ("x-b3-flags", "1"),
    ],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-parentspanid", "short"),
        ("x-b3-sampled", "maybe"),
    ],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-parentspanid", "0000000000000000"),
        ("x-b3-sampled", "1"),
    ],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb612"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
    ],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-sampled", "0"),
    ],
    &[("x-b3-sampled", "0")],
    &[("x-b3-sampled", "true")],
    &[("x-b3-flags", "1"), ("x-b3-sampled", "0")],
    &[
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "0"),
        ("x-b3-sampled", "1"),
    ],
];

/// One in five of all combinations of the forms, each form with each other, with what the filter's
/// own reading makes of it.
///
/// The whole set differs in nothing else and takes a minute.
fn combinations(config: &str, tracer: Tracer, first: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for traceparent in TRACEPARENTS {
        for b3 in B3 {
            for multi in B3_MULTI {
                let sent: Lines = [*traceparent, *b3, *multi]
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                    .collect();
                cases.push(Case {
                    name: format!("{traceparent:?} {b3:?} {multi:?}"),
                    expected: as_the_filter_reads(config, tracer, &sent),
                    sent,
                });
            }
        }
    }
    cases.into_iter().skip(first).step_by(5).collect()
}

/// The conversions between W3C and B3, conflicts included.
fn conversions(config: &str, tracer: Tracer) -> Vec<Case> {
    let vectors = vectors();
    let conversions = vectors["conversions"].as_array().expect("conversions");
    let known = |(name, _): &(String, Vec<u8>)| common::TRACE_HEADERS.contains(&name.as_str());
    let cases: Vec<_> = conversions
        .iter()
        .map(|case| (case, sent(case)))
        .filter(|(_, sent)| sent.iter().all(known))
        .map(|(case, sent)| Case {
            name: case["name"].as_str().expect("a name").to_owned(),
            expected: as_the_filter_reads(config, tracer, &sent),
            sent,
        })
        .collect();
    assert!(cases.len() > 12, "only {} conversions", cases.len());
    cases
}

#[test]
fn the_context_that_is_continued_is_the_one_that_the_filter_reads() {
    let configs = [
        "{}",
        STRICT,
        r#"{"extract": ["b3", "b3multi", "tracecontext"], "on_defer": "sampled"}"#,
        r#"{"extract": ["b3multi", "b3"], "on_defer": "sampled", "b3_strict": true}"#,
        r#"{"extract": ["tracecontext"]}"#,
    ];
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &configs);
    for (i, config) in configs.into_iter().enumerate() {
        for tracer in TRACERS {
            let mut cases = combinations(config, tracer, i);
            cases.extend(conversions(config, tracer));
            let differences = proxies.differences(tracer, config, &cases);
            assert!(differences.is_empty(), "{}", differences.join("\n"));
        }
    }
}
