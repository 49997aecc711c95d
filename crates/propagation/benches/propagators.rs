//! Our formats beside the published Rust propagators; `make bench` makes the table.
//!
//! Ours begins with what a filter gets, the host's serialised header block; theirs with a `HashMap`
//! that somebody has filled before, or that is filled from the same block. Where only the reading
//! or writing of a value is measured, neither looks it up.
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
    Arrived, IdGenerator, Outgoing, Peer, Propagation, SamplingState, SpanId, Tally, TraceContext,
    TraceContextConfig, TraceId,
};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_0_32::propagation::TextMapPropagator as TextMapPropagator032;
use opentelemetry_jaeger_propagator::Propagator as Jaeger;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};

fn main() {
    divan::main();
}

/// A format.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Case(Format);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// Every format.
fn every_format() -> impl Iterator<Item = Case> {
    Format::ALL.iter().copied().map(Case)
}

const B3: Case = Case(Format::B3);
const TRACECONTEXT: Case = Case(Format::Tracecontext);

/// Those that a published crate reads and writes too.
const PUBLISHED: [Case; 4] = [
    TRACECONTEXT,
    B3,
    Case(Format::B3Multi),
    Case(Format::Jaeger),
];

type Lines = Vec<(String, String)>;

impl Case {
    /// The format's own header lines.
    fn lines(self) -> Lines {
        let context = TraceContext {
            trace_id: TraceId::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736).expect("an id"),
            span_id: SpanId::new(0x00f0_67aa_0ba9_02b7).expect("an id"),
            sampling: SamplingState::Sampled,
            random: false,
            b3_parent: None,
        };
        let (arrived, arena) = (Arrived::collect(Headers::default()), Bump::new());
        let (outgoing, writing) = (Outgoing::Context(context), Writing::default());
        let mut lines = Lines::new();
        self.0
            .emit(&outgoing, &arrived, writing, &arena, |field, value| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                if let Some(value) = value {
                    lines.push((text(field.name()), text(value.as_bytes())));
                }
            });
        lines
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
        match self.0 {
            Format::Tracecontext => Box::new(TraceContextPropagator::new()),
            Format::B3 => Box::new(Zipkin::with_encoding(B3Encoding::SingleHeader)),
            Format::B3Multi => Box::new(Zipkin::with_encoding(B3Encoding::MultipleHeader)),
            other => panic!("{other:?} is in another crate"),
        }
    }

    fn propagation(self, inject: Self) -> Propagation {
        let json = format!(r#"{{"extract": ["{self}"], "inject": ["{inject}"]}}"#);
        let config: TraceContextConfig =
            meshtrace_config::read(json.as_bytes()).expect("a configuration");
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

    #[divan::bench(args = every_format())]
    fn ours(bencher: Bencher<'_, '_>, case: Case) {
        let block = encode(&case.lines());
        let arrived = Arrived::collect(headers(&block));
        bencher.bench_local(|| black_box(case.0).parse(black_box(&arrived), Reading::default()));
    }

    #[divan::bench(args = PUBLISHED)]
    fn published(bencher: Bencher<'_, '_>, case: Case) {
        let lone = Lone(case.lines());
        if case.0 == Format::Jaeger {
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

    #[divan::bench(args = every_format())]
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
        if case.0 == Format::Jaeger {
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
        if case.0 == Format::Jaeger {
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

    #[divan::bench(args = every_format())]
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
            black_box(case.0).emit(
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
        if case.0 == Format::Jaeger {
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
    const CASES: [Case; 2] = [B3, TRACECONTEXT];

    fn other(case: Case) -> Case {
        match case {
            B3 => TRACECONTEXT,
            _ => B3,
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
