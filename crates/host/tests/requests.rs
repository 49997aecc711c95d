//! The calls of the host that a request takes, exactly: what a request costs in numbers that do not depend on a machine.
//!
//! `requests.json` has a row for each filter and configuration. The benchmark compares each with a module that makes these
//! calls alone. `UPDATE_REQUESTS=1 cargo test -p meshtrace-host --test requests` writes the calls anew.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod mock;

use meshtrace_pipeline::{
    AccessLogTrace, Callback, Composition, MeshTracing, RouteSampling, SpanAttributes, TraceContext,
};
use mock::drive::configure_as;
use mock::{Lines, host};
use serde_json::{Value, json};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/requests.json");
type Line = (Vec<u8>, Vec<u8>);

const STREAM: u32 = 1000;
const SECOND: u64 = 1_000_000_000;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_log(context: u32);
    fn proxy_on_delete(context: u32);
}

/// Configures the filter. Returns its callbacks: the released module has no other.
fn configure(root: u32, filter: &str, json: &str) -> &'static [Callback] {
    fn configured<C: Composition>(root: u32, json: &str) -> &'static [Callback] {
        assert!(configure_as::<C>(root, json));
        C::CALLBACKS
    }
    match filter {
        "trace_context" => configured::<TraceContext>(root, json),
        "span_attributes" => configured::<SpanAttributes>(root, json),
        "access_log_trace" => configured::<AccessLogTrace>(root, json),
        "route_sampling" => configured::<RouteSampling>(root, json),
        "mesh_tracing" => configured::<MeshTracing>(root, json),
        other => panic!("{other} is no filter"),
    }
}

/// Runs one request that is answered with 200. Returns the calls until its headers are passed on, those after it, and the
/// names of the headers that were written.
fn exchange(
    root: u32,
    callbacks: &[Callback],
    headers: &Lines,
) -> (Vec<&'static str>, Vec<&'static str>, Vec<String>) {
    host(|host| {
        host.calls.clear();
        host.forget_requests();
        host.request_headers = headers.clone();
    });
    let calls = || host(|host| std::mem::take(&mut host.calls));
    unsafe {
        proxy_on_context_create(STREAM, root);
        proxy_on_request_headers(STREAM, headers.len(), true);
    }
    let at_request = calls();
    let is_written = |line: &&Line| !headers.contains(line);
    let name = |(name, _): &Line| String::from_utf8(name.clone()).unwrap();
    let written = host(|host| {
        host.request_headers
            .iter()
            .filter(is_written)
            .map(name)
            .collect()
    });
    unsafe {
        if callbacks.contains(&Callback::ResponseHeaders) {
            proxy_on_response_headers(STREAM, 0, true);
        }
        if callbacks.contains(&Callback::Log) {
            proxy_on_log(STREAM);
        }
        proxy_on_delete(STREAM);
    }
    (at_request, calls(), written)
}

/// The row with the calls that were seen.
fn seen(root: u32, row: &Value) -> Value {
    let filter = row["filter"].as_str().unwrap();
    host(|host| {
        (host.now, host.monotonic) = (SECOND, SECOND);
        host.compiled.clear();
        let code = 200_u64.to_le_bytes().into();
        host.properties.insert(b"response\0code".into(), code);
        let flags = 0_u64.to_le_bytes().into();
        host.properties.insert(b"response\0flags".into(), flags);
    });
    let callbacks = configure(root, filter, &row["configuration"].to_string());
    let list = host(|host| host.compiled.first().cloned());
    if let Some(list) = list.as_ref().filter(|list| list.starts_with('[')) {
        let values: Vec<_> = (0..8).map(|_| (200_u64.to_le_bytes(), "")).collect();
        host(|host| {
            host.expressions
                .insert(list.clone(), meshtrace_headers::encode(&values))
        });
    }
    let headers = row["headers"].as_object().unwrap();
    let headers: Lines = headers
        .iter()
        .map(|(name, value)| (name.clone().into_bytes(), value.as_str().unwrap().into()))
        .collect();
    // A filter looks at its first requests to see where it stands, and asks for a tick with the first that is counted.
    for _ in 0..20 {
        exchange(root, callbacks, &headers);
    }
    let (at_request, at_end, written) = exchange(root, callbacks, &headers);
    let mut row = row.clone();
    row["at_request"] = json!(at_request);
    row["at_end"] = json!(at_end);
    row["written"] = json!(written);
    let evaluates = at_end.contains(&"proxy_call_foreign_function");
    // A span that is exported takes the list of its values, another one only the question whether the request failed.
    let is_exported = at_request.contains(&"proxy_get_current_time_nanoseconds");
    let expressions = host(|host| host.compiled.clone());
    let evaluated = match is_exported {
        true => expressions.first(),
        false => expressions.last(),
    };
    row["expression"] = json!(evaluated.filter(|_| evaluates));
    row
}

#[test]
fn what_each_request_costs_in_calls_of_the_host() {
    let text = std::fs::read_to_string(TABLE).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let rows_seen: Vec<Value> = rows
        .iter()
        .zip(1..)
        .map(|(row, root)| seen(root, row))
        .collect();
    if std::env::var_os("UPDATE_REQUESTS").is_some() {
        std::fs::write(TABLE, format!("{:#}\n", json!(rows_seen))).unwrap();
        return;
    }
    for (row, seen) in rows.iter().zip(&rows_seen) {
        assert_eq!(row, seen, "{}", row["name"]);
    }
}
