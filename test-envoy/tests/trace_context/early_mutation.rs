//! Early header mutation before real tracers: which trace the proxy's own span continues.

use meshtrace_test_support::common;
use std::collections::{BTreeMap, BTreeSet};

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, OtlpSink, Span, SpanKind, ZipkinSink, each_supported};
use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::{
    IdGenerator, OnDefer, OnRepeated, Outgoing, Peer, Propagation, SamplingState, Tally,
    TraceContextConfig,
};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::Mesh;
use serde_json::Value;

type Lines = Vec<(String, Vec<u8>)>;

const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

/// What the proxy's span is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop {
    /// A child of the caller's span, exported or not.
    Continued {
        trace: String,
        parent: Option<String>,
        sampled: bool,
    },
    /// The root of a new trace, exported or not.
    Started { sampled: bool },
}

/// One request and what is to become of it.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    sent: Lines,
    expected: Hop,
}

/// Three proxies' tracers behind the mutations that are rendered from each configuration.
struct Proxies {
    mesh: Mesh,
    otlp: OtlpSink,
    zipkin: ZipkinSink,
}

impl Proxies {
    fn start(envoy: &EnvoyBinary, configs: &[&str]) -> Self {
        let otlp = OtlpSink::start().expect("a sink");
        let zipkin = ZipkinSink::start().expect("a sink");
        let mut bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", otlp.grpc_addr()))
            .cluster(Cluster::http1("zipkin", zipkin.address()));
        for tracer in TRACERS {
            for config in configs {
                let rendered = early_mutation(&parsed(config), tracer).expect("a mutation");
                let manager = HttpConnectionManager::new()
                    .tracing(tracing(tracer))
                    .early_header_mutation(rendered.extension)
                    .route(Route::prefix("/").cluster("upstream"));
                bootstrap = bootstrap.listener(Listener::http(&listener(tracer, config), manager));
            }
        }
        Self {
            mesh: Mesh::with(envoy, bootstrap),
            otlp,
            zipkin,
        }
    }

    /// Sends the cases to the proxy of `tracer` and `config`; returns where a span is another one.
    fn differences(&self, tracer: Tracer, config: &str, cases: &[Case]) -> Vec<String> {
        self.otlp.clear();
        self.zipkin.clear();
        let mut connection = self.mesh.connect(&listener(tracer, config));
        let left: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(i, case)| self.send(&mut connection, i, case))
            .collect();

        let is_sampled = |case: &&Case| match case.expected {
            Hop::Continued { sampled, .. } | Hop::Started { sampled } => sampled,
        };
        let count = cases.iter().filter(is_sampled).count();
        // Fewer spans than expected are told as differences below.
        let _ = match tracer {
            Tracer::OpenTelemetry => self.otlp.wait_for_spans(count),
            _ => self.zipkin.wait_for_spans(count),
        };
        let spans = match tracer {
            Tracer::OpenTelemetry => self.otlp.spans(),
            _ => self.zipkin.spans(),
        };
        let spans = by_case(&spans);
        let mut differences = Vec::new();
        for (i, (case, left)) in cases.iter().zip(&left).enumerate() {
            let seen = hop(spans.get(&i).copied(), left, tracer, &case.expected);
            if seen != Ok(case.expected.clone()) {
                differences.push(format!(
                    "{} on {tracer:?} with {config}: {seen:?}, expected {:?}; left as {:?}",
                    case.name,
                    case.expected,
                    common::trace_headers(left)
                ));
            }
        }
        differences
    }

    fn send(&self, connection: &mut Connection, i: usize, case: &Case) -> RecordedRequest {
        let request = case.sent.iter().fold(
            Request::get(&format!("/case/{i}")),
            |request, (name, value)| request.header(name, value),
        );
        self.mesh.pass(connection, &request)
    }
}

fn tracing(tracer: Tracer) -> Tracing {
    match tracer {
        Tracer::OpenTelemetry => Tracing::opentelemetry_grpc("otlp", "shop"),
        Tracer::ZipkinB3 => Tracing::zipkin("zipkin")
            .shared_span_context(false)
            .trace_context_option(TraceContextOption::B3),
        Tracer::ZipkinB3WithW3c => Tracing::zipkin("zipkin")
            .shared_span_context(false)
            .trace_context_option(TraceContextOption::B3WithW3c),
    }
}

fn listener(tracer: Tracer, config: &str) -> String {
    format!("{tracer:?} {config}")
}

fn parsed(config: &str) -> TraceContextConfig {
    serde_json::from_str(config).expect("a configuration")
}

fn by_case(spans: &[Span]) -> BTreeMap<usize, &Span> {
    let mut found = BTreeMap::new();
    for span in spans.iter().filter(|span| span.kind == SpanKind::Server) {
        let url = span.attribute("http.url").expect("a URL");
        let (_, case) = url.rsplit_once('/').expect("a path");
        let case = case.parse().expect("a case");
        assert!(found.insert(case, span).is_none(), "two spans of {url}");
    }
    found
}

/// What became of a request: its span, or the unsampled context that left.
fn hop(
    span: Option<&Span>,
    left: &RecordedRequest,
    tracer: Tracer,
    expected: &Hop,
) -> Result<Hop, String> {
    let (trace, _, sampled) = context(left, tracer).ok_or("no context left")?;
    match span {
        Some(span) => {
            if span.trace_id != trace || !sampled {
                return Err(format!(
                    "the span's trace is {}, but {trace} left",
                    span.trace_id
                ));
            }
            Ok(match &span.parent_span_id {
                Some(parent) => Hop::Continued {
                    trace,
                    parent: Some(parent.clone()),
                    sampled,
                },
                None => Hop::Started { sampled },
            })
        }
        None if sampled => Err(format!("{trace} left sampled, and no span came")),
        // Without a span, the trace id alone shows whether the trace is the caller's.
        None => Ok(match expected {
            Hop::Continued {
                trace: known,
                parent,
                ..
            } if *known == trace => Hop::Continued {
                trace,
                parent: parent.clone(),
                sampled,
            },
            _ => Hop::Started { sampled },
        }),
    }
}

/// Trace id, span id and decision that the tracer wrote.
fn context(left: &RecordedRequest, tracer: Tracer) -> Option<(String, String, bool)> {
    if tracer == Tracer::OpenTelemetry {
        let text = left.header_text("traceparent")?;
        let parts: Vec<_> = text.split('-').collect();
        let [_, trace, span, flags] = parts.as_slice() else {
            return None;
        };
        return Some(((*trace).to_owned(), (*span).to_owned(), *flags == "01"));
    }
    let multi = || {
        Some((
            left.header_text("x-b3-traceid")?,
            left.header_text("x-b3-spanid")?,
            left.header_text("x-b3-sampled")? == "1",
        ))
    };
    let single = || {
        let text = left.header_text("b3")?;
        let mut parts = text.split('-').map(str::to_owned);
        let (trace, span, sampled) = (parts.next()?, parts.next()?, parts.next()?);
        Some((trace, span, sampled == "1" || sampled == "d"))
    };
    let (trace, span, sampled) = multi().or_else(single)?;
    Some((format!("{trace:0>32}"), span, sampled))
}

/// What the filter's own reading makes of a request, where random sampling is 100 %.
fn as_the_filter_reads(config: &str, tracer: Tracer, sent: &Lines) -> Hop {
    // CEL sees repeated lines joined by commas: a limit that is told.
    let config = TraceContextConfig {
        on_repeated: Some(OnRepeated::Reject),
        ..parsed(config)
    };
    let propagation = Propagation::new(&config).expect("a configuration that compiles");
    let block = encode(sent);
    let headers = Headers::parse(&block).expect("a header block");
    let mut tally = Tally::default();
    let incoming = propagation.extract(headers, Peer::default(), &mut tally);
    let ids = IdGenerator::from_seed([7; 32]);
    let decision = propagation.decide(&incoming, &ids, &mut tally);
    match decision.outgoing {
        Outgoing::Nothing => Hop::Started { sampled: true },
        Outgoing::Sampling(sampling) => Hop::Started {
            sampled: sampling.decision() != Some(false),
        },
        Outgoing::Context(context) => Hop::Continued {
            trace: text(&context.trace_id.to_hex()),
            parent: Some(text(&context.span_id.to_hex())),
            sampled: sampled(context.sampling, config.on_defer, tracer),
        },
    }
}

/// A tracer that reads B3 takes a deferred decision itself.
fn sampled(sampling: SamplingState, on_defer: OnDefer, tracer: Tracer) -> bool {
    sampling
        .decision()
        .unwrap_or(tracer != Tracer::OpenTelemetry || on_defer == OnDefer::Sampled)
}

fn text(digits: &[u8]) -> String {
    String::from_utf8(digits.to_vec()).expect("hexadecimal digits")
}

fn vectors() -> Value {
    let text = include_str!("../../../crates/propagation/tests/vectors.json");
    serde_json::from_str(text).expect("the vector set")
}

fn sent(case: &Value) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in case["headers"].as_object().expect("headers") {
        let mut push = |value: &Value| {
            let value = value.as_str().expect("text").as_bytes().to_vec();
            lines.push((name.to_ascii_lowercase(), value));
        };
        match value {
            Value::Array(values) => values.iter().for_each(push),
            value => push(value),
        }
    }
    lines
}

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

const STRICT: &str = r#"{"b3_strict": true}"#;

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

const W3C: (&str, &str) = (
    "traceparent",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
);
const SAME_IN_B3: (&str, &str) = ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1");
const OTHER_IN_B3: (&str, &str) = ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1");

fn case(name: &str, headers: &[(&str, &str)], expected: Hop) -> Case {
    Case {
        name: name.to_owned(),
        sent: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        expected,
    }
}

#[test]
fn headers_of_another_trace_and_malformed_ones_do_not_leave() {
    let b3_first = r#"{"extract": ["b3", "b3multi", "tracecontext"]}"#;
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}", b3_first]);
    let multi = [
        ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
        ("x-b3-sampled", "1"),
    ];
    let state = ("tracestate", "vendor=1 \t,\tother=2");
    let not_ascii = ("tracestate", "vendor=\u{e9}");
    let lines = |headers: &[&[(&'static str, &'static str)]]| headers.concat();

    // What was sent, and which of it leaves as it came.
    let otel = Tracer::OpenTelemetry;
    for (tracer, config, sent, stays) in [
        (
            otel,
            "{}",
            lines(&[&[W3C, state, SAME_IN_B3], &multi]),
            lines(&[&[state, SAME_IN_B3], &multi]),
        ),
        (
            otel,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3], &multi]),
            lines(&[&[state], &multi]),
        ),
        (
            otel,
            "{}",
            lines(&[&[W3C, ("b3", "junk"), ("x-b3-sampled", "1")]]),
            vec![],
        ),
        (
            otel,
            "{}",
            lines(&[&[state, ("b3", "0"), ("x-b3-traceid", "junk")]]),
            vec![("b3", "0")],
        ),
        (otel, "{}", lines(&[&[W3C, not_ascii]]), vec![]),
        (
            otel,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![OTHER_IN_B3],
        ),
        (
            Tracer::ZipkinB3,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![W3C, state],
        ),
        (
            Tracer::ZipkinB3,
            b3_first,
            lines(&[&[W3C, state, SAME_IN_B3]]),
            vec![W3C, state],
        ),
        (
            Tracer::ZipkinB3,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![],
        ),
        (
            Tracer::ZipkinB3WithW3c,
            "{}",
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![state],
        ),
        (
            Tracer::ZipkinB3WithW3c,
            b3_first,
            lines(&[&[W3C, state, OTHER_IN_B3]]),
            vec![],
        ),
    ] {
        let mut connection = proxies.mesh.connect(&listener(tracer, config));
        let left = proxies.mesh.pass(&mut connection, &common::get(&sent));
        let stayed: Vec<_> = sent
            .iter()
            .filter(|(name, value)| left.header_text(name).as_deref() == Some(value))
            .copied()
            .collect();
        assert_eq!(stayed, stays, "{tracer:?} with {config}: {sent:?}");
        let others = sent.iter().filter(|header| !stays.contains(header));
        for (name, value) in others {
            let values = left.header_values(name);
            assert!(
                !values.contains(&value.as_bytes()),
                "{tracer:?}: {name} {value}"
            );
        }
        let helpers = left.headers.iter();
        let mut helpers = helpers.filter(|(name, _)| name.starts_with(b"x-meshtrace"));
        assert_eq!(helpers.next(), None);
    }
}

#[test]
fn helper_headers_of_a_client_are_not_read() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}"]);
    let forged: Vec<_> = [
        "chosen",
        "from-tracecontext",
        "from-b3",
        "from-b3multi",
        "traceparent",
        "narrow",
    ]
    .map(|name| (format!("x-meshtrace-early-{name}"), W3C.1))
    .into();
    let forged: Vec<_> = forged
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    for tracer in TRACERS {
        let started = Hop::Started { sampled: true };
        let differences = proxies.differences(tracer, "{}", &[case("forged", &forged, started)]);
        assert_eq!(differences, Vec::<String>::new());
    }
}

#[test]
fn a_caller_that_is_not_believed_starts_a_trace_on_every_envoy() {
    let configs = [r#"{"incoming": "restart"}"#, r#"{"incoming": "ignore"}"#];
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &configs);
        let started = Hop::Started { sampled: true };
        let cases = [
            case("W3C", &[W3C], started.clone()),
            case("B3", &[OTHER_IN_B3], started.clone()),
            case(
                "both, denied",
                &[W3C, ("b3", "0"), ("x-b3-sampled", "0")],
                started,
            ),
        ];
        for tracer in TRACERS {
            for config in configs {
                let differences = proxies.differences(tracer, config, &cases);
                assert_eq!(
                    differences,
                    Vec::<String>::new(),
                    "{}",
                    envoy.reported_version()
                );
            }
        }
    });
}

#[test]
fn an_acceptance_without_ids_samples_what_the_proxy_would_not() {
    each_supported(|envoy| {
        let sink = OtlpSink::start().expect("a sink");
        let rendered = early_mutation(&parsed("{}"), Tracer::OpenTelemetry).expect("a mutation");
        let manager = HttpConnectionManager::new()
            .tracing(Tracing::opentelemetry_grpc("otlp", "shop").random_sampling(0.0))
            .early_header_mutation(rendered.extension)
            .route(Route::prefix("/").cluster("upstream"));
        let bootstrap = Bootstrap::new()
            .cluster(Cluster::http2("otlp", sink.grpc_addr()))
            .listener(Listener::http("ingress", manager));
        let mesh = Mesh::with(envoy, bootstrap);
        let mut connection = mesh.connect("ingress");
        let mut traces = BTreeSet::new();
        for (header, sampled) in [
            (("b3", "1"), true),
            (("b3", "d"), true),
            (("x-b3-sampled", "1"), true),
            (("b3", "0"), false),
            (("x-b3-sampled", "0"), false),
            (("x-other", "1"), false),
        ] {
            let left = mesh.pass(&mut connection, &common::get(&[header]));
            let (trace, _, seen) = context(&left, Tracer::OpenTelemetry).expect("a context");
            assert!(traces.insert(trace), "each trace is a new one");
            assert_eq!(seen, sampled, "{header:?} on {}", envoy.reported_version());
        }
        assert!(
            sink.wait_for_spans(3)
                .expect("spans")
                .iter()
                .all(|s| s.parent_span_id.is_none())
        );
    });
}

/// The filter lowers upper-case B3; CEL cannot, and the OpenTelemetry tracer would pass it on.
#[test]
fn upper_case_b3_is_continued_by_the_tracers_that_lower_it() {
    let sent = [
        &[("b3", "80F198EE56343BA864FE8B2A57D3EFF7-E457B5A2E4D86BD1-1")][..],
        &[
            ("x-b3-traceid", "80F198EE56343BA864FE8B2A57D3EFF7"),
            ("x-b3-spanid", "E457B5A2E4D86BD1"),
            ("x-b3-sampled", "1"),
        ],
    ];
    let continued = Hop::Continued {
        trace: "80f198ee56343ba864fe8b2a57d3eff7".to_owned(),
        parent: Some("e457b5a2e4d86bd1".to_owned()),
        sampled: true,
    };
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let proxies = Proxies::start(&envoy, &["{}", STRICT]);
    for (tracer, config, expected) in [
        (Tracer::OpenTelemetry, "{}", Hop::Started { sampled: true }),
        (Tracer::ZipkinB3, "{}", continued.clone()),
        (Tracer::ZipkinB3WithW3c, "{}", continued),
        (Tracer::ZipkinB3, STRICT, Hop::Started { sampled: true }),
    ] {
        let cases = sent.map(|headers| case("upper case", headers, expected.clone()));
        let differences = proxies.differences(tracer, config, &cases);
        assert_eq!(differences, Vec::<String>::new());
    }
}

#[test]
fn bytes_that_are_not_text_are_refused_and_harm_no_other_header() {
    let mut headers = case("bytes", &[W3C], Hop::Started { sampled: true }).sent;
    headers.extend([
        (
            "b3".to_owned(),
            b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd\xff-1".to_vec(),
        ),
        ("x-b3-traceid".to_owned(), b"\xff\xfe".to_vec()),
        ("x-b3-spanid".to_owned(), b"\xc3\x28".to_vec()),
    ]);
    let continued = |sent| Case {
        name: "bytes".to_owned(),
        sent,
        expected: Hop::Continued {
            trace: common::TRACE.to_owned(),
            parent: Some(common::SPAN.to_owned()),
            sampled: true,
        },
    };
    let alone = headers[1..].to_vec();
    let mut in_state = headers.clone();
    in_state.push(("tracestate".to_owned(), b"a=\xff".to_vec()));
    each_supported(|envoy| {
        let proxies = Proxies::start(envoy, &["{}"]);
        let cases = [
            continued(headers.clone()),
            continued(in_state.clone()),
            Case {
                sent: alone.clone(),
                ..case("bytes alone", &[], Hop::Started { sampled: true })
            },
        ];
        for tracer in TRACERS {
            let differences = proxies.differences(tracer, "{}", &cases);
            assert_eq!(
                differences,
                Vec::<String>::new(),
                "{}",
                envoy.reported_version()
            );
        }
    });
}
