//! A request whose filters run more than once, as after an internal redirect.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod mock;

use meshtrace_host::new_root;
use meshtrace_pipeline::{Composition, MeshTracing, TraceContext};
use mock::host;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_log(context: u32);
    fn proxy_on_delete(context: u32);
}

fn configure(root: u32, json: &str) {
    configure_as::<TraceContext>(root, json);
}

fn configure_as<C: Composition>(root: u32, json: &str) {
    proxy_wasm::set_root_context(new_root::<C>);
    host(|host| host.configuration = json.as_bytes().to_vec());
    unsafe {
        proxy_on_context_create(root, 0);
        assert!(proxy_on_configure(root, json.len()));
    }
}

/// One pass of the headers that the host has; returns `traceparent` as it leaves.
fn pass(root: u32) -> String {
    const STREAM: u32 = 1000;
    host(|host| host.calls.clear());
    unsafe {
        proxy_on_context_create(STREAM, root);
        proxy_on_request_headers(STREAM, 1, true);
        proxy_on_delete(STREAM);
    }
    host(|host| String::from_utf8(host.header("traceparent").unwrap_or_default().to_vec()).unwrap())
}

fn arrive(traceparent: &str) {
    host(|host| {
        host.forget_requests();
        host.request_headers = vec![("traceparent".into(), traceparent.into())];
    });
}

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const RESTART: &str = r#"{"incoming": "restart", "inject": ["tracecontext"]}"#;

#[test]
fn the_second_pass_of_a_request_continues_what_the_first_one_started() {
    configure(1, RESTART);
    arrive(CALLER);
    let first = pass(1);
    assert!(
        !first.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "{first}"
    );
    assert_eq!(pass(1), first);

    arrive(CALLER);
    assert_ne!(pass(1), first, "another request is not believed");
}

#[test]
fn what_one_filter_started_is_nothing_to_another_one() {
    for root in [1, 2] {
        configure(root, RESTART);
    }
    arrive(CALLER);
    let first = pass(1);
    assert_ne!(pass(2), first);
}

#[test]
fn a_caller_who_is_believed_costs_no_call_for_it() {
    configure(1, "{}");
    arrive(CALLER);
    assert_eq!(pass(1), CALLER);
    host(|host| {
        let of_properties = ["proxy_get_property", "proxy_set_property"];
        assert!(!host.calls.iter().any(|call| of_properties.contains(call)));
    });
}

#[test]
fn where_the_host_declares_no_properties_each_pass_stands_alone() {
    host(|host| {
        host.statuses.insert("proxy_call_foreign_function", 1);
    });
    configure(1, RESTART);
    arrive(CALLER);
    let first = pass(1);
    assert_ne!(pass(1), first);
    host(|host| assert!(!host.calls.contains(&"proxy_get_property")));
}

/// Runs one request to its end, which has a response or these details. Returns `traceparent` as it
/// leaves.
fn whole_pass(details: Option<&[u8]>) -> String {
    const STREAM: u32 = 1000;
    host(|host| {
        host.calls.clear();
        let key = b"response\0code_details";
        host.properties.remove(&key[..]);
        if let Some(details) = details {
            host.properties.insert(key.to_vec(), details.into());
        }
    });
    unsafe {
        proxy_on_context_create(STREAM, 1);
        proxy_on_request_headers(STREAM, 1, true);
        if details.is_none() {
            proxy_on_response_headers(STREAM, 0, true);
        }
        proxy_on_log(STREAM);
        proxy_on_delete(STREAM);
    }
    host(|host| String::from_utf8(host.header("traceparent").unwrap_or_default().to_vec()).unwrap())
}

/// Both decide by a rate whose only token the first pass takes.
#[test]
fn a_request_that_mesh_tracing_sees_redirected_is_decided_once_and_no_other_costs_a_call() {
    let report = r#""report": {"cluster": "c", "keep": {"errors": false}}"#;
    let sampling = r#""sampling": {"parent": "ignore", "default": {"per_second": 0.01}}"#;
    configure_as::<MeshTracing>(1, &format!("{{{report}, {sampling}}}"));
    let is_about_a_property =
        |call: &&'static str| ["proxy_get_property", "proxy_set_property"].contains(call);
    let properties = || {
        host(|host| {
            host.calls
                .iter()
                .copied()
                .filter(is_about_a_property)
                .count()
        })
    };
    arrive("");
    let first = whole_pass(Some(b"internal_redirect"));
    assert!(first.ends_with("-01"), "{first}");
    let line = ("x-envoy-original-url".into(), "http://a/b".into());
    host(|host| host.request_headers.push(line));
    let second = whole_pass(None);
    let trace = |pass: &str| pass.split('-').nth(1).map(str::to_owned);
    assert_eq!(trace(&second), trace(&first));
    assert!(second.ends_with("-01"), "{second}");

    // Who sends the header is not believed for it, and who does not costs nothing.
    arrive("");
    let line = ("x-envoy-original-url".into(), "http://a/b".into());
    host(|host| host.request_headers.push(line));
    assert!(whole_pass(None).ends_with("-00"));
    for _ in 0..32 {
        arrive(CALLER);
        whole_pass(None);
    }
    assert_eq!(properties(), 0);
}
