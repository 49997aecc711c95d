//! A `traceparent` that came several times: the trace goes on where the filter continues it.

use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::promises;

use super::{BELIEVED, Case, Hop, Lines, Proxies, TRACERS, as_the_filter_reads};

const A: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const DROPPED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const OTHER_SPAN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-00";
const OTHER_TRACE: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
const NO_SPAN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
const LATER: &str = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UPPER: &str = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";

/// What may join two values (RFC 9110, section 5.6.1), an empty value between them included.
const COMMAS: [&str; 8] = [",", ", ", " ,", ",\t", "\t,", " \t,\t ", ",,", ",\t, ,"];

/// The lines of one request, by the values in each of them.
fn shapes() -> Vec<Vec<String>> {
    let line = |values: &[&str], comma: &str| values.join(comma);
    let mut shapes = Vec::new();
    for values in [
        &[A, A][..],
        &[A, OTHER_SPAN],
        &[DROPPED, A],
        &[A, OTHER_SPAN, A],
        &[A, OTHER_SPAN, A, A, OTHER_SPAN, A, A, A, A],
        &[A, OTHER_TRACE],
        &[A, A, OTHER_TRACE],
        &[A, NO_SPAN],
        &[A, UPPER],
        &[UPPER, UPPER],
        &[A, "junk"],
        &[A, ""],
        &["", A],
        &["", "", A, OTHER_SPAN],
        &["", OTHER_TRACE, A],
        &[A, "", A],
        &["", LATER],
        &["", LATER, LATER],
        &["00-", "00-"],
        &["00-.*", "00-.*"],
    ] {
        shapes.push(values.iter().map(|value| (*value).to_owned()).collect());
        for comma in COMMAS {
            shapes.push(vec![line(values, comma)]);
        }
    }
    shapes.push(vec![line(&[A, OTHER_SPAN], ","), A.to_owned()]);
    shapes.push(vec![A.to_owned(), line(&[A, OTHER_TRACE], ",")]);
    shapes
}

#[test]
fn several_values_of_one_trace_are_continued_before_every_tracer_as_by_the_filter() {
    let reject = r#"{"on_repeated": "reject"}"#;
    let configs = ["{}", BELIEVED, reject];
    let mut tried = 0;
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &configs);
        let mut differences = Vec::new();
        for tracer in TRACERS {
            for config in configs {
                let case = |lines: Vec<String>| {
                    let line = |value: &String| ("traceparent".to_owned(), value.clone().into());
                    let known = ("x-known".to_owned(), b"1".to_vec());
                    let sent: Lines = lines.iter().map(line).chain([known]).collect();
                    Case {
                        name: format!("{lines:?}"),
                        expected: as_the_filter_reads(config, tracer, &sent),
                        sent,
                    }
                };
                let cases: Vec<_> = shapes().into_iter().map(case).collect();
                let is_continued = |case: &&Case| matches!(case.expected, Hop::Continued { .. });
                let continued = cases.iter().filter(is_continued).count();
                assert_eq!(continued, if config == reject { 0 } else { 91 }, "{config}");
                tried += cases.len();
                differences.extend(proxies.differences(tracer, config, &cases));
            }
        }
        assert!(
            differences.is_empty(),
            "{}:\n{}",
            envoy.reported_version(),
            differences.join("\n")
        );
    });
    promises::held(
        "Context and formats",
        "The early mutation continues a traceparent that came several times where the filter does",
        &format!(
            "{} shapes (lines and joined values, one trace and two, malformed and empty ones), same_trace, reject, \
             and callers that are believed; three tracers",
            shapes().len()
        ),
        &format!(
            "{tried} of {tried} requests as the filter reads them, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}
