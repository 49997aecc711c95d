//! A request costs no heap: the stages build what they write on the stack.
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{ARENA_BYTES, Arena, Composition, Outcome, Request, TraceContext};
use meshtrace_propagation::{Direction, IdGenerator, Peer};

/// Counts the allocations of this thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const S: &str = "00f067aa0ba902b7";

const EVERY_FORMAT: &str = r#"{
    "extract": ["tracecontext", "jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"],
    "inject": ["jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"]
}"#;

fn requests() -> Vec<Vec<(String, String)>> {
    let line = |name: &str, value: String| (name.to_owned(), value);
    let members: Vec<_> = (0..32).map(|i| format!("vendor{i}=value{i}")).collect();
    let w3c = line("traceparent", format!("00-{T}-{S}-01"));
    let tracestate = line("tracestate", members.join(","));
    let b3 = line("b3", format!("{T}-{S}-1-{S}"));
    let multi = vec![
        line("x-b3-traceid", T.to_owned()),
        line("x-b3-spanid", "e457b5a2e4d86bd1".to_owned()),
        line("x-b3-sampled", "1".to_owned()),
    ];
    let junk = line("traceparent", "\u{fffd}".repeat(1000));
    let others = vec![
        line("uber-trace-id", format!("{T}%3A{S}%3A0%3A3")),
        line("ot-tracer-traceid", T.to_owned()),
        line("ot-tracer-spanid", "e457b5a2e4d86bd1".to_owned()),
        line("ot-tracer-sampled", "false".to_owned()),
        line(
            "x-amzn-trace-id",
            format!("Self=1;Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent={S};Sampled=?"),
        ),
        line("x-cloud-trace-context", format!("{T}/1;o=1")),
        line("x-datadog-trace-id", "11803532876627986230".to_owned()),
        line("x-datadog-parent-id", "5678".to_owned()),
        line("x-datadog-sampling-priority", "-1".to_owned()),
        line("x-datadog-tags", "_dd.p.dm=-1,".repeat(40)),
        line(
            "grpc-trace-bin",
            "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE".to_owned(),
        ),
    ];
    let junk_everywhere = others
        .iter()
        .map(|(name, _)| line(name, "%3A=;/,_dd.p.tid=".repeat(50)));
    vec![
        vec![],
        others.clone(),
        junk_everywhere.collect(),
        [vec![w3c.clone(), tracestate.clone()], others].concat(),
        vec![w3c.clone(), tracestate.clone()],
        vec![b3.clone()],
        multi.clone(),
        [vec![w3c, tracestate, b3], multi].concat(),
        vec![junk; 1000],
    ]
}

#[test]
fn no_request_allocates_whatever_arrives_and_whatever_the_policy() {
    let peer = Peer {
        address: Some(b"192.0.2.1:4567"),
        direction: Direction::Inbound,
    };
    let ids = IdGenerator::from_seed([1; 32]);
    let mut arena = Arena::with_capacity(ARENA_BYTES);
    for config in [
        "",
        r#"{"on_missing": "generate", "on_conflict": "restart", "inject": ["b3", "tracecontext"]}"#,
        r#"{"inject": "preserve", "clear": ["x-secret", "b3multi"]}"#,
        r#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#,
        r#"{"incoming": "ignore", "on_missing": "generate"}"#,
        r#"{"placement": "upstream", "tracer": "tracecontext"}"#,
        EVERY_FORMAT,
        r#"{"placement": "upstream", "tracer": "datadog", "inject": ["xray", "gcp", "grpc-trace-bin"]}"#,
    ] {
        let filter =
            TraceContext::from_json(config.as_bytes(), &|_| None).expect("a configuration");
        for lines in requests() {
            let block = encode(&lines);
            let before = ALLOCATIONS.get();

            let headers = Headers::parse(&block).expect("a header block");
            let mut outcome = Outcome::default();
            let request = Request {
                headers,
                peer,
                properties: &[],
                now: 0,
                arena: &arena,
            };
            filter.on_request(&request, &ids, &mut (), &mut outcome);
            drop(outcome);
            arena.reset();

            let allocations = ALLOCATIONS.get() - before;
            assert_eq!(allocations, 0, "{config}: {} lines", lines.len());
        }
    }
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
