//! A host with a request, the filter as a tracer, and what a request leaves behind.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use meshtrace_headers::{Change, Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Change as SharedChange, Clock, Composition, LoggedRequest, Lookup,
    MeshTracing, Outcome, Proxy, Request, SharedData,
};
use meshtrace_propagation::{IdGenerator, Peer, tracestate};
use meshtrace_sampling::Counter;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

pub(crate) const S: &str = "00f067aa0ba902b7";
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The first digits of a trace id; the right-most 56 bits follow.
pub(crate) const T: &str = "4bf92f3577b34da6a3";
/// Right-most 56 bits of a trace id that a half keeps, and of one that it does not.
pub(crate) const KEPT: &str = "ffffffffffffff";
pub(crate) const LOST: &str = "00000000000001";

pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// A host with a request that ends with `code`.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) headers: Vec<u8>,
    pub(crate) code: u64,
    pub(crate) route: Option<&'static str>,
    pub(crate) cluster: Option<&'static str>,
    pub(crate) now: Cell<u64>,
    pub(crate) entries: RefCell<BTreeMap<Vec<u8>, [u8; 8]>>,
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
        Some(self.headers.as_slice().into())
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        let text = |text: Option<&str>| text.map(|text| text.as_bytes().into());
        match path {
            b"response\0code" => Some(Box::new(self.code.to_le_bytes())),
            b"response\0flags" => Some(Box::new([0; 8])),
            b"request\0duration" => Some(Box::new(SECOND.to_le_bytes())),
            b"xds\0route_name" => text(self.route),
            b"xds\0cluster_name" => text(self.cluster),
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

impl SharedData for Host {
    #[expect(clippy::disallowed_methods, reason = "a test may panic")]
    fn update(&self, key: &[u8], change: &mut SharedChange<'_>) -> bool {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get(key).map(<[u8; 8]>::as_slice);
        if let Some(new) = change(entry) {
            entries.insert(key.to_vec(), new);
        }
        true
    }
}

/// What a request left behind.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The headers of the next hop.
    pub(crate) lines: Lines,
    pub(crate) spans: Vec<Span>,
    pub(crate) counted: Vec<Counter>,
    pub(crate) configured: Vec<String>,
}

impl Left {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.lines.iter().filter(|(n, _)| n == name);
        let value = &lines.next()?.1;
        assert!(lines.next().is_none(), "more than one {name}");
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The flag that the next hop is told, its trace id and its parent.
    pub(crate) fn traceparent(&self) -> (bool, String, String) {
        let text = self.header("traceparent").expect("a traceparent");
        let fields: Vec<_> = text.split('-').collect();
        let flags = u8::from_str_radix(fields[3], 16).expect("digits");
        (flags & 1 == 1, fields[1].to_owned(), fields[2].to_owned())
    }

    pub(crate) fn tracestate(&self) -> String {
        self.header("tracestate").unwrap_or_default()
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        let found = self.spans[0].attributes.iter().find(|a| a.key == key)?;
        match found.value.clone()?.value? {
            Value::StringValue(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Filter {
    pub(crate) filter: MeshTracing,
    pub(crate) host: Host,
    pub(crate) ids: IdGenerator,
}

impl Filter {
    pub(crate) fn new(config: &str) -> Self {
        let key = |name: &str| (name == "KEY").then(|| b"hunter2".to_vec());
        let filter = MeshTracing::from_json(config.as_bytes(), &Proxy::with_environment(&key))
            .unwrap_or_else(|error| panic!("{config}: {error}"));
        Self {
            filter,
            host: Host {
                headers: Vec::new(),
                code: 200,
                route: None,
                cluster: None,
                now: Cell::new(SECOND),
                entries: RefCell::default(),
            },
            ids: IdGenerator::from_seed([9; 32]),
        }
    }

    /// With `report`, and `sampling` as given.
    pub(crate) fn sampling(sampling: &str) -> Self {
        Self::new(&config(sampling, ""))
    }

    pub(crate) fn run(&mut self, lines: &[(&str, &str)]) -> Left {
        let bytes = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let lines: Lines = lines.iter().map(bytes).collect();
        self.run_bytes(&lines, true)
    }

    /// A request from its headers, where the filter has `seen` them, to its exported spans.
    pub(crate) fn run_bytes(&mut self, lines: &Lines, seen: bool) -> Left {
        self.host.headers = encode(lines);
        let host = &self.host;
        let arena = Arena::with_capacity(ARENA_BYTES);
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        let mut state = Default::default();
        let mut left = Left {
            lines: lines.clone(),
            ..Left::default()
        };
        if seen {
            let needs = self.filter.needs();
            let paths = needs.request_properties.iter();
            let properties: Vec<_> = paths.map(|path| host.property(path)).collect();
            let cluster = needs.cluster.then(|| host.property(b"xds\0cluster_name"));
            let cluster = cluster.flatten();
            let request = Request {
                headers: Headers::parse(&host.headers).expect("a block"),
                peer: Peer::default(),
                cluster: cluster.as_deref(),
                properties: &properties,
                clock: host,
                arena: &arena,
                shared: host,
            };
            let mut outcome = Outcome::new_in(&arena);
            self.filter
                .on_request(&request, &self.ids, &mut state, &mut outcome);
            self.take(&outcome, &mut left);
        }
        host.now.set(host.now.get() + SECOND / 500);
        let end = LoggedRequest {
            request_headers: Headers::default(),
            lookup: host,
            ids: &self.ids,
            arena: &arena,
            shared: host,
        };
        let mut outcome = Outcome::new_in(&arena);
        self.filter.on_log(&end, &mut state, &mut outcome);
        assert!(outcome.headers.is_empty(), "it is too late for edits");
        self.take(&outcome, &mut left);
        left.spans = self.exported();
        left
    }

    fn take(&self, outcome: &Outcome<'_>, left: &mut Left) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(!outcome.headers.overflowed());
        for edit in outcome.headers.iter() {
            let name = text(edit.name);
            left.lines.retain(|(known, _)| *known != name);
            if let Change::Replace(value) = &edit.change {
                left.lines.push((name, value.as_bytes().to_vec()));
            }
        }
        let names = self.filter.counters();
        let name = |index: &usize| names[*index].replace("meshtrace.route_sampling.", "");
        left.configured.extend(outcome.configured.iter().map(name));
        left.counted.extend(outcome.tallies.sampling.iter());
    }

    fn exported(&self) -> Vec<Span> {
        let mut calls = Vec::new();
        let Some(background) = self.filter.background() else {
            return Vec::new();
        };
        background.on_tick(10 * SECOND, &mut |call| {
            calls.push(call.body.to_vec());
            Ok(u32::try_from(calls.len()).expect("few"))
        });
        let answer = encode(&[(":status", "200")]);
        for (_, token) in calls.iter().zip(1..) {
            let answer = meshtrace_pipeline::HttpCallResponse {
                headers: Headers::parse(&answer).expect("a block"),
                body: b"",
                trailers: Headers::default(),
                now: 10 * SECOND,
                wall: 10 * SECOND,
            };
            background.on_http_call_response(token, &answer, &mut |_| panic!("nothing waits"));
        }
        let decode = |body: &Vec<u8>| ExportTraceServiceRequest::decode(&body[..]).expect("OTLP");
        let resources = calls.iter().map(decode).flat_map(|r| r.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

/// With `more` keys of `report`.
pub(crate) fn config(sampling: &str, more: &str) -> String {
    format!(
        r#"{{"trace_context": {{"inject": ["tracecontext"]}}, "sampling": {sampling},
            "report": {{"cluster": "c"{more}}}}}"#
    )
}

/// A parent in W3C's format: the right-most 56 bits of its trace id, and its flags.
pub(crate) fn parent(randomness: &str, flags: &str) -> String {
    format!("00-{T}{randomness}-{S}-{flags}")
}

/// The hop's span is what its next hop is told: flag, parent, and list.
pub(crate) fn assert_in_force(left: &Left, what: &str) {
    let (sampled, trace_id, span_id) = left.traceparent();
    assert_eq!(left.spans.len(), usize::from(sampled), "{what}: {left:?}");
    for span in &left.spans {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&span.trace_id), trace_id, "{what}");
        assert_eq!(hex(&span.span_id), span_id, "{what}");
        assert_eq!(span.flags & 1, 1, "{what}");
        // A key that came in twice is left to the next hop as it came.
        let left = left.tracestate();
        let members = tracestate::parse([left.as_bytes()].into_iter());
        let of_span = tracestate::parse([span.trace_state.as_bytes()].into_iter());
        assert_eq!(of_span.expect("a list"), members.expect("a list"), "{what}");
    }
}
