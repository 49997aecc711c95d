//! A reported request costs no heap of the filter's own: records and batches are used again. What
//! the host hands over is the host's.
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Background, Clock, Composition, HttpCallResponse, LoggedRequest, Lookup,
    MeshTracing, MeshTracingState, NoHost, Outcome, Proxy, Request, Response,
};
use meshtrace_propagation::{IdGenerator, Peer};

/// Counts the allocations of this thread, while it is asked to.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static COUNTS: Cell<bool> = const { Cell::new(true) };
}

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        }
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

/// A host whose answers are not counted.
#[derive(Debug)]
struct Host {
    headers: Vec<u8>,
    code: u64,
    now: Cell<u64>,
}

impl Host {
    fn give(bytes: &[u8]) -> Option<Box<[u8]>> {
        COUNTS.set(false);
        let given = bytes.into();
        COUNTS.set(true);
        Some(given)
    }
}

impl Clock for Host {
    fn monotonic(&self) -> Option<u64> {
        Some(self.now.get())
    }

    fn wall(&self) -> Option<u64> {
        self.monotonic()
    }
}

impl Lookup for Host {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        Self::give(&self.headers)
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        match path {
            b"response\0code" => Self::give(&self.code.to_le_bytes()),
            b"response\0flags" | b"response\0grpc_status" => Self::give(&[0; 8]),
            b"upstream\0request_attempt_count" => Self::give(&2_u64.to_le_bytes()),
            b"request\0duration" => Self::give(&1_000_000_000_u64.to_le_bytes()),
            b"request\0protocol" => Self::give(b"HTTP/1.1"),
            b"source\0address" | b"upstream\0address" => Self::give(b"192.0.2.1:1234"),
            _ => None,
        }
    }

    fn is_compiled(&self, _expression: usize) -> bool {
        false
    }

    fn evaluate(&self, _expression: usize) -> Option<Box<[u8]>> {
        None
    }
}

fn requests() -> Vec<Vec<u8>> {
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let base = [
        line(":method", "POST"),
        line(":path", "/cart/7?user=1"),
        line(":scheme", "https"),
        line(":authority", "shop.example.com"),
        line("user-agent", "test/1.0"),
        line("x-request-id", "7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c"),
    ];
    let with = |further: &[(String, String)]| encode(&[&base[..], further].concat());
    vec![
        with(&[]),
        with(&[
            line("traceparent", &format!("00-{trace}-01")),
            line("tracestate", "a=1,b=2"),
        ]),
        with(&[
            line("traceparent", &format!("00-{trace}-01")),
            line("tracestate", "a=1,b=2"),
            line("tracestate", &format!("c={}", "d".repeat(250))),
        ]),
        with(&[line("traceparent", &format!("00-{trace}-00"))]),
        with(&[
            line("b3", &format!("{trace}-1")),
            line("content-type", "application/grpc"),
        ]),
        with(&[
            line("b3", &format!("{trace}-d")),
            line("tracestate", &"a=1,".repeat(500)),
        ]),
        encode(&[(&b":path"[..], &b"\xff".repeat(5000)[..]), (b"b3", b"1")]),
        encode::<&str, &str>(&[]),
    ]
}

#[test]
fn no_request_allocates_once_the_buffers_are_there() {
    let ids = IdGenerator::from_seed([1; 32]);
    let mut arena = Arena::with_capacity(ARENA_BYTES);
    for config in [
        r#"{"report": {"cluster": "c", "role": "server"}}"#,
        r#"{"report": {"cluster": "c", "role": "gateway", "protocol": "grpc", "keep": {"slower_than_ms": 1}}}"#,
        r#"{"report": {"cluster": "c", "role": "gateway"},
            "span_attributes": {"attributes": [
                {"key": "a", "from": {"path": "/cart/{id}/**", "capture": "id"}},
                {"key": "b", "from": {"property": ["xds", "listener_direction"]}}]},
            "sampling": {"parent": "respect_sampled", "default": "unchanged", "rules": [
                {"match": {"path": {"template": "/cart/{id}"}, "headers": [{"name": "b3", "present": true}]},
                 "sample": {"ratio": 0.5}},
                {"match": {"path": {"regex": "/cart/.*"}}, "sample": "always"}]}}"#,
        r#"{"report": {"cluster": "c"}, "sampling": {"parent": "ignore",
            "force": {"header": "x-request-id", "value_env": "KEY"}, "rules": [
                {"match": {"headers": [{"name": "b3", "present": true}]}, "sample": "never"},
                {"match": {"route": "checkout", "cluster": "ledger"}, "sample": "always"},
                {"match": {"headers": [{"name": "tracestate", "present": true}]}, "sample": {"ratio": 0.9}}],
            "default": {"per_second": 5}}}"#,
        r#"{"sampling": {"rules": [{"match": {"route": "checkout"}, "sample": "always"}],
            "default": {"ratio": 0.5}}, "trace_context": {}}"#,
    ] {
        let filter =
            MeshTracing::from_json(config.as_bytes(), &Proxy::UNKNOWN).expect("a configuration");
        let background = filter.background();
        for round in 0..6 {
            for block in requests() {
                for (code, seen) in [(200, true), (503, true), (404, false)] {
                    let host = Host {
                        headers: block.clone(),
                        code,
                        now: Cell::default(),
                    };
                    let before = ALLOCATIONS.get();
                    pass(&filter, &host, seen, &ids, &arena);
                    arena.reset();
                    let allocations = ALLOCATIONS.get() - before;
                    // The first rounds make the buffers.
                    if round > 1 {
                        assert_eq!(allocations, 0, "{config} {code} {seen}");
                    }
                }
            }
            if let Some(background) = background {
                export(background);
            }
        }
    }
}

#[test]
fn what_a_request_leaves_for_its_end_is_bounded() {
    assert!(size_of::<MeshTracingState>() <= 1024);
}

/// A request from its headers, where the filter has `seen` them, to its end.
fn pass(filter: &MeshTracing, host: &Host, seen: bool, ids: &IdGenerator, arena: &Arena) {
    let mut state = Default::default();
    host.now.set(1_000_000_000);
    if seen {
        let mut outcome = Outcome::new_in(arena);
        let request = Request {
            headers: Headers::parse(&host.headers).expect("a header block"),
            peer: Peer::default(),
            properties: &[None],
            cluster: None,
            shared: &NoHost,
            clock: host,
            arena,
        };
        filter.on_request(&request, ids, &mut state, &mut outcome);
        let response = Response {
            headers: Headers::default(),
            properties: &[],
            lookup: host,
            arena,
        };
        filter.on_response(&response, &mut state, &mut outcome);
        filter.on_response_trailers(host, &mut state);
    }
    let mut outcome = Outcome::new_in(arena);
    host.now.set(2_000_000_000);
    let end = LoggedRequest {
        request_headers: Headers::default(),
        lookup: host,
        ids,
        arena,
        shared: &NoHost,
    };
    filter.on_log(&end, &mut state, &mut outcome);
}

/// Sends what waits, and answers.
fn export(background: &dyn Background) {
    let mut tokens = Vec::new();
    background.on_tick(10_000_000_000, &mut |_| {
        tokens.push(0);
        Ok(0)
    });
    let headers = encode(&[(":status", "200"), ("grpc-status", "0")]);
    for token in tokens {
        let answer = HttpCallResponse {
            headers: Headers::parse(&headers).expect("a header block"),
            body: &[0; 5],
            trailers: Headers::default(),
            now: 10_000_000_000,
            wall: 10_000_000_000,
        };
        background.on_http_call_response(token, &answer, &mut |_| Ok(0));
    }
}
