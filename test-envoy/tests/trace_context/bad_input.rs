//! Whatever bytes a client puts into a trace header, the request passes with its status unchanged.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{FailurePolicy, HttpConnectionManager, WasmFilter};
use meshtrace_test_support::common::{
    self, Mesh, TRACE_HEADERS, fixture, get, manager, trace_context, trace_headers,
};
use serde_json::json;

/// Room for what the tests send; Envoy's own limits are 60 KiB and 100 headers.
fn roomy(manager: HttpConnectionManager) -> HttpConnectionManager {
    manager.merge(json!({
        "max_request_headers_kb": 1024,
        "common_http_protocol_options": {"max_headers_count": 5000},
    }))
}

fn mesh() -> Mesh {
    Mesh::start(vec![
        ("default", roomy(manager(trace_context("")))),
        (
            "ignore",
            roomy(manager(trace_context(r#"{"incoming": "ignore"}"#))),
        ),
        (
            "generate",
            roomy(manager(trace_context(r#"{"on_missing": "generate"}"#))),
        ),
    ])
}

#[test]
fn any_bytes_in_any_trace_header_pass_and_are_not_forwarded() {
    let mesh = mesh();
    let sixty_kib = vec![b'a'; 60 * 1024];
    let values: [&[u8]; 7] = [
        b"\xff\xfe\xfd",
        b"\xc3\x28",
        b"00-\xf0\x9f\x92\xa9-\x80-01",
        b"",
        b"-",
        b"%00%01%7f",
        &sixty_kib,
    ];
    for listener in ["default", "ignore", "generate"] {
        let mut connection = mesh.connect(listener);
        for header in TRACE_HEADERS {
            for value in values {
                let request = Request::get("/").header(header, value);
                let left = trace_headers(&mesh.pass(&mut connection, &request));
                let sent = format!("{header}: {}", value.escape_ascii());
                assert!(!left.contains(&sent), "{listener}: {left:?}");
                if listener != "generate" {
                    assert_eq!(left, Vec::<String>::new(), "{listener}: {sent}");
                }
            }
        }
    }
    assert_eq!(
        mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
        Some(0)
    );
}

#[test]
fn a_thousand_lines_of_any_trace_header_pass() {
    let mesh = mesh();
    let mut connection = mesh.connect("default");
    for header in TRACE_HEADERS {
        let request = (0..1000).fold(Request::get("/"), |request, i| {
            request.header(header, format!("x{i}"))
        });
        let left = trace_headers(&mesh.pass(&mut connection, &request));
        assert_eq!(left, Vec::<String>::new(), "{header}");
    }
}

#[test]
fn repeated_lines_of_b3_leave_as_the_first_one() {
    let mesh = mesh();
    let mut connection = mesh.connect("default");
    let (first, second) = (common::TRACE, "80f198ee56343ba864fe8b2a57d3eff7");
    let request = get(&[
        ("x-b3-traceid", first),
        ("x-b3-traceid", second),
        ("x-b3-spanid", common::SPAN),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "1"),
        ("x-b3-sampled", "0"),
    ]);
    let left = trace_headers(&mesh.pass(&mut connection, &request));
    let expected = [
        format!("traceparent: 00-{first}-{}-01", common::SPAN),
        "x-b3-sampled: 1".to_owned(),
        format!("x-b3-spanid: {}", common::SPAN),
        format!("x-b3-traceid: {first}"),
    ];
    assert_eq!(left, expected);
}

#[test]
fn two_traceparents_restart_nothing_and_neither_is_forwarded() {
    let mesh = mesh();
    let mut connection = mesh.connect("default");
    let one = format!("00-{}-{}-01", common::TRACE, common::SPAN);
    let other = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
    let request = get(&[
        ("traceparent", &one),
        ("tracestate", "a=1"),
        ("traceparent", other),
    ]);
    let left = trace_headers(&mesh.pass(&mut connection, &request));
    assert_eq!(left, Vec::<String>::new());
}

/// Why the filter reads bytes: the sample in circulation ends its VM on the first such request.
#[test]
fn the_copied_sample_ends_its_vm_on_one_byte_and_this_filter_does_not() {
    let sample = WasmFilter::new("copied_sample", fixture("copied_sample"))
        .failure_policy(FailurePolicy::FailClosed);
    let ours = trace_context("").failure_policy(FailurePolicy::FailClosed);
    let mesh = Mesh::start(vec![("sample", manager(sample)), ("ours", manager(ours))]);
    let status = |listener: &str, user: &[u8]| {
        let request = Request::get("/")
            .header("x-user-id", user)
            .header("traceparent", user);
        request
            .send(mesh.address(listener))
            .expect("a response")
            .status
    };

    assert_eq!(status("sample", b"alice"), 200);
    assert_eq!(status("sample", b"\xff"), 503);
    assert_eq!(status("sample", b"alice"), 503, "for good, for everybody");

    assert_eq!(status("ours", b"alice"), 200);
    assert_eq!(status("ours", b"\xff"), 200);
    assert_eq!(status("ours", b"alice"), 200);
}
