//! Warnings about what requests show: which requests are looked at, and what it costs.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod mock;

use meshtrace_pipeline::{
    AccessLogTrace, Composition, MeshTracing, RouteSampling, SpanAttributes, TraceContext,
};
use mock::drive::{configure_as, reconfigure};
use mock::{LOOK, host};

const STREAM: u32 = 1000;
const HOUR: u64 = 3_600_000_000_000;
const CAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// The span id is another one.
const WRITTEN_AGAIN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-00";
const SAMPLED_BY_ENVOY: &str = "7f9e8d2c-0a1b-ac2d-8e3f-001122334455";

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_log(context: u32);
    fn proxy_on_delete(context: u32);
}

/// Runs one request, in which a tracer behind the filter writes `after`. Returns the calls.
fn request(headers: &[(&str, &str)], after: Option<(&str, &str)>) -> Vec<&'static str> {
    request_of(1, headers, after)
}

fn request_of(
    root: u32,
    headers: &[(&str, &str)],
    after: Option<(&str, &str)>,
) -> Vec<&'static str> {
    let line = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    host(|host| {
        host.forget_requests();
        host.request_headers = headers.iter().map(line).collect();
        host.calls.clear();
    });
    unsafe {
        proxy_on_context_create(STREAM, root);
        assert_eq!(proxy_on_request_headers(STREAM, headers.len(), true), 0);
    }
    host(|host| {
        if let Some((name, value)) = after {
            let is_other = |(other, _): &(Vec<u8>, _)| other != name.as_bytes();
            host.request_headers.retain(is_other);
            host.request_headers.push(line(&(name, value)));
        }
    });
    unsafe {
        proxy_on_log(STREAM);
        proxy_on_delete(STREAM);
    }
    host(|host| host.calls.clone())
}

fn warnings() -> Vec<String> {
    host(|host| {
        let of_requests = host.log.iter().filter(|line| line.contains("(MT0"));
        of_requests.cloned().collect()
    })
}

/// Which of 2,050 requests make the call `look` once more than others.
fn looked_at<C: Composition>(json: &str, headers: &[(&str, &str)], look: &str) -> Vec<usize> {
    assert!(configure_as::<C>(1, json));
    let calls: Vec<_> = (0..2050).map(|_| request(headers, None)).collect();
    // The last one is not looked at.
    let usual = calls.last().unwrap();
    let times = |calls: &[&str]| calls.iter().filter(|call| **call == look).count();
    let mut looked_at = Vec::new();
    for (i, calls) in calls.iter().enumerate() {
        let more = times(calls) - times(usual);
        assert!(more <= 1, "{i}: {calls:?}");
        if more == 1 {
            looked_at.push(i);
        }
    }
    // The next configuration is another plugin's.
    unsafe { proxy_on_delete(1) };
    looked_at
}

const FETCH: &str = "proxy_get_header_map_pairs";

#[test]
fn few_requests_are_looked_at_and_each_costs_a_fetch_of_its_headers_and_a_look_up() {
    let few: Vec<_> = (0..16).chain([1024, 2048]).collect();
    let came = [("traceparent", CAME)];
    for json in [
        r#"{"report": {"cluster": "collector"}}"#,
        r#"{"trace_context": {}}"#,
    ] {
        assert_eq!(looked_at::<MeshTracing>(json, &came, FETCH), few, "{json}");
        assert_eq!(looked_at::<MeshTracing>(json, &came, LOOK), few, "{json}");
    }
    // The others look at what they have already, and at the place where they stand.
    let never = r#"{"default": "never"}"#;
    let recorded = [("x-request-id", SAMPLED_BY_ENVOY)];
    let ids = r#"{"ids": {"trace_id_header": "x-active-trace-id"}}"#;
    let none = [0; 0];
    assert_eq!(looked_at::<RouteSampling>(never, &recorded, FETCH), none);
    assert_eq!(looked_at::<RouteSampling>(never, &recorded, LOOK), few);
    assert_eq!(looked_at::<AccessLogTrace>(ids, &came, FETCH), none);
    assert_eq!(looked_at::<AccessLogTrace>(ids, &came, LOOK), few);
    assert_eq!(looked_at::<SpanAttributes>("", &came, FETCH), none);
    assert_eq!(looked_at::<SpanAttributes>("", &came, LOOK), none);
    assert_eq!(looked_at::<TraceContext>("", &came, FETCH), none);
    assert_eq!(looked_at::<TraceContext>("", &came, LOOK), few);
    let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
    for headers in [&[][..], &came] {
        for call in [FETCH, LOOK] {
            assert_eq!(looked_at::<TraceContext>(upstream, headers, call), none);
            assert_eq!(looked_at::<RouteSampling>(upstream, headers, call), none);
        }
    }
}

#[test]
fn a_warning_is_said_once_and_then_once_an_hour() {
    assert!(configure_as::<MeshTracing>(1, r#"{"trace_context": {}}"#));
    let headers = [("traceparent", CAME)];
    let pass = |minutes: u64| {
        host(|host| host.monotonic += minutes * HOUR / 60);
        // Of so many one is looked at.
        for _ in 0..1024 {
            request(&headers, Some(("traceparent", WRITTEN_AGAIN)));
        }
        warnings().len()
    };
    assert_eq!([1, 10, 49, 1, 59, 1].map(pass), [1, 1, 1, 2, 2, 3]);
    let warning = warnings().remove(0);
    let text = "mesh_tracing: `traceparent` was written again after this filter";
    assert!(warning.contains(text), "{warning}");
}

#[test]
fn the_workers_say_a_warning_once() {
    let same = r#"{"trace_context": {}}"#;
    let workers = [
        (1, same),
        (2, same),
        (3, r#"{"trace_context": {"inject": ["b3"]}}"#),
    ];
    for (root, json) in workers {
        assert!(configure_as::<MeshTracing>(root, json));
        host(|host| {
            let name = b"plugin-1".to_vec();
            host.properties.insert(b"plugin_name".into(), name);
        });
        assert!(reconfigure(root, json));
    }
    let pass = |root: u32| {
        request_of(
            root,
            &[("traceparent", CAME)],
            Some(("traceparent", WRITTEN_AGAIN)),
        );
        warnings().len()
    };
    // The third one has another configuration.
    assert_eq!([1, 2, 1, 2, 3, 3].map(pass), [1, 1, 1, 1, 2, 2]);
    // A configuration that comes back is a new one.
    for root in [1, 2] {
        unsafe { proxy_on_delete(root) };
    }
    assert!(configure_as::<MeshTracing>(1, same));
    assert_eq!(pass(1), 3);
    // Where the shared data fail, each worker speaks for itself.
    host(|host| host.statuses = [("proxy_get_shared_data", 10)].into());
    assert!(configure_as::<MeshTracing>(2, same));
    assert_eq!(pass(2), 4);
}

#[test]
fn a_clock_that_fails_lets_each_warning_pass_once() {
    assert!(configure_as::<MeshTracing>(1, r#"{"trace_context": {}}"#));
    host(|host| {
        let clocks = ["clock_time_get", "proxy_get_current_time_nanoseconds"];
        host.statuses = clocks.map(|clock| (clock, 10)).into();
    });
    for _ in 0..3 {
        request(
            &[("traceparent", CAME)],
            Some(("traceparent", WRITTEN_AGAIN)),
        );
    }
    assert_eq!(warnings().len(), 1);
}
