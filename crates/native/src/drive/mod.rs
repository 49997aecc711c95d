//! An Envoy that is made up, and that calls the module as bytes say: any order that Envoy allows,
//! with any headers, tags and answers.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a driver panics where a promise is broken"
)]

pub(crate) mod envoy;
mod hooks;

use core::ptr;

use self::envoy::{Lines, STATE};
use self::hooks as on;
use crate::boundary;
use crate::plugin::Plugin;
use crate::send::Sender;
use crate::span::Span;
use crate::sys::{Buffer, EnvoyPtr, HeaderLine};

/// Configurations, of which the first byte chooses one.
const CONFIGS: [&str; 6] = [
    r#"{"report": {"cluster": "c"}}"#,
    r#"{"report": {"cluster": "c", "protocol": "grpc", "batch": {"max_spans": 2}}, "sampling": {"default": "always"}}"#,
    r#"{"report": {"cluster": "c", "keep": {"errors": true, "slower_than_ms": 1}}, "sampling": {"default": {"ratio": 0}}}"#,
    r#"{"report": {"cluster": "c", "batch": {"max_spans": 1}}, "trace_context": {
        "extract": ["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"],
        "inject": ["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"]},
        "sampling": {"default": "always", "parent": "ignore"}}"#,
    r#"{"report": {"cluster": "c"}, "sampling": {"default": "always"}, "trace_context": {"inject": "preserve",
        "incoming": {"mode": "ignore", "when": {"header_absent": "x-trusted"}}}}"#,
    r#"{"report": {"cluster": "c"}, "sampling": {"default": "always", "rules": [
        {"match": {"path": {"template": "/a/{id}"}, "headers": [{"name": "x-a", "present": true}]}, "sample": {"per_second": 1}}]},
        "span_attributes": {"attributes": [
            {"key": "a", "from": {"header": "x-a"}}, {"key": "b", "from": {"cookie": "c"}},
            {"key": "c", "from": {"query": "q"}}, {"key": "d", "from": {"baggage": "m"}},
            {"key": "e", "from": {"path": "/a/{id}", "capture": "id"}},
            {"key": "f", "from": {"jwt_claim": {"claim": "sub"}}}],
            "emit": {"request_header_prefix": "x-attr-", "baggage": true}}}"#,
];

/// The configuration that reads and writes every format. The others read and write W3C's and B3's.
const EVERY_FORMAT: usize = 3;

const NAMES: [&str; 24] = [
    ":path",
    ":method",
    ":authority",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "uber-trace-id",
    "ot-tracer-traceid",
    "ot-tracer-spanid",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-tags",
    "grpc-trace-bin",
    "baggage",
    "cookie",
    "x-a",
    "authorization",
    "sw8",
    "x-trusted",
];
const VALUES: [&str; 12] = [
    "http://b.host/a/7",
    "302",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00f067aa0ba902b7",
    "a=1,ot=th:8",
    "1",
    "/a/7?q=2",
    "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
    "m=v;p=1",
    "CONNECT",
];
const TAGS: [&str; 16] = [
    "http.status_code",
    "http.url",
    "response_flags",
    "retry.count",
    "http.protocol",
    "upstream_address",
    "upstream_cluster.name",
    "request_size",
    "grpc.status_code",
    "peer.address",
    "error",
    "canceled",
    "component",
    "grpc.path",
    "team",
    "http.route",
];
const OPERATIONS: [&str; 4] = [
    "ingress",
    "egress shop",
    "router c egress",
    "async c egress",
];

/// The bytes that are left, as choices.
struct Choices<'d>(&'d [u8]);

impl<'d> Choices<'d> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte)
            }
            None => 0,
        }
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.byte() % list.len()]
    }

    /// A text of the list, or any bytes.
    fn text(&mut self, list: &[&'static str]) -> Vec<u8> {
        let chosen = self.byte();
        if chosen < 128 {
            return list[chosen % list.len()].into();
        }
        let length = (chosen - 128).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        text.to_vec()
    }

    fn headers(&mut self) -> Lines {
        let count = self.byte() % 8;
        (0..count)
            .map(|_| {
                let name = self.of(&NAMES).as_bytes().to_vec();
                // Envoy refuses a request with these.
                let mut value = self.text(&VALUES);
                value.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
                (name, value)
            })
            .collect()
    }
}

/// A span that the module gave, and the headers of its request.
struct Held {
    span: *mut Span,
    headers: Box<Lines>,
    /// The names of which the module leaves one line.
    managed: &'static [&'static str],
    is_finished: bool,
}

/// Drives the module, and asserts that no hook panics, that ids have their form, and what the
/// made-up Envoy asserts of the module's calls.
///
/// # Panics
/// Where one of these does not hold.
pub fn drive(data: &[u8]) {
    let mut choices = Choices(data);
    let json = choices.of(&CONFIGS);
    boundary::take_panics();
    STATE.with(|state| {
        state.next_call.set(0);
        state.calls.borrow_mut().clear();
        state.is_scheduled.set(false);
    });
    let mut marker = 0_u8;
    let config: EnvoyPtr = ptr::from_mut(&mut marker).cast();
    let buffer = |text: &[u8]| Buffer::of(text);
    let managed = match json == CONFIGS[EVERY_FORMAT] {
        true => &NAMES[3..19],
        false => &NAMES[3..9],
    };
    // SAFETY: the order of the calls is Envoy's: a configuration, spans of it that are destroyed
    // before it, and a filter configuration. Every range is lent for its call.
    unsafe {
        assert!(!on::program_init().is_null());
        let plugin =
            on::tracer_config_new(config, buffer(b"mesh_tracing"), buffer(json.as_bytes()));
        assert!(!plugin.is_null(), "{json}");
        let mut sender = on::filter_config_new(config, buffer(b"mesh_tracing_export"), buffer(b""));
        assert!(!sender.is_null());
        let mut held: Vec<Held> = Vec::new();
        while !choices.0.is_empty() {
            step(
                &mut choices,
                (plugin, managed),
                config,
                &mut sender,
                &mut held,
            );
            assert_eq!(boundary::take_panics(), 0);
        }
        for Held { span, .. } in held {
            on::span_destroy(span);
        }
        on::tracer_config_destroy(plugin);
        for _ in 0..8 {
            on::scheduled(config, sender, 0);
            answer_all(config, sender);
        }
        forbidding(|| on::filter_config_destroy(sender));
        assert!(!STATE.with(|state| state.has_scheduler.get()));
    }
    crate::queue::clear();
    assert_eq!(boundary::take_panics(), 0);
}

/// Runs a hook in which Envoy takes no call.
fn forbidding(hook: impl FnOnce()) {
    STATE.with(|state| state.forbids_calls.set(true));
    hook();
    STATE.with(|state| state.forbids_calls.set(false));
}

unsafe fn step(
    choices: &mut Choices<'_>,
    (plugin, managed): (*const Plugin, &'static [&'static str]),
    config: EnvoyPtr,
    sender: &mut *const Sender,
    held: &mut Vec<Held>,
) {
    let action = choices.byte() % 14;
    let place = choices.byte();
    let carrier = |headers: &mut Lines| -> EnvoyPtr { ptr::from_mut(headers).cast() };
    // SAFETY: as in `drive`.
    unsafe {
        match action {
            0 | 1 => {
                let mut headers = Box::new(choices.headers());
                if action == 1 {
                    on::mutate(ptr::null(), carrier(&mut headers));
                    for name in ["traceparent", "tracestate", "baggage"] {
                        let lines = headers.iter().filter(|(known, _)| known == name.as_bytes());
                        assert!(lines.count() <= 1, "{name}");
                    }
                }
                let operation = choices.of(&OPERATIONS);
                let operation = Buffer::of(operation.as_bytes());
                let span = on::start_span(plugin, carrier(&mut headers), operation, true, 2);
                if !span.is_null() && held.len() < 64 {
                    held.push(Held {
                        span,
                        headers,
                        managed,
                        is_finished: false,
                    });
                } else if !span.is_null() {
                    on::span_destroy(span);
                }
            }
            2 => {
                // Envoy wakes the module, or has nothing to tell it.
                if STATE.with(|state| state.is_scheduled.replace(false)) || place < 64 {
                    on::scheduled(config, *sender, 0);
                }
            }
            3 => STATE.with(|state| state.next_call.set(choices.of(&[0, 0, 2, 4]))),
            4 => answer(choices, config, *sender, place),
            5 => {
                // Answers that nobody waits for.
                let id = u64::from(u8::try_from(place).unwrap_or(0));
                on::stream_complete(config, *sender, id);
                on::callout_done(
                    config,
                    *sender,
                    id + 1000,
                    0,
                    ptr::null(),
                    0,
                    ptr::null(),
                    0,
                );
            }
            6 => {
                // An update of the listener.
                let next = on::filter_config_new(
                    config,
                    Buffer::of(b"mesh_tracing_export"),
                    Buffer::EMPTY,
                );
                assert!(!next.is_null());
                let old = core::mem::replace(sender, next);
                forbidding(|| on::filter_config_destroy(old));
                STATE.with(|state| {
                    state.calls.borrow_mut().clear();
                    state.has_scheduler.set(true);
                });
            }
            _ if held.is_empty() => {}
            _ => {
                let place = place % held.len();
                of_span(action, choices, &mut held[place]);
                if action == 9 && held.len() < 64 && choices.byte().is_multiple_of(4) {
                    // The request is led elsewhere.
                    let mut headers = held[place].headers.clone();
                    headers.push((b"x-envoy-original-url".to_vec(), b"http://shop/".to_vec()));
                    let operation = Buffer::of(OPERATIONS[0].as_bytes());
                    let span = on::start_span(plugin, carrier(&mut headers), operation, true, 2);
                    if !span.is_null() {
                        held.push(Held {
                            span,
                            headers,
                            managed,
                            is_finished: false,
                        });
                    }
                }
                if action == 13 {
                    let gone = held.swap_remove(place);
                    on::span_destroy(gone.span);
                }
                if action == 12 && held.len() < 64 {
                    let operation = choices.of(&OPERATIONS);
                    let of = &held[place];
                    let span = on::spawn_child(of.span, Buffer::of(operation.as_bytes()), 1);
                    let headers = of.headers.clone();
                    if !span.is_null() {
                        held.push(Held {
                            span,
                            headers,
                            managed,
                            is_finished: false,
                        });
                    }
                }
            }
        }
    }
}

unsafe fn of_span(action: usize, choices: &mut Choices<'_>, held: &mut Held) {
    // SAFETY: as in `drive`; the span is not destroyed.
    unsafe {
        match action {
            7 => {
                let (key, value) = (choices.text(&TAGS), choices.text(&VALUES));
                on::set_tag(held.span, Buffer::of(&key), Buffer::of(&value));
            }
            8 => {
                let headers: *mut Lines = &raw mut *held.headers;
                on::inject(held.span, headers.cast());
                for name in held.managed {
                    let is_it = |(known, _): &&(Vec<u8>, Vec<u8>)| known == name.as_bytes();
                    let count = held.headers.iter().filter(is_it).count();
                    let is_list = matches!(*name, "tracestate" | "baggage");
                    assert!(count <= 1 || is_list, "{name}: {count}");
                }
            }
            9 if !held.is_finished => {
                held.is_finished = true;
                on::finish(held.span);
            }
            10 => {
                for (get, length) in [
                    (on::get_trace_id as on::GetId, 32),
                    (on::get_span_id as on::GetId, 16),
                ] {
                    let mut out = Buffer::EMPTY;
                    assert!(get(held.span, &raw mut out));
                    let id = out.bytes();
                    assert_eq!(id.len(), length);
                    assert!(
                        id.iter()
                            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                    );
                    assert!(id.iter().any(|byte| *byte != b'0'));
                }
            }
            11 => {
                assert!(!on::use_local_decision(held.span));
                match choices.byte() % 3 {
                    0 => on::set_sampled(held.span, choices.byte().is_multiple_of(2)),
                    1 => {
                        let operation = choices.of(&OPERATIONS).as_bytes();
                        on::set_operation(held.span, Buffer::of(operation));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Answers one call that is on its way, with any status, headers and body.
unsafe fn answer(choices: &mut Choices<'_>, config: EnvoyPtr, sender: *const Sender, place: usize) {
    let call = STATE.with(|state| {
        let mut calls = state.calls.borrow_mut();
        let place = place % calls.len().max(1);
        (place < calls.len()).then(|| calls.swap_remove(place))
    });
    let Some(call) = call else { return };
    let status = choices.text(&["200", "503", "413", "429", "", "x"]);
    let extra = choices.text(&["0", "14", "8", "13", "Thu, 01 Jan 1970 00:00:00 GMT"]);
    let name = choices.of(&["grpc-status", "retry-after", "grpc-status-details-bin"]);
    let body = choices.text(&["", "\u{a}\u{2}\u{8}\u{1}", "xyz"]);
    let line = |name: &str, value: &[u8]| HeaderLine {
        name: Buffer::of(name.as_bytes()),
        value: Buffer::of(value),
    };
    let headers = [line(":status", &status), line(name, &extra)];
    let part = Buffer::of(&body);
    let result = u32::try_from(choices.byte() % 3).unwrap_or(0);
    // SAFETY: as in `drive`; the call is on its way.
    forbidding(|| unsafe {
        let lines = headers.as_ptr();
        if !call.is_stream {
            on::callout_done(
                config,
                sender,
                call.id,
                result,
                lines,
                2,
                &raw const part,
                1,
            );
            return;
        }
        on::stream_headers(config, sender, call.id, lines, 2, false);
        on::stream_data(config, sender, call.id, &raw const part, 1, false);
        on::stream_trailers(config, sender, call.id, lines.add(1), 1);
        match result {
            0 => on::stream_complete(config, sender, call.id),
            _ => on::stream_reset(config, sender, call.id, 0),
        }
    });
}

/// Answers every call that is on its way with success.
unsafe fn answer_all(config: EnvoyPtr, sender: *const Sender) {
    loop {
        let made = STATE.with(|state| state.calls.borrow_mut().pop());
        let Some(call) = made else { return };
        let headers = [
            HeaderLine {
                name: Buffer::of(b":status"),
                value: Buffer::of(b"200"),
            },
            HeaderLine {
                name: Buffer::of(b"grpc-status"),
                value: Buffer::of(b"0"),
            },
        ];
        // SAFETY: as in `drive`; the call is on its way.
        forbidding(|| unsafe {
            if call.is_stream {
                on::stream_headers(config, sender, call.id, headers.as_ptr(), 2, true);
                on::stream_complete(config, sender, call.id);
            } else {
                let none = ptr::null();
                on::callout_done(config, sender, call.id, 0, headers.as_ptr(), 2, none, 0);
            }
        });
    }
}
