//! `span_attributes` at the boundary to the host.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, reason = "the mock is shared")]

mod mock;

use meshtrace_host::new_root;
use meshtrace_pipeline::SpanAttributes;
use mock::host;

const ROOT: u32 = 1;
const STREAM: u32 = 1000;
const CONTINUE: u32 = 0;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_delete(context: u32);
}

fn configure(json: &str) -> bool {
    host(|host| host.configuration = json.into());
    proxy_wasm::set_root_context(new_root::<SpanAttributes>);
    unsafe {
        proxy_on_context_create(ROOT, 0);
        assert!(proxy_on_vm_start(ROOT, 0));
        proxy_on_configure(ROOT, json.len())
    }
}

fn set_headers(headers: &[(&str, &str)]) {
    host(|host| {
        host.calls.clear();
        host.request_headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
    });
}

/// Runs one request and its response, and returns the calls of each.
fn exchange(
    request: &[(&str, &str)],
    response: &[(&str, &str)],
) -> (Vec<&'static str>, Vec<&'static str>) {
    unsafe {
        proxy_on_context_create(STREAM, ROOT);
        set_headers(request);
        assert_eq!(
            proxy_on_request_headers(STREAM, request.len(), true),
            CONTINUE
        );
        let of_request = host(|host| host.calls.clone());
        let left = host(|host| host.request_headers.clone());
        set_headers(response);
        assert_eq!(
            proxy_on_response_headers(STREAM, response.len(), true),
            CONTINUE
        );
        let of_response = host(|host| {
            host.request_headers = left;
            host.calls.clone()
        });
        proxy_on_delete(STREAM);
        (of_request, of_response)
    }
}

fn property(key: &str) -> Option<String> {
    host(|host| {
        let value = host.properties.get(key.as_bytes())?.clone();
        String::from_utf8(value).ok()
    })
}

#[test]
fn the_defaults_cost_one_fetch_and_a_call_an_attribute_and_nothing_with_the_response() {
    assert!(configure(""));
    let headers = [("x-user-id", "alice"), ("x-tenant-id", "acme")];
    let (request, response) = exchange(&headers, &[]);
    assert_eq!(
        request,
        [
            "proxy_get_header_map_pairs",
            "proxy_set_property",
            "proxy_set_property",
            "proxy_increment_metric",
        ]
    );
    assert_eq!(response, [""; 0]);
    assert_eq!(property("user.id").as_deref(), Some("alice"));
    assert_eq!(property("tenant.id").as_deref(), Some("acme"));
}

#[test]
fn a_response_is_read_where_an_attribute_comes_from_it() {
    let from = r#"{"attributes": [{"key": "order.id", "from": {"response_header": "x-order"}}]}"#;
    assert!(configure(from));
    let (_, response) = exchange(&[], &[("x-order", "42")]);
    assert_eq!(
        response,
        ["proxy_get_header_map_pairs", "proxy_set_property"]
    );
    assert_eq!(property("order.id").as_deref(), Some("42"));
}

#[test]
fn a_property_of_the_response_costs_no_fetch_of_its_headers() {
    host(|host| {
        let code = 404_i64.to_le_bytes().to_vec();
        host.properties.insert(b"response\0code".into(), code);
    });
    let from = r#"{"attributes": [{"key": "code", "from": {"property": ["response", "code"]}}]}"#;
    assert!(configure(from));
    let (request, response) = exchange(&[], &[]);
    assert_eq!(
        request,
        ["proxy_get_header_map_pairs", "proxy_increment_metric"]
    );
    assert_eq!(response, ["proxy_get_property", "proxy_set_property"]);
    assert_eq!(property("code").as_deref(), Some("404"));
}

#[test]
fn the_whole_family_of_headers_is_removed_however_large() {
    assert!(configure(
        r#"{"emit": {"request_header_prefix": "x-attr-"}}"#
    ));
    let names: Vec<_> = (0..500).map(|i| format!("x-attr-{i}")).collect();
    let mut headers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "mallory"))
        .collect();
    headers.extend([
        ("x-user-id", "alice"),
        ("x-attr-user-id", "mallory"),
        ("x-other", "kept"),
    ]);
    exchange(&headers, &[]);
    host(|host| {
        let left: Vec<_> = host
            .request_headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(left, [&b"x-user-id"[..], b"x-other", b"x-attr-user-id"]);
        assert_eq!(host.header("x-attr-user-id"), Some(&b"alice"[..]));
    });
}

/// Whatever status the host answers to whatever call, the request goes on.
#[test]
fn any_status_of_any_call_lets_the_request_pass() {
    let json = r#"{
        "attributes": [
            {"key": "a", "from": {"header": "x-a"}},
            {"key": "b", "from": {"property": ["xds", "cluster_name"]}},
            {"key": "c", "from": {"property": ["response", "code"]}},
            {"key": "d", "from": {"response_header": "x-d"}}
        ],
        "emit": {"request_header_prefix": "x-attr-", "baggage": true}
    }"#;
    assert!(configure(json));
    for function in [
        "proxy_get_header_map_pairs",
        "proxy_replace_header_map_value",
        "proxy_remove_header_map_value",
        "proxy_get_property",
        "proxy_set_property",
        "proxy_increment_metric",
    ] {
        for status in (1..14).chain([99, u32::MAX]) {
            host(|host| host.statuses = [(function, status)].into());
            exchange(&[("x-a", "1"), ("x-attr-a", "2")], &[("x-d", "3")]);
        }
    }
}
