//! When a span of `mesh_tracing` starts and ends, by the two clocks of a slow host.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::cell::Cell;

use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Clock, Composition, LoggedRequest, Lookup, MeshTracing, NoHost, Outcome,
    Proxy, Request,
};
use meshtrace_propagation::{IdGenerator, Peer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
/// What the wall clock shows when the monotonic one shows 0.
const EPOCH: u64 = 1_700_000_000 * SECOND;
/// When the request's headers come, and when it is over, by the monotonic clock.
const BEGINS: u64 = 10 * SECOND;
const ENDS: u64 = 11 * SECOND;
const LASTS: u64 = ENDS - BEGINS;

/// A host of which each question, but for the clocks, takes a while: as if its thread were
/// suspended.
#[derive(Debug, Default)]
struct Host {
    headers: Vec<u8>,
    code: u64,
    monotonic: Cell<u64>,
    /// How far a person has set the wall clock forward.
    set_by: Cell<u64>,
    /// The wall clock is set by so much with each question.
    sets_by: u64,
}

impl Host {
    fn pass(&self) {
        self.monotonic.set(self.monotonic.get() + SECOND / 100);
        self.set_by.set(self.set_by.get() + self.sets_by);
    }
}

impl Clock for Host {
    fn monotonic(&self) -> Option<u64> {
        Some(self.monotonic.get())
    }

    fn wall(&self) -> Option<u64> {
        Some(EPOCH + self.monotonic.get() + self.set_by.get())
    }
}

impl Lookup for Host {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        self.pass();
        Some(self.headers.as_slice().into())
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        if path == b"request\0duration" {
            return Some(Box::new(LASTS.to_le_bytes()));
        }
        self.pass();
        match path {
            b"response\0code" => Some(Box::new(self.code.to_le_bytes())),
            b"response\0flags" => Some(Box::new([0; 8])),
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

/// A request with these flags of `traceparent`, of which the filter has `seen` the headers, to the
/// start and the end of its span.
fn times(host: &mut Host, flags: &str, seen: bool) -> (u64, u64) {
    let config = r#"{"report": {"cluster": "c", "keep": {"slower_than_ms": 10000}}}"#;
    let filter = MeshTracing::from_json(config.as_bytes(), &Proxy::UNKNOWN).expect(config);
    let ids = IdGenerator::from_seed([5; 32]);
    let arena = Arena::with_capacity(ARENA_BYTES);
    let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    host.headers = encode(&[(":path", "/"), ("traceparent", &traceparent)]);
    host.monotonic.set(BEGINS);
    let mut state = Default::default();
    if seen {
        let request = Request {
            headers: Headers::parse(&host.headers).expect("a block"),
            peer: Peer::default(),
            cluster: None,
            properties: &[],
            clock: host,
            arena: &arena,
            shared: &NoHost,
        };
        filter.on_request(&request, &ids, &mut state, &mut Outcome::new_in(&arena));
    }
    host.monotonic.set(ENDS);
    let end = LoggedRequest {
        request_headers: Headers::default(),
        lookup: host,
        ids: &ids,
        arena: &arena,
        shared: &NoHost,
    };
    filter.on_log(&end, &mut state, &mut Outcome::new_in(&arena));
    let mut bodies = Vec::new();
    let background = filter.background().expect("it reports");
    background.on_tick(100 * SECOND, &mut |call| {
        bodies.push(call.body.to_vec());
        Ok(0)
    });
    let decode = |body: &Vec<u8>| ExportTraceServiceRequest::decode(&body[..]).expect("OTLP");
    let resources = bodies.iter().map(decode).flat_map(|r| r.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    let spans: Vec<_> = scopes.flat_map(|scope| scope.spans).collect();
    let [span] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    (span.start_time_unix_nano, span.end_time_unix_nano)
}

#[test]
fn no_delay_at_the_end_moves_a_span() {
    // Reported because it is sampled, and because it failed.
    for (flags, code) in [("01", 200), ("00", 503)] {
        let mut host = Host {
            code,
            ..Host::default()
        };
        let expected = (EPOCH + BEGINS, EPOCH + ENDS);
        assert_eq!(times(&mut host, flags, true), expected, "{flags}");
        assert!(host.monotonic.get() > ENDS, "the host took its time");
    }
}

#[test]
fn a_wall_clock_that_is_set_at_the_end_does_not_move_a_sampled_span() {
    let mut host = Host {
        code: 200,
        sets_by: HOUR,
        ..Host::default()
    };
    let expected = (EPOCH + BEGINS, EPOCH + ENDS);
    assert_eq!(times(&mut host, "01", true), expected);
    assert!(host.set_by.get() > 0, "the clock was set");
}

#[test]
fn a_wall_clock_that_is_set_does_not_change_how_long_a_span_lasts() {
    for (flags, code) in [("01", 200), ("00", 503)] {
        for seen in [true, false] {
            let mut host = Host {
                code,
                sets_by: HOUR,
                ..Host::default()
            };
            let (start, end) = times(&mut host, flags, seen);
            let lasts = end - start;
            // Of a request that was seen at its end alone the host's questions lie in between.
            let at_most = if seen { LASTS } else { LASTS + SECOND };
            assert!(
                (LASTS..=at_most).contains(&lasts),
                "{flags} {seen}: {lasts}"
            );
        }
    }
}
