//! Headers of B3 that came several times, in lines or joined by commas: the trace and the decision
//! are those that the filter reads.

use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::{http2, promises};

use super::{BELIEVED, Case, Hop, Lines, Proxies, TRACERS, as_the_filter_reads, context, listener};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const NARROW: &str = "a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const OTHER_SPAN: &str = "a8e0bed6092f2234";
const ZEROS: &str = "0000000000000000";

/// What joins two values.
const COMMAS: [&str; 4] = [",", ", ", " \t,\t", ",\t, ,"];

/// What may stand before and behind a value.
const ENDS: [(&str, &str); 3] = [(" ", ""), ("", "\t"), (" \t ", " ")];

/// Values of `b3`.
const SINGLE: [&[&str]; 27] = [
    &["0", "0"],
    &["0", "1"],
    &["1", "0"],
    &["d", "d", "0"],
    &["0", "2"],
    &["0", ""],
    &["", "0"],
    &["TRACE-SPAN-1", "TRACE-SPAN-1"],
    &["TRACE-SPAN-0", "TRACE-SPAN-1"],
    &["TRACE-SPAN-1", "TRACE-OTHER-0"],
    &["TRACE-SPAN-d-OTHER", "TRACE-OTHER", "TRACE-OTHER-1-SPAN"],
    &["TRACE-SPAN", "TRACE-SPAN"],
    &["TRACE-SPAN-0-ZEROS", "TRACE-SPAN-1"],
    &["TRACE-SPAN-OTHER", "TRACE-SPAN-1"],
    &["TRACE-SPAN-1", "TRACE-SPAN-OTHER"],
    &["NARROW-SPAN-0", "NARROW-OTHER-1"],
    &["TRACE-SPAN-1", "", "TRACE-SPAN-1"],
    &["", "TRACE-SPAN-0", ""],
    &["TRACE-SPAN-1", "ANOTHER-SPAN-1"],
    &["TRACE-SPAN-0", "0"],
    &["0", "TRACE-SPAN-0"],
    &["TRACE-SPAN-1", "TRACE-ZEROS-1"],
    &["TRACE-SPAN-1", "TRACE-SPAN-2"],
    &["TRACE-SPAN-1", "TRACE-SPAN-1-SPANSPAN"],
    &["TRACE-SPAN-1", "TRACE-SPAN-1-"],
    &["TRACETRACE-SPAN-1", "TRACETRACE-SPAN-1"],
    &["TRACE-SPAN-1", "junk"],
];

/// Values of one of `x-b3-*`.
const MULTI: [(&str, &[&str]); 25] = [
    ("x-b3-traceid", &["TRACE", "TRACE"]),
    ("x-b3-traceid", &["NARROW", "NARROW", "NARROW"]),
    ("x-b3-traceid", &["TRACE", "ANOTHER"]),
    ("x-b3-traceid", &["TRACE", "junk"]),
    ("x-b3-traceid", &["junk", "TRACE"]),
    ("x-b3-traceid", &["TRACETRACE", "TRACETRACE"]),
    ("x-b3-traceid", &["", "TRACE"]),
    ("x-b3-traceid", &["TRACE", "", ""]),
    ("x-b3-spanid", &["SPAN", "SPAN"]),
    ("x-b3-spanid", &["SPAN", "OTHER"]),
    ("x-b3-spanid", &["SPAN", "ZEROS"]),
    ("x-b3-spanid", &["SPAN", "junk"]),
    ("x-b3-spanid", &["", "SPAN"]),
    ("x-b3-parentspanid", &["OTHER", "OTHER"]),
    ("x-b3-parentspanid", &["ZEROS", "SPAN"]),
    ("x-b3-parentspanid", &["OTHER", "junk"]),
    ("x-b3-sampled", &["1", "1"]),
    ("x-b3-sampled", &["0", "0"]),
    ("x-b3-sampled", &["1", "0"]),
    ("x-b3-sampled", &["false", "true"]),
    ("x-b3-sampled", &["true", "maybe"]),
    ("x-b3-sampled", &["maybe", "1"]),
    ("x-b3-sampled", &["0 1", "1"]),
    ("x-b3-flags", &["1", "1"]),
    ("x-b3-flags", &["0", "1"]),
];

fn text(value: &str) -> String {
    let names = [
        ("ANOTHER", OTHER_TRACE),
        ("TRACE", TRACE),
        ("NARROW", NARROW),
        ("SPAN", SPAN),
        ("OTHER", OTHER_SPAN),
        ("ZEROS", ZEROS),
    ];
    let replaced = |text: String, (name, id): (&str, &str)| text.replace(name, id);
    names.into_iter().fold(value.to_owned(), replaced)
}

/// `values` of `header` in lines, and in one line.
fn shapes(header: &str, values: &[&str]) -> Vec<Lines> {
    let line = |value: &str| (header.to_owned(), text(value).into_bytes());
    let mut shapes = vec![values.iter().map(|value| line(value)).collect()];
    shapes.extend(COMMAS.map(|comma| vec![line(&values.join(comma))]));
    shapes
}

/// All from a caller that [`BELIEVED`] believes.
fn requests() -> Vec<Lines> {
    let mut requests: Vec<_> = SINGLE
        .iter()
        .flat_map(|values| shapes("b3", values))
        .collect();
    for (header, values) in MULTI {
        for several in shapes(header, values) {
            let ids = [
                ("x-b3-traceid", "TRACE"),
                ("x-b3-spanid", "SPAN"),
                ("x-b3-sampled", "0"),
            ];
            let others = ids.iter().filter(|(name, _)| *name != header);
            let others = others.map(|(name, value)| ((*name).to_owned(), text(value).into_bytes()));
            requests.push(others.chain(several.clone()).collect());
            // A decision without ids.
            if ["x-b3-sampled", "x-b3-flags"].contains(&header) {
                requests.push(several);
            }
        }
    }
    let known = ("x-known".to_owned(), b"1".to_vec());
    for request in &mut requests {
        request.push(known.clone());
    }
    requests
}

#[test]
fn several_values_are_continued_before_every_tracer_as_by_the_filter() {
    let configs = [
        "{}",
        r#"{"on_repeated": "reject"}"#,
        r#"{"b3_strict": true, "extract": ["b3", "b3multi"], "on_defer": "sampled"}"#,
        BELIEVED,
    ];
    let mut tried = 0;
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &configs);
        let mut differences = Vec::new();
        for tracer in TRACERS {
            for config in configs {
                let case = |sent: Lines| {
                    let lines = sent.iter();
                    let lines = lines.map(|(name, line)| (name, String::from_utf8_lossy(line)));
                    Case {
                        name: format!("{:?}", lines.collect::<Vec<_>>()),
                        expected: as_the_filter_reads(config, tracer, &sent),
                        sent,
                    }
                };
                let cases: Vec<_> = requests().into_iter().map(case).collect();
                let is_continued = |case: &&Case| matches!(case.expected, Hop::Continued { .. });
                let continued = cases.iter().filter(is_continued).count();
                assert!(continued > 20 && continued < 200, "{config}: {continued}");
                tried += cases.len();
                differences.extend(proxies.differences(tracer, config, &cases));
            }
        }
        assert!(
            differences.is_empty(),
            "{}: {}\n{}",
            envoy.reported_version(),
            differences.len(),
            differences.join("\n")
        );
    });
    promises::held(
        "Context and formats",
        "The early mutation continues B3 that came several times, and its decision, where the filter does",
        "b3 and each of x-b3-* with ids and without: lines and joined values, one trace and two, decisions that differ, \
         malformed and empty values; same_trace, reject, strict, and callers that are believed; three tracers",
        &format!(
            "{tried} of {tried} requests as the filter reads them, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// HTTP/2 leaves it, HTTP/1.1 does not.
#[test]
fn white_space_at_the_ends_of_a_value_means_nothing() {
    let ids = |text: &str| text.replace("TRACE", TRACE).replace("SPAN", SPAN);
    let forms: [&[(&str, &str)]; 6] = [
        &[("traceparent", "00-TRACE-SPAN-01")],
        &[("traceparent", "01-TRACE-SPAN-01")],
        &[("b3", "TRACE-SPAN-0")],
        &[("b3", "TRACE-SPAN-1")],
        &[("b3", "0")],
        &[
            ("x-b3-traceid", "TRACE"),
            ("x-b3-spanid", "SPAN"),
            ("x-b3-parentspanid", "SPAN"),
            ("x-b3-sampled", "1"),
        ],
    ];
    let configs = ["{}", r#"{"on_repeated": "reject", "b3_strict": true}"#];
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &configs);
        for tracer in TRACERS {
            for config in configs {
                let address = proxies.mesh.address(&listener(tracer, config));
                let mut client = http2::Client::new(address);
                for (form, ends) in forms.iter().flat_map(|form| ENDS.map(|ends| (form, ends))) {
                    let line = |(name, value): &(&str, &str)| {
                        let value = format!("{}{}{}", ends.0, ids(value), ends.1);
                        ((*name).to_owned(), value.into_bytes())
                    };
                    let sent: Lines = form.iter().map(line).collect();
                    let at = format!(
                        "{form:?} {ends:?} {tracer:?} {config} {}",
                        envoy.reported_version()
                    );
                    let lines = sent.iter().cloned();
                    let lines: Vec<_> = lines
                        .map(|(name, line)| (name.into_bytes(), line))
                        .collect();
                    client.send("GET", "/", &lines).expect(&at);
                    let left = proxies.mesh.upstream.take().remove(0);
                    let (trace, _, sampled) = context(&left, tracer).expect(&at);
                    match as_the_filter_reads(config, tracer, &sent) {
                        Hop::Continued { sampled: kept, .. } => {
                            assert_eq!((trace.as_str(), sampled), (TRACE, kept), "{at}");
                        }
                        Hop::Started { sampled: kept } => {
                            assert_ne!(trace, TRACE, "{at}");
                            assert_eq!(sampled, kept, "{at}");
                        }
                    }
                }
            }
        }
    });
}
