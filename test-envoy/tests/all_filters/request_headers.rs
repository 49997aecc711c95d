//! `request_headers: "filter_state"`: what leaves, and what does not.

use envoy_test_harness::config::{Cluster, Listener, Route, Tracing};
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::get;
use meshtrace_test_support::promises;
use meshtrace_test_support::rerouting::{
    B3, FILTERS, Filter, Rig, Seen, TRACE_CONTEXT, TRACEPARENT, Way, by_role, chain, edited,
};
use serde_json::json;

/// Names and values as the upstream saw them, but for what differs from request to request.
fn headers(seen: &Seen) -> Vec<(String, Vec<u8>)> {
    let headers = seen.request().headers.iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (String::from_utf8_lossy(name).to_lowercase(), value.to_vec()))
        .filter(|(name, _)| name != "x-request-id" && name != "host" && name != ":authority")
        .collect();
    headers.sort();
    headers
}

#[test]
fn by_filter_state_leaves_what_leaves_by_edits() {
    let split = get(&[
        ("traceparent", TRACEPARENT),
        ("tracestate", "a=1"),
        ("b3", "0"),
        ("baggage", "k=v"),
        ("x-user-id", "a,b 100%"),
    ]);
    let malformed = get(&[("traceparent", "00-0-0-00"), ("b3", "zz")]);
    let requests = [edited(), split, malformed, get(&[])];
    // A filter that is the tracer makes ids of its own, which differ.
    let is_tracer = |filter: &Filter| filter.config.contains("report");
    let filters = || FILTERS.iter().filter(|filter| !is_tracer(filter));
    let ways = [Way::EditPinned, Way::StateBehind];
    each_supported(|envoy| {
        for cluster in [Cluster::http1 as fn(&str, _) -> _, Cluster::http2] {
            let listeners = filters().flat_map(|filter| {
                ways.map(|way| {
                    let manager = chain(*filter, way, &[], &by_role());
                    Listener::http(&filter.listener(way), manager)
                })
            });
            let rig = Rig::with(envoy, listeners, cluster);
            for (filter, request) in filters().flat_map(|f| requests.iter().map(move |r| (f, r))) {
                let [edits, state] =
                    ways.map(|way| headers(&rig.send(&filter.listener(way), request)));
                let version = envoy.reported_version();
                assert_eq!(edits, state, "{filter} {request:?} on {version}");
            }
        }
    });
}

/// A managed header that passes as it is unless the host is another one.
const PASSING: Filter = Filter {
    name: "trace_context",
    config: r#"{"overrides": [{"host": "third-party.example", "clear": ["x-any"]}]}"#,
};

#[test]
fn a_value_leaves_to_the_byte_and_several_lines_in_one() {
    let long = [b'a'; 55 * 1024];
    let half = [b'a'; 20 * 1024];
    let halves = [&half[..], b",", &half].concat();
    each_supported(|envoy| {
        let rig = Rig::start(envoy, &[PASSING], &[], &by_role());
        for (lines, expected) in [
            (&[&b"a,b;c=\"d\", e"[..]][..], Some(&b"a,b;c=\"d\", e"[..])),
            (
                &[b"100% %REQ(x-user-id)% %%"],
                Some(b"100% %REQ(x-user-id)% %%"),
            ),
            (&[b"\xff\xfe caf\xe9"], Some(b"\xff\xfe caf\xe9")),
            (&[&long], Some(&long)),
            (&[b"1", b"2", b"3"], Some(b"1,2,3")),
            (&[&half, &half], Some(&halves)),
            // An empty header does not leave: Envoy adds no empty values.
            (&[b""], None),
            (&[], None),
        ] {
            let request = lines.iter().fold(get(&[("b3", B3)]), |request, line| {
                request.header("x-any", line)
            });
            let seen = rig.send(&PASSING.listener(Way::StateBehind), &request);
            let values = seen.request().header_values("x-any");
            let version = envoy.reported_version();
            let shown = lines.first().map(|line| line.len());
            assert!(
                values.iter().copied().eq(expected),
                "{shown:?} on {version}"
            );
        }
        assert_eq!(rig.counter("trace_context.edits_dropped"), 0);
    });
}

/// A request that the filter does not see leaves without the managed headers.
#[test]
fn without_the_filter_the_route_configuration_removes_the_headers() {
    each_supported(|envoy| {
        let route = Route::prefix("/")
            .cluster("public")
            .disable_filter(TRACE_CONTEXT.name);
        let rig = Rig::start(envoy, &[TRACE_CONTEXT], &[], &[route]);
        let traced = get(&[
            ("traceparent", TRACEPARENT),
            ("b3", B3),
            ("x-user-id", "alice"),
        ]);
        let seen = rig.send(&TRACE_CONTEXT.listener(Way::StateBehind), &traced);
        let names: Vec<_> = headers(&seen).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"x-user-id".to_owned()), "{names:?}");
        for name in ["traceparent", "b3"] {
            assert!(!names.contains(&name.to_owned()), "{names:?}");
        }
    });
}

/// Lines that are longer than the filter's memory are left out, and counted.
#[test]
fn lines_without_room_for_one_line_are_counted() {
    each_supported(|envoy| {
        // Envoy's default is less than the filter's memory.
        let manager = chain(PASSING, Way::StateBehind, &[], &by_role())
            .merge(json!({"max_request_headers_kb": 96}));
        let rig = Rig::with(envoy, [Listener::http("large", manager)], Cluster::http1);
        let line = [b'a'; 34 * 1024];
        let request = get(&[("b3", B3)])
            .header("x-any", line)
            .header("x-any", line);
        let seen = rig.send("large", &request);
        assert_eq!(seen.response.status, 200);
        assert!(seen.request().header("x-any").is_none());
        assert!(seen.request().header("traceparent").is_some());
        assert_eq!(rig.counter("trace_context.edits_dropped"), 1);
    });
}

/// The route configuration comes behind its routes, unless it is told otherwise.
#[test]
fn what_a_route_removes_leaves_unless_the_most_specific_wins() {
    let route = Route::prefix("/").cluster("public");
    let route = route.remove_request_header("traceparent");
    each_supported(|envoy| {
        let manager = || {
            chain(
                TRACE_CONTEXT,
                Way::StateBehind,
                &[],
                std::slice::from_ref(&route),
            )
        };
        let specific = json!({"route_config": {"most_specific_header_mutations_wins": true}});
        let listeners = [
            Listener::http("default", manager()),
            Listener::http("specific", manager().merge(specific)),
        ];
        let rig = Rig::with(envoy, listeners, Cluster::http1);
        for (listener, leaves) in [("default", true), ("specific", false)] {
            let seen = rig.send(listener, &get(&[("b3", B3)]));
            let traceparent = seen.request().header("traceparent");
            assert_eq!(traceparent.is_some(), leaves, "{listener}");
            assert!(
                seen.request().header("x-b3-traceid").is_some(),
                "{listener}"
            );
        }
    });
}

/// Each pass of a redirected request, each attempt and each copy leave with the headers.
#[test]
fn redirected_repeated_and_copied_requests_leave_with_the_headers() {
    each_supported(|envoy| {
        let redirect = json!({"redirect_response_codes": [302]});
        let mirror = json!([{"cluster": "admin", "runtime_fraction": {"default_value": {"numerator": 100}}}]);
        let route = Route::prefix("/")
            .cluster("public")
            .retry("5xx", 1)
            .merge(json!({"route": {
                "internal_redirect_policy": redirect, "request_mirror_policies": mirror,
            }}));
        let rig = Rig::start(envoy, &[TRACE_CONTEXT], &[], &[route]);
        let answered = std::sync::atomic::AtomicUsize::new(0);
        rig.public.respond_with(move |request| {
            match answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::status(503),
                1 => {
                    let host = request.header_text("host").unwrap_or_default();
                    Reply::status(302).header("location", format!("http://{host}/again"))
                }
                _ => Reply::ok(),
            }
        });
        let address = rig.envoy.address(&TRACE_CONTEXT.listener(Way::StateBehind));
        let response = get(&[("b3", B3)]).send(address.expect("the listener's"));
        assert_eq!(response.expect("a response").status, 200);
        let requests = rig.public.take();
        assert_eq!(
            requests.len(),
            3,
            "an attempt, another, and the redirected one"
        );
        let copies = rig.admin.wait_for_requests(1).expect("a copy");
        for request in requests.iter().chain(&copies) {
            let values = request.header_values("traceparent");
            assert_eq!(
                values,
                [TRACEPARENT.as_bytes()],
                "{}",
                envoy.reported_version()
            );
            let trace_id = request.header_text("x-b3-traceid");
            assert_eq!(trace_id.as_deref(), Some(&B3[..32]));
        }
    });
}

/// Envoy's tracer writes behind the route configuration, in either way.
#[test]
fn the_proxys_own_tracer_has_the_last_word() {
    each_supported(|envoy| {
        let tracing = Tracing::opentelemetry_http("otlp", "proxy");
        let ways = [Way::EditPinned, Way::StateBehind];
        let listeners = ways.map(|way| {
            let manager = chain(TRACE_CONTEXT, way, &[], &by_role()).tracing(tracing.clone());
            Listener::http(&TRACE_CONTEXT.listener(way), manager)
        });
        let rig = Rig::with(envoy, listeners, Cluster::http1);
        for way in ways {
            let seen = rig.send(&TRACE_CONTEXT.listener(way), &get(&[("b3", B3)]));
            let values = seen.request().header_values("traceparent");
            let [value] = values.as_slice() else {
                panic!("{way:?}: one traceparent, not {values:?}");
            };
            assert_eq!(value.len(), TRACEPARENT.len());
            // The tracer reads W3C alone: it has begun a trace.
            assert_ne!(value[..35], TRACEPARENT.as_bytes()[..35], "{way:?}");
            // What it does not write is the filter's.
            let trace_id = seen.request().header_text("x-b3-traceid");
            assert_eq!(trace_id.as_deref(), Some(&B3[..32]), "{way:?}");
        }
    });
}

/// The route configuration removes whole names; an early mutation takes the rest of the prefix.
#[test]
fn a_clients_headers_with_the_prefix_of_attributes_go_early() {
    const ATTRIBUTES: Filter = Filter {
        name: "span_attributes",
        config: r#"{"emit": {"request_header_prefix": "x-span-attr-"}}"#,
    };
    let early = json!({
        "name": "meshtrace-attributes",
        "typed_config": {
            "@type": concat!(
                "type.googleapis.com/envoy.extensions.http.early_header_mutation.",
                "header_mutation.v3.HeaderMutation"
            ),
            "mutations": [{"remove_on_match": {"key_matcher": {"prefix": "x-span-attr-"}}}],
        },
    });
    let forged = get(&[
        ("x-tenant-id", "acme"),
        ("x-span-attr-user-id", "mallory"),
        ("x-span-attr-admin", "1"),
    ]);
    each_supported(|envoy| {
        let manager = || chain(ATTRIBUTES, Way::StateBehind, &[], &by_role());
        let listeners = [
            Listener::http("plain", manager()),
            Listener::http("early", manager().early_header_mutation(early.clone())),
        ];
        let rig = Rig::with(envoy, listeners, Cluster::http1);
        for (listener, unknown) in [("plain", Some("1")), ("early", None)] {
            let seen = rig.send(listener, &forged);
            let header = |name: &str| seen.request().header_text(name);
            assert_eq!(
                header("x-span-attr-admin").as_deref(),
                unknown,
                "{listener}"
            );
            assert_eq!(header("x-span-attr-user-id"), None, "{listener}");
            assert_eq!(header("x-span-attr-tenant-id").as_deref(), Some("acme"));
        }
    });
    promises::held(
        "Headers and connections",
        "With `request_headers: \"filter_state\"` a request leaves with the headers that edits would give it",
        "every filter over HTTP/1.1 and HTTP/2; commas, `%`, bytes that are no UTF-8, 55 KiB, several lines; beside \
         Envoy's own tracer",
        "4 versions, the same to the byte; not so: empty values and lines that have more than the filter's memory together are left out",
    );
}
