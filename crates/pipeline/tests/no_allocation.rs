//! A request costs no heap: the stages build what they write on the stack.
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, AccessLogTrace, Arena, Clock, Composition, LoggedRequest, Lookup, NoHost, Outcome,
    Proxy, Request, Response, RouteSampling, SpanAttributes, TraceContext,
};
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
    let mut baggage: Vec<_> = (0..70)
        .map(|i| line(&format!("uberctx-key{i}"), "a%20b+\u{e9}".repeat(i)))
        .collect();
    baggage.push(line("baggage", "k=v,,key1 = old;p".to_owned()));
    baggage.push(line("baggage", "k2=v".to_owned()));
    baggage.push(line("ot-baggage-\u{e9}", "v".to_owned()));
    baggage.push(line(":authority", "partner.example.com:8443".to_owned()));
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
        baggage,
    ]
}

#[test]
fn no_request_allocates_whatever_arrives_and_whatever_the_policy() {
    let peer = Peer {
        address: Some(b"192.0.2.1:4567"),
        direction: Direction::Inbound,
        own: None,
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
        r#"{"baggage_from": ["jaeger", "ottrace"]}"#,
        r#"{"clear": ["jaeger", "ottrace"]}"#,
        r#"{"extract": ["xray", "gcp", "datadog"], "on_missing": "generate", "inject": "preserve"}"#,
        r#"{"overrides": [{"cluster": "partner", "inject": [], "clear": ["tracecontext", "b3", "b3multi"]},
            {"host": "*.example.com", "inject": ["b3"]}]}"#,
        r#"{"placement": "upstream", "tracer": "datadog", "inject": ["xray", "gcp", "grpc-trace-bin"]}"#,
    ] {
        let filter =
            TraceContext::from_json(config.as_bytes(), &Proxy::UNKNOWN).expect("a configuration");
        for lines in requests() {
            let block = encode(&lines);
            let before = ALLOCATIONS.get();

            let headers = Headers::parse(&block).expect("a header block");
            let mut outcome = Outcome::new_in(&arena);
            let request = Request {
                headers,
                peer,
                cluster: Some(b"partner"),
                properties: &[],
                clock: &NoHost,
                arena: &arena,
                shared: &NoHost,
            };
            filter.on_request(&request, &ids, &mut (), &mut outcome);
            drop(outcome);
            arena.reset();

            let allocations = ALLOCATIONS.get() - before;
            assert_eq!(allocations, 0, "{config}: {} lines", lines.len());
        }
    }
}

const EVERY_ATTRIBUTE: &str = r#"{
    "attributes": [
        {"key": "a", "from": {"header": "x-user-id"}, "transform": ["trim", "lowercase", {"truncate": 9}]},
        {"key": "b", "from": {"header": "x-user-id"}, "transform": [{"hmac_sha256": {"key_env": "KEY"}}]},
        {"key": "c", "from": {"header": "x-user-id"},
         "transform": [{"replace": {"pattern": "(\\w)([a-z]+)", "with": "$2$1"}}, {"allow": ["x"]}], "default": "d"},
        {"key": "d", "from": {"cookie": "c"}},
        {"key": "e", "from": {"query": "q"}},
        {"key": "f", "from": {"path": "/{id}/**", "capture": "id"}},
        {"key": "g", "from": {"baggage": "b"}},
        {"key": "h", "from": {"jwt_claim": {"claim": "sub"}}},
        {"key": "i", "from": {"jwt_claim": {"claim": ["org", "id"]}}},
        {"key": "j", "from": {"property": ["xds", "listener_direction"]}},
        {"key": "k", "from": {"env": "KEY"}},
        {"key": "l", "from": {"literal": "l"}},
        {"key": "m", "from": {"response_header": "x-user-id"}},
        {"key": "n", "from": {"property": ["response", "code"]}}
    ],
    "emit": {"request_header_prefix": "x-attr-", "baggage": true}
}"#;

/// A token whose payload is `{"sub": "alice", "org": {"id": 7, "name": "x"}, "exp": 1}`.
const TOKEN: &str = "Bearer e30.\
    eyJzdWIiOiAiYWxpY2UiLCAib3JnIjogeyJpZCI6IDcsICJuYW1lIjogIngifSwgImV4cCI6IDF9.c2ln";

#[test]
fn no_attribute_allocates_outside_of_the_arena() {
    let filter = SpanAttributes::from_json(
        EVERY_ATTRIBUTE.as_bytes(),
        &Proxy::with_environment(&|_| Some(b"key".to_vec())),
    )
    .expect("a configuration");
    let ids = IdGenerator::from_seed([1; 32]);
    let mut arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    let properties = [Some(Box::from(1_i64.to_le_bytes()))];
    let long = "Zoë".repeat(1000);
    for user in ["alice", "", "\u{85}", long.as_str()] {
        let block = encode(&[
            (":path", "/42/a?q=a+b%20c"),
            ("x-user-id", user),
            ("cookie", "a=b; c=d"),
            ("baggage", "a=1,b=%20x"),
            ("authorization", TOKEN),
            ("x-attr-a", "mallory"),
        ]);
        let before = ALLOCATIONS.get();

        let headers = Headers::parse(&block).expect("a header block");
        let mut outcome = Outcome::new_in(&arena);
        let request = Request {
            headers,
            peer: Peer::default(),
            cluster: None,
            properties: &properties,
            clock: &NoHost,
            arena: &arena,
            shared: &NoHost,
        };
        filter.on_request(&request, &ids, &mut (), &mut outcome);
        let (set, edited) = (outcome.properties.len(), outcome.headers.len());
        drop(outcome);
        arena.reset();

        let mut outcome = Outcome::new_in(&arena);
        let response = Response {
            headers,
            properties: &properties,
            lookup: &Nothing,
            arena: &arena,
        };
        filter.on_response(&response, &mut (), &mut outcome);
        drop(outcome);
        arena.reset();

        let allocations = ALLOCATIONS.get() - before;
        assert_eq!(allocations, 0, "{user}");
        assert!(set >= 10 && edited == set + 1, "{set} {edited}");
    }
}

/// A host that knows nothing more about a request that is over.
#[derive(Debug)]
struct Nothing;

impl Clock for Nothing {
    fn monotonic(&self) -> Option<u64> {
        None
    }

    fn wall(&self) -> Option<u64> {
        None
    }
}

impl Lookup for Nothing {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn property(&self, _path: &[u8]) -> Option<Box<[u8]>> {
        None
    }

    fn is_compiled(&self, _expression: usize) -> bool {
        false
    }

    fn evaluate(&self, _expression: usize) -> Option<Box<[u8]>> {
        None
    }
}

#[test]
fn no_request_that_is_logged_allocates() {
    let peer = Peer {
        address: None,
        direction: Direction::Unspecified,
        own: None,
    };
    let ids = IdGenerator::from_seed([1; 32]);
    let mut arena = Arena::with_capacity(ARENA_BYTES);
    for config in [
        "",
        r#"{"tracer": ["b3", "tracecontext"], "spawn_upstream_span": true}"#,
        r#"{"tracer": "tracecontext", "spawn_upstream_span": false,
            "ids": {"trace_id_header": "traceparent", "span_id_header": "x-b3-spanid"},
            "shapes": ["datadog", "b3_64", {"gcp": {"project": "my-project"}}],
            "response_header": {"name": "x-trace-id", "traceresponse": true}}"#,
    ] {
        let filter =
            AccessLogTrace::from_json(config.as_bytes(), &Proxy::UNKNOWN).expect("a configuration");
        for lines in requests() {
            let block = encode(&lines);
            let end = encode(&[("traceparent", format!("00-{T}-{S}-01"))]);
            let before = ALLOCATIONS.get();

            let headers = Headers::parse(&block).expect("a header block");
            let request_headers = Headers::parse(&end).expect("a header block");
            let mut state = None;
            let mut outcome = Outcome::new_in(&arena);
            let request = Request {
                headers,
                peer,
                cluster: None,
                properties: &[],
                clock: &NoHost,
                arena: &arena,
                shared: &NoHost,
            };
            filter.on_request(&request, &ids, &mut state, &mut outcome);
            let response = Response {
                headers: Headers::default(),
                properties: &[],
                lookup: &Nothing,
                arena: &arena,
            };
            filter.on_response(&response, &mut state, &mut outcome);
            let end = LoggedRequest {
                request_headers,
                lookup: &Nothing,
                ids: &ids,
                arena: &arena,
                shared: &NoHost,
            };
            filter.on_log(&end, &mut state, &mut outcome);
            drop(outcome);
            arena.reset();

            let allocations = ALLOCATIONS.get() - before;
            assert_eq!(allocations, 0, "{config}: {} lines", lines.len());
        }
    }
}

/// Rules of every kind, in both placements.
const SAMPLING: [&str; 3] = [
    r#"{"rules": [
        {"match": {"path": {"regex": "/items/[0-9]+"}}, "sample": "always"},
        {"match": {"path": {"template": "/users/{id}"}, "methods": ["GET"]}, "sample": {"ratio": 0.5}},
        {"match": {"host": "*.example", "headers": [{"name": "x-tenant", "prefix": "a"}]}, "sample": "never"},
        {"match": {"route": "checkout", "cluster": "ledger"}, "sample": {"per_second": 5}}
    ], "default": {"ratio": 0.1}, "force": {"header": "x-force", "value_env": "KEY"},
       "ids": {"trace_id_header": "x-trace-id"}}"#,
    r#"{"placement": "upstream", "tracer": "tracecontext", "parent": "ignore", "default": {"ratio": 0.5}}"#,
    r#"{"placement": "upstream", "tracer": "b3multi", "parent": "respect_dropped", "default": "never"}"#,
];

#[test]
fn no_sampling_decision_allocates() {
    let ids = IdGenerator::from_seed([1; 32]);
    let mut arena = Arena::with_capacity(ARENA_BYTES);
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for config in SAMPLING {
        let filter = RouteSampling::from_json(
            config.as_bytes(),
            &Proxy::with_environment(&|_| Some(b"secret".to_vec())),
        )
        .expect("a configuration");
        for path in ["/items/7", "/users/me?x", "/else", ""] {
            for mut lines in requests() {
                lines.extend([
                    line(":path", path),
                    line(":authority", "Shop.Example:80"),
                    line("x-tenant", "acme"),
                    line("x-force", "wrong"),
                    line("x-trace-id", T),
                    line("x-envoy-force-trace", "true"),
                ]);
                let block = encode(&lines);
                let before = ALLOCATIONS.get();

                let mut outcome = Outcome::new_in(&arena);
                let request = Request {
                    headers: Headers::parse(&block).expect("a header block"),
                    peer: Peer::default(),
                    cluster: None,
                    properties: &[None, None],
                    clock: &NoHost,
                    arena: &arena,
                    shared: &NoHost,
                };
                filter.on_request(&request, &ids, &mut (), &mut outcome);
                drop(outcome);
                arena.reset();

                let allocations = ALLOCATIONS.get() - before;
                assert_eq!(allocations, 0, "{config}: {path}, {} lines", lines.len());
            }
        }
    }
}

#[test]
fn what_a_request_leaves_for_its_end_is_bounded() {
    assert!(size_of::<<AccessLogTrace as Composition>::RequestState>() <= 1024);
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
