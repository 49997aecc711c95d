//! What must hold for any bytes whatsoever, one function a target.
//!
//! libFuzzer looks for bytes that break one (`make long`), and every test run replays the committed
//! corpus. A target panics where its promise is broken.

#![forbid(unsafe_code)]

mod filter;
mod formats;
mod lines;
mod w3c;

use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Propagation, TraceContextConfig};

pub use filter::filter;
pub use w3c::{tracecontext, tracestate};

/// A promise about any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus and of its libFuzzer program.
pub const TARGETS: &[(&str, Target)] = &[
    ("tracecontext", tracecontext),
    ("tracestate", tracestate),
    ("b3", b3),
    ("b3multi", b3multi),
    ("jaeger", jaeger),
    ("ottrace", ottrace),
    ("xray", xray),
    ("gcp", gcp),
    ("datadog", datadog),
    ("grpc_trace_bin", grpc_trace_bin),
    ("headers", headers),
    ("filter", filter),
    ("configuration", configuration),
];

/// `b3`: each line of the bytes is one of its lines.
pub fn b3(data: &[u8]) {
    formats::check(Format::B3, data);
}

/// `x-b3-*`: lines of `name: value`.
pub fn b3multi(data: &[u8]) {
    formats::check(Format::B3Multi, data);
}

/// `uber-trace-id`: each line of the bytes is one of its lines.
pub fn jaeger(data: &[u8]) {
    formats::check(Format::Jaeger, data);
}

/// `ot-tracer-*`: lines of `name: value`.
pub fn ottrace(data: &[u8]) {
    formats::check(Format::Ottrace, data);
}

/// `x-amzn-trace-id`: each line of the bytes is one of its lines.
pub fn xray(data: &[u8]) {
    formats::check(Format::Xray, data);
}

/// `x-cloud-trace-context`: each line of the bytes is one of its lines.
pub fn gcp(data: &[u8]) {
    formats::check(Format::Gcp, data);
}

/// `x-datadog-*`: lines of `name: value`.
pub fn datadog(data: &[u8]) {
    formats::check(Format::Datadog, data);
}

/// `grpc-trace-bin`: each line of the bytes is one of its lines.
pub fn grpc_trace_bin(data: &[u8]) {
    formats::check(Format::GrpcTraceBin, data);
}

/// The host's header block: it is refused, or says the same once it was read and serialised again.
pub fn headers(data: &[u8]) {
    let Some(headers) = Headers::parse(data) else {
        return;
    };
    let lines: Vec<_> = headers.iter().collect();
    let block = encode(&lines);
    let again = Headers::parse(&block).expect("a block that was just serialised");
    assert_eq!(again.iter().collect::<Vec<_>>(), lines);
    for (name, _) in &lines {
        let values = lines.iter().filter(|(n, _)| n == name).map(|(_, v)| *v);
        assert!(headers.contains(name));
        assert!(headers.lines(name).eq(values));
    }
    if data.len() == block.len() {
        // Only the bytes between the texts may differ: nobody says that they are zero.
        let cut = block.split_last().expect("a count").1;
        assert!(lines.is_empty() || Headers::parse(cut).is_none());
    }
}

/// A plugin configuration: it is refused in one line of text, or compiles and serves.
pub fn configuration(data: &[u8]) {
    let compiled = meshtrace_config::read::<TraceContextConfig>(data)
        .and_then(|config| Propagation::new(&config));
    match compiled {
        Ok(propagation) => filter::serve(&propagation),
        Err(error) => {
            let text = error.below("trace_context").to_string();
            assert!(text.starts_with("trace_context"), "{text:?}");
            assert!(!text.contains(['\n', '\r', '\0']), "not one line: {text:?}");
        }
    }
}
