//! The root context's own calls, driven as a host drives them: through the module's exports.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod mock;

use meshtrace_host::new_root;
use meshtrace_pipeline::MeshTracing;
use mock::host;

const ROOT: u32 = 1;
const STREAM: u32 = 1000;
const CONTINUE: u32 = 0;
const CONFIG: &str = r#"{"report": {"cluster": "collector", "timeout_ms": 1234}}"#;
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const SECOND: u64 = 1_000_000_000;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_log(context: u32);
    fn proxy_on_tick(context: u32);
    fn proxy_on_done(context: u32) -> bool;
    fn proxy_on_delete(context: u32);
    /// What the release step exports as `proxy_on_http_call_response`.
    fn meshtrace_on_http_call_response(
        context: u32,
        token: u32,
        headers: usize,
        body_size: usize,
        trailers: usize,
    );
}

fn configure(root: u32, json: &str) -> bool {
    host(|host| {
        host.configuration = json.into();
        host.now = SECOND;
        host.monotonic = SECOND;
        let name = format!("plugin-{root}");
        host.properties.insert(b"plugin_name".into(), name.into());
        let code = 200_u64.to_le_bytes().into();
        host.properties.insert(b"response\0code".into(), code);
        let flags = 0_u64.to_le_bytes().into();
        host.properties.insert(b"response\0flags".into(), flags);
    });
    proxy_wasm::set_root_context(new_root::<MeshTracing>);
    unsafe {
        proxy_on_context_create(root, 0);
        assert!(proxy_on_vm_start(root, 0));
        proxy_on_configure(root, json.len())
    }
}

/// Runs one request from its headers over its response to its log.
fn request(root: u32, traceparent: &str) -> u32 {
    host(|host| {
        let line = |name: &str, value: &str| (name.into(), value.into());
        host.request_headers = vec![
            line(":method", "GET"),
            line(":path", "/"),
            line("traceparent", traceparent),
        ];
        host.calls.clear();
    });
    unsafe {
        proxy_on_context_create(STREAM, root);
        let action = proxy_on_request_headers(STREAM, 3, true);
        proxy_on_response_headers(STREAM, 0, true);
        proxy_on_log(STREAM);
        assert!(proxy_on_done(STREAM));
        proxy_on_delete(STREAM);
        action
    }
}

/// Passes the requests that a worker looks at more closely, with a call more each.
fn pass_the_first(root: u32) {
    for _ in 0..16 {
        request(root, NOT_SAMPLED);
    }
    tick(root);
}

fn tick(root: u32) {
    host(|host| {
        host.now += SECOND / 10;
        host.monotonic += SECOND / 10;
    });
    unsafe { proxy_on_tick(root) };
}

fn answer(root: u32, token: u32, status: &str) {
    let body = host(|host| {
        host.answer.0 = vec![(b":status".into(), status.into())];
        host.answer.1.len()
    });
    unsafe { meshtrace_on_http_call_response(root, token, 1, body, 0) };
}

fn counter(name: &str) -> i64 {
    host(|host| host.metric(&format!("meshtrace.report.{name}"))).unwrap()
}

#[test]
fn a_span_is_sent_with_the_next_tick_and_the_ticks_end_with_its_answer() {
    assert!(configure(ROOT, CONFIG));
    assert_eq!(host(|host| host.tick), 0, "nothing waits");
    request(ROOT, SAMPLED);
    host(|host| {
        assert_eq!(host.tick, 100);
        assert!(
            host.http_calls.is_empty(),
            "a request's context makes no call"
        );
        // Ids of the hop's own.
        let left = String::from_utf8_lossy(host.header("traceparent").unwrap()).into_owned();
        assert!(left.starts_with(TRACE) && left != SAMPLED, "{left}");
    });
    tick(ROOT);
    host(|host| {
        let [call] = host.http_calls.as_slice() else {
            panic!("{:?}", host.http_calls);
        };
        assert_eq!(
            (call.cluster.as_str(), call.timeout_ms),
            ("collector", 1234)
        );
        assert!(!call.body.is_empty());
    });
    assert_eq!(counter("calls"), 1);
    answer(ROOT, 0, "200");
    assert_eq!((counter("exported"), host(|host| host.tick)), (1, 0));
}

/// Calls that return bytes cost the most: a request that is not sampled makes one.
#[test]
fn what_a_request_costs_in_calls_of_the_host() {
    assert!(configure(ROOT, CONFIG));
    pass_the_first(ROOT);
    let fetch_and_inject = [
        "proxy_get_header_map_pairs",
        "clock_time_get",
        "proxy_replace_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_increment_metric",
    ];
    // The counter of requests that are not sampled moves with the next tick: only the first of them
    // asks for a tick.
    let at_end = ["proxy_call_foreign_function"];
    for asks_for_a_tick in [true, false, false] {
        request(ROOT, NOT_SAMPLED);
        let mut expected = [&fetch_and_inject[..], &at_end].concat();
        if asks_for_a_tick {
            expected.push("proxy_set_tick_period_milliseconds");
        }
        host(|host| assert_eq!(host.calls, expected));
    }
    assert_eq!(counter("not_sampled"), 16);
    tick(ROOT);
    assert_eq!(counter("not_sampled"), 19);
    assert_eq!(host(|host| host.tick), 0, "nothing waits");

    let list = host(|host| host.compiled[0].clone());
    let values: Vec<_> = (0..8).map(|_| (200_u64.to_le_bytes(), "")).collect();
    host(|host| {
        host.expressions
            .insert(list, meshtrace_headers::encode(&values))
    });
    request(ROOT, SAMPLED);
    let [fetch, clock, inject @ ..] = &fetch_and_inject;
    let begin = [*fetch, *clock, "proxy_get_current_time_nanoseconds"];
    let at_end = [
        "clock_time_get",
        "proxy_call_foreign_function",
        "proxy_set_tick_period_milliseconds",
    ];
    let expected = [&begin[..], inject, &at_end].concat();
    host(|host| assert_eq!(host.calls, expected));
}

/// A rule that drops costs no call that returns bytes but the headers', and one that names a route
/// one more.
#[test]
fn what_a_rule_costs_in_calls_of_the_host() {
    let counted = |name: &str| {
        let name = format!("meshtrace.route_sampling.{name}");
        host(|host| host.metric(&name)).unwrap()
    };
    let bytes = ["proxy_get_header_map_pairs", "proxy_get_property"];
    let count = || host(|host| host.calls.iter().filter(|c| bytes.contains(c)).count());
    let rules = |rules: &str| {
        format!(
            r#"{{"sampling": {{"parent": "ignore", "rules": [{rules}], "default": {{"ratio": 0.000001}}}},
                "report": {{"cluster": "collector"}}}}"#
        )
    };
    let never = rules(r#"{"match": {"path": {"exact": "/"}}, "sample": "never"}"#);
    assert!(configure(1, &never));
    pass_the_first(1);
    assert_eq!(request(1, SAMPLED), CONTINUE);
    let asks_whether_it_failed =
        || host(|host| host.calls.contains(&"proxy_call_foreign_function"));
    assert_eq!(count(), 1, "{:?}", host(|host| host.calls.clone()));
    assert!(!asks_whether_it_failed());
    assert_eq!(
        (counted("rule.0.dropped"), counted("parent.changed")),
        (17, 1)
    );
    assert_eq!(
        host(|host| host.header("traceparent").map(<[u8]>::len)),
        Some(55)
    );
    assert_eq!(
        host(|host| host.header("traceparent").map(|v| v.ends_with(b"-00"))),
        Some(true)
    );

    // Whether it failed is asked of one that `keep` may have to report.
    assert!(configure(2, &rules("")));
    pass_the_first(2);
    request(2, SAMPLED);
    assert_eq!(count(), 1);
    assert!(asks_whether_it_failed());

    let of_route = rules(r#"{"match": {"route": "checkout"}, "sample": "never"}"#);
    assert!(configure(3, &of_route));
    pass_the_first(3);
    let route = b"xds\0route_name";
    host(|host| host.properties.insert(route.into(), b"checkout".into()));
    request(3, SAMPLED);
    assert_eq!(count(), 2);
    assert_eq!(counted("rule.0.dropped"), 18);
}

/// `per_second` is one compare-and-swap, and none where the bucket is known to be empty.
#[test]
fn a_rate_is_shared_by_the_workers_and_asked_for_once_a_token() {
    let json = r#"{"sampling": {"parent": "ignore", "default": {"per_second": 2}},
                   "report": {"cluster": "collector"}}"#;
    assert!(configure(ROOT, json));
    let asked = || host(|host| host.calls.contains(&"proxy_get_shared_data"));
    for (flag, asks) in [("01", true), ("01", true), ("00", true), ("00", false)] {
        request(ROOT, SAMPLED);
        let left = host(|host| host.header("traceparent").map(<[u8]>::to_vec)).unwrap();
        assert!(left.ends_with(flag.as_bytes()), "{}", left.escape_ascii());
        assert_eq!(asked(), asks);
    }
}

#[test]
fn where_no_expression_is_compiled_the_properties_are_asked() {
    host(|host| host.statuses = [("proxy_call_foreign_function", 1)].into());
    assert!(configure(ROOT, CONFIG));
    request(ROOT, NOT_SAMPLED);
    let is_property = |call: &&&str| **call == "proxy_get_property";
    let asked = host(|host| host.calls.iter().filter(is_property).count());
    assert_eq!(asked, 2);
}

#[test]
fn any_status_of_any_call_lets_the_request_pass() {
    let functions = [
        "proxy_log",
        "proxy_get_header_map_pairs",
        "proxy_get_property",
        "proxy_get_buffer_bytes",
        "proxy_increment_metric",
        "proxy_get_current_time_nanoseconds",
        "clock_time_get",
        "proxy_set_tick_period_milliseconds",
        "proxy_done",
        "proxy_http_call",
        "proxy_call_foreign_function",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
    ];
    let sampling = r#"{"report": {"cluster": "collector"}, "sampling": {"parent": "ignore",
        "rules": [{"match": {"route": "checkout", "cluster": "ledger"}, "sample": "always"}],
        "default": {"per_second": 5}}}"#;
    let mut root = 0;
    let cases = functions.iter().flat_map(|f| [(f, CONFIG), (f, sampling)]);
    for (function, config) in cases {
        for status in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99, u32::MAX] {
            root += 1;
            host(|host| {
                host.statuses.clear();
                host.shared_data.clear();
            });
            assert!(configure(root, config));
            host(|host| host.statuses = [(*function, status)].into());
            for traceparent in [SAMPLED, NOT_SAMPLED] {
                assert_eq!(request(root, traceparent), CONTINUE, "{function}: {status}");
            }
            tick(root);
            for token in 0..3 {
                answer(root, token, "503");
            }
            tick(root);
            unsafe {
                proxy_on_done(root);
                proxy_on_delete(root);
            }
        }
    }
}

#[test]
fn answers_that_nobody_asked_for_are_ignored() {
    assert!(configure(ROOT, CONFIG));
    for (root, token) in [(ROOT, 7), (99, 0), (0, 0)] {
        answer(root, token, "200");
    }
    assert_eq!(counter("exported"), 0);
}

#[test]
fn the_root_context_ends_when_the_last_call_is_answered() {
    assert!(configure(ROOT, CONFIG));
    assert!(unsafe { proxy_on_done(ROOT) }, "nothing waits");

    assert!(configure(2, CONFIG));
    request(2, SAMPLED);
    assert!(!unsafe { proxy_on_done(2) });
    host(|host| {
        assert_eq!(host.http_calls.len(), 1, "all is sent at once");
        assert_eq!(host.done, 0);
    });
    answer(2, 0, "200");
    assert_eq!(host(|host| host.done), 1);
    unsafe { proxy_on_delete(2) };
    answer(2, 0, "200");
    assert_eq!(host(|host| host.done), 1, "what is gone waits for nothing");
}

/// As where a root context with a bad configuration learns of the good one that came after it.
#[test]
fn what_was_sent_before_an_update_is_counted_after_it() {
    assert!(configure(1, CONFIG));
    request(1, SAMPLED);
    tick(1);
    request(1, SAMPLED);
    assert_eq!(host(|host| host.tick), 100);
    let other = r#"{"report": {"cluster": "other"}}"#;
    host(|host| host.configuration = other.into());
    assert!(unsafe { proxy_on_configure(1, other.len()) });
    host(|host| {
        let clusters: Vec<_> = host.http_calls.iter().map(|call| &*call.cluster).collect();
        assert_eq!(clusters, ["collector", "collector"]);
        assert_eq!(host.tick, 0, "nothing waits");
    });
    request(1, SAMPLED);
    assert_eq!(host(|host| host.tick), 100);
    answer(1, 0, "200");
    assert_eq!((counter("exported"), host(|host| host.tick)), (1, 100));
    // It waits for what it ran before too.
    assert!(!unsafe { proxy_on_done(1) });
    host(|host| assert_eq!(host.http_calls[2].cluster, "other"));
    answer(1, 2, "200");
    assert_eq!((counter("exported"), host(|host| host.done)), (2, 0));
    answer(1, 1, "200");
    assert_eq!((counter("exported"), host(|host| host.done)), (3, 1));
    assert_eq!(host(|host| host.metric("meshtrace.host_errors")), Some(0));
}

#[test]
fn plugins_of_one_vm_have_collectors_of_their_own() {
    for root in [1, 2] {
        let json = format!(r#"{{"report": {{"cluster": "collector-{root}"}}}}"#);
        assert!(configure(root, &json));
    }
    request(2, SAMPLED);
    tick(1);
    assert!(host(|host| host.http_calls.is_empty()));
    tick(2);
    answer(1, 0, "200");
    assert_eq!(counter("exported"), 0, "the other one's answer");
    answer(2, 0, "200");
    assert_eq!(counter("exported"), 1);
    host(|host| assert_eq!(host.http_calls[0].cluster, "collector-2"));
}

#[test]
fn an_unknown_cluster_is_one_line() {
    assert!(configure(ROOT, CONFIG));
    host(|host| host.statuses = [("proxy_http_call", 2)].into());
    for _ in 0..3 {
        request(ROOT, SAMPLED);
        tick(ROOT);
    }
    assert_eq!(counter("dropped.unknown_cluster"), 3);
    let complains = |line: &&String| line.contains("knows no cluster \"collector\"");
    assert_eq!(host(|host| host.log.iter().filter(complains).count()), 1);
}

#[test]
fn expressions_are_given_back() {
    assert!(configure(ROOT, CONFIG));
    unsafe {
        assert!(proxy_on_done(ROOT));
        proxy_on_delete(ROOT);
    }
    host(|host| {
        assert_eq!(host.compiled.len(), 3);
        assert!(host.compiled.iter().all(String::is_empty));
    });
}
