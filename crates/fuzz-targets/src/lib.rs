//! Properties that must hold for any bytes. Each target is one function.
//!
//! libFuzzer looks for bytes that break a property (`make long`), and every test run replays the
//! committed corpus. A target panics where its property does not hold.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target panics where its promise is broken"
)]

mod command_line;
mod filter;
mod formats;
mod lines;
mod w3c;

use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Propagation, TraceContextConfig};

pub use command_line::{cases, check, explain, yaml};
pub use filter::filter;
pub use w3c::tracestate;

/// A check with any bytes as its input.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus and of its libFuzzer program.
pub const TARGETS: &[(&str, Target)] = &[
    ("format", format),
    ("tracestate", tracestate),
    ("headers", headers),
    ("filter", filter),
    ("configuration", configuration),
    ("native", native),
    ("check", check),
    ("yaml", yaml),
    ("cases", cases),
    ("explain", explain),
];

/// The first line names a format. The others are lines of its headers: `name: value`, or the value
/// alone where the format has one header. Any other name stands for one of the formats too, so that
/// few bytes are wasted.
pub fn format(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (name, rest) = data.split_at(end.unwrap_or(data.len()));
    let lines = rest.strip_prefix(b"\n").unwrap_or(rest);
    let known = Format::ALL
        .iter()
        .find(|format| format.name().as_bytes() == name);
    let any = name.iter().map(|byte| usize::from(*byte)).sum::<usize>() % Format::ALL.len();
    let format = *known.unwrap_or(&Format::ALL[any]);
    formats::check(format, lines);
    if format == Format::Tracecontext {
        w3c::traceparent_is_read_as_its_grammar_says(lines);
    }
}

/// The host's header block: it is refused, or it has the same lines after it was read and
/// serialised again.
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
        // Only the bytes between the texts may differ: the format does not require that they are
        // zero.
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

/// The native module, called by an Envoy that is made up: any order of hooks that Envoy allows, with
/// any headers, tags and answers of a collector.
pub fn native(data: &[u8]) {
    meshtrace_native_driver::drive(data);
}
