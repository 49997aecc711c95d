//! Early header mutation before real tracers: which trace the proxy's own span continues.

mod callers;
mod combinations;
mod repeated;
mod repeated_b3;
mod vectors;

use std::collections::BTreeMap;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, OtlpSink, Span, SpanKind, ZipkinSink};
use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::{
    IdGenerator, OnDefer, OnRepeated, Outgoing, Peer, Propagation, SamplingState, Tally,
    TraceContextConfig,
};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{self, Mesh};
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
    meshtrace_config::read(config.as_bytes()).expect("a configuration")
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
    let mut config = parsed(config);
    let lines = sent.iter().filter(|(name, _)| name == "traceparent");
    let values = lines.flat_map(|(_, line)| line.split(|byte| *byte == b','));
    let values = values.map(<[u8]>::trim_ascii);
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    if values.len() > 1 && values.iter().any(|value| !value.starts_with(b"00")) {
        // A later version among several values: a limit that is told.
        config.on_repeated = Some(OnRepeated::Reject);
    }
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
    let text = include_str!("../../../../crates/propagation/tests/vectors.json");
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

const STRICT: &str = r#"{"b3_strict": true, "on_repeated": "reject"}"#;

/// Callers with the header `x-known` are believed.
const BELIEVED: &str = r#"{"incoming": {"mode": "restart", "when": {"header_absent": "x-known"}}}"#;
