//! Our formats beside the published Rust propagators; `make bench` makes the table.
//!
//! Ours begins with what a filter gets, the host's serialised header block; theirs with a `HashMap` that somebody has
//! filled before, or that is filled from the same block. Where only the reading or writing of a value is measured,
//! neither looks it up.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark may fail")]
#![allow(
    deprecated,
    reason = "the last releases of these two crates say that there will be no others"
)]

use std::collections::HashMap;
use std::fmt;

use bumpalo::Bump;
use divan::{Bencher, black_box};
use meshtrace_headers::{Edits, Headers, encode};
use meshtrace_propagation::format::{Format, Reading, Writing};
use meshtrace_propagation::{
    Arrived, IdGenerator, Outgoing, Peer, Propagation, Tally, TraceContextConfig,
};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_0_32::propagation::TextMapPropagator as TextMapPropagator032;
use opentelemetry_jaeger_propagator::Propagator as Jaeger;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};

fn main() {
    divan::main();
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A format, by the name that the configuration has for it.
#[derive(Clone, Copy)]
struct Case(&'static str, Format);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const OURS: [Case; Format::ALL.len()] = [
    Case("tracecontext", Format::Tracecontext),
    Case("b3", Format::B3),
    Case("b3multi", Format::B3Multi),
    Case("jaeger", Format::Jaeger),
    Case("ottrace", Format::Ottrace),
    Case("xray", Format::Xray),
    Case("gcp", Format::Gcp),
    Case("datadog", Format::Datadog),
    Case("grpc-trace-bin", Format::GrpcTraceBin),
];

/// Those that a published crate reads and writes too.
const PUBLISHED: [Case; 4] = [OURS[0], OURS[1], OURS[2], OURS[3]];

type Lines = Vec<(String, String)>;

impl Case {
    /// The format's own header lines.
    fn lines(self) -> Lines {
        let lines: &[(&str, String)] = match self.1 {
            Format::Tracecontext => &[("traceparent", format!("00-{TRACE}-{SPAN}-01"))],
            Format::B3 => &[("b3", format!("{TRACE}-{SPAN}-1"))],
            Format::B3Multi => &[
                ("x-b3-traceid", TRACE.to_owned()),
                ("x-b3-spanid", SPAN.to_owned()),
                ("x-b3-sampled", "1".to_owned()),
            ],
            Format::Jaeger => &[("uber-trace-id", format!("{TRACE}:{SPAN}:0:1"))],
            Format::Ottrace => &[
                ("ot-tracer-traceid", TRACE.to_owned()),
                ("ot-tracer-spanid", SPAN.to_owned()),
                ("ot-tracer-sampled", "true".to_owned()),
            ],
            Format::Xray => &[(
                "x-amzn-trace-id",
                format!("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent={SPAN};Sampled=1"),
            )],
            Format::Gcp => &[(
                "x-cloud-trace-context",
                format!("{TRACE}/67667974448284343;o=1"),
            )],
            Format::Datadog => &[
                ("x-datadog-trace-id", "11803532876627986230".to_owned()),
                ("x-datadog-parent-id", "67667974448284343".to_owned()),
                ("x-datadog-sampling-priority", "1".to_owned()),
                ("x-datadog-tags", "_dd.p.tid=4bf92f3577b34da6".to_owned()),
            ],
            Format::GrpcTraceBin => &[(
                "grpc-trace-bin",
                "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=".to_owned(),
            )],
        };
        let line = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
        lines.iter().map(line).collect()
    }

    /// A browser's request behind a gateway: 16 header lines, the format's own among them.
    fn request(self) -> Lines {
        let own = self.lines();
        let others = [
            (":authority", "shop.example.com"),
            (":path", "/api/v1/orders/1234?expand=items"),
            (":method", "GET"),
            (":scheme", "https"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            ("accept", "application/json, text/plain, */*"),
            ("x-request-id", "0b8ed1a4-5bf3-4d9d-8a2b-63f1d0d9a1c7"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-envoy-expected-rq-timeout-ms", "15000"),
            ("accept-language", "en-GB,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br"),
            (
                "cookie",
                "session=8f4b1c1e6f5d4b7e9a3c2d1e0f9a8b7c; theme=dark",
            ),
            ("referer", "https://shop.example.com/orders"),
            ("cache-control", "no-cache"),
        ];
        let line = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut lines: Lines = others.iter().map(line).take(16 - own.len()).collect();
        // Behind the browser's own, before what gateways add.
        let place = lines.len() - 3;
        lines.splice(place..place, own);
        assert_eq!(lines.len(), 16);
        lines
    }

    fn propagator(self) -> Box<dyn TextMapPropagator> {
        match self.1 {
            Format::Tracecontext => Box::new(TraceContextPropagator::new()),
            Format::B3 => Box::new(Zipkin::with_encoding(B3Encoding::SingleHeader)),
            Format::B3Multi => Box::new(Zipkin::with_encoding(B3Encoding::MultipleHeader)),
            other => panic!("{other:?} is in another crate"),
        }
    }

    fn propagation(self, inject: Self) -> Propagation {
        let Self(extract, _) = self;
        let Self(inject, _) = inject;
        let json = format!(r#"{{"extract": ["{extract}"], "inject": ["{inject}"]}}"#);
        let config: TraceContextConfig = serde_json::from_str(&json).expect("a configuration");
        Propagation::new(&config).expect("a configuration that compiles")
    }
}

fn headers(block: &[u8]) -> Headers<'_> {
    Headers::parse(block).expect("a header block")
}

/// What the published propagators read, made of what the host hands over.
fn map(block: &[u8]) -> HashMap<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let lines = headers(black_box(block)).iter();
    lines
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// Answers from a handful of lines without hashing, and takes what is written without keeping it.
struct Lone(Lines);

macro_rules! lone {
    ($opentelemetry:ident) => {
        impl $opentelemetry::propagation::Extractor for Lone {
            fn get(&self, key: &str) -> Option<&str> {
                let mut lines = self.0.iter();
                lines.find_map(|(name, value)| (name == key).then_some(value.as_str()))
            }

            fn keys(&self) -> Vec<&str> {
                self.0.iter().map(|(name, _)| name.as_str()).collect()
            }
        }

        impl $opentelemetry::propagation::Injector for Lone {
            fn set(&mut self, key: &str, value: String) {
                black_box((key, value));
            }
        }
    };
}

lone!(opentelemetry);
lone!(opentelemetry_0_32);

/// A value is read; it was looked up before.
mod parse {
    use super::*;

    #[divan::bench(args = OURS)]
    fn ours(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.lines());
        let arrived = Arrived::collect(headers(&block));
        bencher.bench_local(|| black_box(case.1).parse(black_box(&arrived), Reading::default()));
    }

    #[divan::bench(args = PUBLISHED)]
    fn published(bencher: Bencher<'_, '_>, case: Case) {
        let lone = Lone(case.lines());
        if case.1 == Format::Jaeger {
            let (propagator, nothing) = (Jaeger::new(), opentelemetry_0_32::Context::new());
            bencher.bench_local(|| {
                propagator.extract_with_context(black_box(&nothing), black_box(&lone))
            });
        } else {
            let (propagator, nothing) = (case.propagator(), opentelemetry::Context::new());
            bencher.bench_local(|| {
                propagator.extract_with_context(black_box(&nothing), black_box(&lone))
            });
        }
    }
}

/// A context is taken from a request of 16 header lines.
mod extract {
    use super::*;

    #[divan::bench(args = OURS)]
    fn ours(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.request());
        let propagation = case.propagation(case);
        bencher.bench_local(|| {
            let incoming = propagation.extract(
                headers(black_box(&block)),
                Peer::default(),
                &mut Tally::default(),
            );
            incoming.context().copied()
        });
    }

    #[divan::bench(args = PUBLISHED)]
    fn published(bencher: Bencher<'_, '_>, case: Case) {
        let map: HashMap<_, _> = case.request().into_iter().collect();
        if case.1 == Format::Jaeger {
            let (propagator, nothing) = (Jaeger::new(), opentelemetry_0_32::Context::new());
            bencher.bench_local(|| {
                propagator.extract_with_context(black_box(&nothing), black_box(&map))
            });
        } else {
            let (propagator, nothing) = (case.propagator(), opentelemetry::Context::new());
            bencher.bench_local(|| {
                propagator.extract_with_context(black_box(&nothing), black_box(&map))
            });
        }
    }

    /// A filter has to fill the map from the host's header block first.
    #[divan::bench(args = PUBLISHED)]
    fn published_from_block(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.request());
        if case.1 == Format::Jaeger {
            let (propagator, nothing) = (Jaeger::new(), opentelemetry_0_32::Context::new());
            bencher
                .bench_local(|| propagator.extract_with_context(black_box(&nothing), &map(&block)));
        } else {
            let (propagator, nothing) = (case.propagator(), opentelemetry::Context::new());
            bencher
                .bench_local(|| propagator.extract_with_context(black_box(&nothing), &map(&block)));
        }
    }
}

/// A context is written; nobody keeps it.
mod inject {
    use super::*;

    #[divan::bench(args = OURS)]
    fn ours(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.request());
        let mut tally = Tally::default();
        let propagation = case.propagation(case);
        let incoming = propagation.extract(headers(&block), Peer::default(), &mut tally);
        let outgoing = Outgoing::Context(*incoming.context().expect("a context"));
        let nothing = Arrived::collect(Headers::default());
        let arena = Bump::new();
        bencher.bench_local(|| {
            let writing = Writing::default();
            black_box(case.1).emit(
                black_box(&outgoing),
                &nothing,
                writing,
                &arena,
                |field, value| {
                    black_box((field, value));
                },
            );
        });
    }

    #[divan::bench(args = PUBLISHED)]
    fn published(bencher: Bencher<'_, '_>, case: Case) {
        let mut lone = Lone(case.lines());
        if case.1 == Format::Jaeger {
            let (propagator, nothing) = (Jaeger::new(), opentelemetry_0_32::Context::new());
            let context = propagator.extract_with_context(&nothing, &lone);
            bencher.bench_local(|| propagator.inject_context(black_box(&context), &mut lone));
        } else {
            let (propagator, nothing) = (case.propagator(), opentelemetry::Context::new());
            let context = propagator.extract_with_context(&nothing, &lone);
            bencher.bench_local(|| propagator.inject_context(black_box(&context), &mut lone));
        }
    }
}

/// All of it: a request of 16 header lines comes in one format and leaves in the other.
mod convert {
    use super::*;

    /// What comes in; the other of the two leaves.
    const CASES: [Case; 2] = [OURS[1], OURS[0]];

    fn other(case: Case) -> Case {
        if case.1 == Format::B3 {
            OURS[0]
        } else {
            OURS[1]
        }
    }

    #[divan::bench(args = CASES)]
    fn ours(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.request());
        let propagation = case.propagation(other(case));
        let ids = IdGenerator::from_seed([7; 32]);
        let mut arena = Bump::with_capacity(16 * 1024);
        bencher.bench_local(|| {
            let mut tally = Tally::default();
            let mut edits = Edits::new_in(&arena, 48);
            let block = headers(black_box(&block));
            let incoming = propagation.extract(block, Peer::default(), &mut tally);
            let decision = propagation.decide(&incoming, &ids, &mut tally);
            let policy = propagation.policy_for(&block, None);
            propagation.inject(
                &incoming,
                &decision.outgoing,
                policy,
                &mut edits,
                &mut tally,
            );
            black_box(&edits);
            drop(edits);
            arena.reset();
        });
    }

    #[divan::bench(args = CASES)]
    fn published_from_block(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.request());
        let (from, to) = (case.propagator(), other(case).propagator());
        let nothing = opentelemetry::Context::new();
        let mut lone = Lone(Lines::new());
        bencher.bench_local(|| {
            let context = from.extract_with_context(black_box(&nothing), &map(&block));
            to.inject_context(&context, &mut lone);
        });
    }
}
