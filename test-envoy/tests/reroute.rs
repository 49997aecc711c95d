//! A header edit makes Envoy choose the route again: where that matters, and that filter state does without.

mod common;
mod promises;
mod rerouting;

use common::{get, module};
use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Cluster, HttpFilter, Listener, Route, WasmFilter};
use envoy_test_harness::upstream::Reply;
use rerouting::{Filter, Rig, Seen, Way, chain, ext_authz, open, rbac, role, with_header};
use serde_json::json;

const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
const TRACEPARENT: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";

const TRACE_CONTEXT: Filter = Filter {
    name: "trace_context",
    config: "{}",
};
/// With something to edit in the requests of [`edited`], each in its way.
const FILTERS: &[Filter] = &[
    TRACE_CONTEXT,
    Filter {
        name: "span_attributes",
        config: r#"{"emit": {"request_header_prefix": "x-span-attr-", "baggage": true}}"#,
    },
    Filter {
        name: "access_log_trace",
        config: r#"{"ids": {"trace_id_header": "x-own-trace"}}"#,
    },
    Filter {
        name: "route_sampling",
        config: r#"{"request_header": null, "force": {"header": "x-force", "value_env": "FORCE"}}"#,
    },
    Filter {
        name: "mesh_tracing",
        config: r#"{"trace_context": {"clear": ["x-secret"]}, "sampling": {"force": {"header": "x-force",
                    "value_env": "FORCE"}}, "span_attributes": {"emit": {"baggage": true}},
                    "access_log": {}, "report": {"cluster": "otlp"}}"#,
    },
    Filter {
        name: "mesh_tracing",
        config: r#"{"trace_context": {"inject": "preserve"}, "access_log": {}}"#,
    },
];

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

fn edited() -> Request {
    get(&[
        ("b3", B3),
        ("tracestate", "a=1"),
        ("x-user-id", "alice"),
        ("x-own-trace", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-force", "secret"),
        ("x-secret", "1"),
    ])
}

fn by_role() -> [Route; 2] {
    let admin = Route::prefix("/")
        .header("x-role", "admin")
        .cluster("admin");
    [
        admin.name("admin"),
        open(Route::prefix("/").cluster("public")).name("public"),
    ]
}

#[test]
fn behind_another_filter_an_edit_moves_a_request_and_filter_state_does_not() {
    for envoy in envoys() {
        let rig = Rig::start(&envoy, FILTERS, &[role()], &by_role());
        for filter in FILTERS {
            let what = |way| format!("{filter} {way:?} on {}", envoy.reported_version());
            for way in Way::ALL {
                let seen = rig.send(&filter.listener(way), &edited());
                assert_eq!(seen.response.status, 200, "{}", what(way));
                let expected = match way {
                    // As SECURITY.md says.
                    Way::EditFirst | Way::EditBehind => "admin",
                    Way::Without | Way::EditPinned | Way::StateBehind => "public",
                };
                assert_eq!(seen.upstream(), expected, "{}", what(way));
            }
            assert_eq!(
                rig.envoy
                    .stat("wasmcustom.meshtrace.host_errors")
                    .unwrap_or(0),
                0
            );
        }
    }
}

/// The route, the status, and how often the authoriser was asked.
fn fate(seen: &Seen) -> (&'static str, u16, usize) {
    (seen.upstream(), seen.response.status, seen.asked)
}

#[test]
fn an_authorisation_that_one_route_is_without_is_passed_by_an_edit_behind_it_alone() {
    for envoy in envoys() {
        for (name, authorisation) in [("ext_authz", ext_authz()), ("RBAC", rbac())] {
            let asked = usize::from(name == "ext_authz");
            let front = [role(), authorisation];
            let rig = Rig::start(&envoy, FILTERS, &front, &by_role());
            for filter in FILTERS {
                for way in Way::ALL {
                    let seen = rig.send(&filter.listener(way), &edited());
                    let expected = match way {
                        Way::Without | Way::EditPinned | Way::StateBehind => ("public", 200, 0),
                        // The route is chosen anew behind `role`, and its authorisation holds.
                        Way::EditFirst => ("none", 403, asked),
                        // As SECURITY.md says: the authorisation of the route is never asked.
                        Way::EditBehind => ("admin", 200, 0),
                    };
                    let version = envoy.reported_version();
                    assert_eq!(
                        fate(&seen),
                        expected,
                        "{name}, {filter} {way:?} on {version}"
                    );
                }
            }
        }
    }
    promises::held(
        "Routing",
        "With `request_headers: \"filter_state\"`, or with edits in front of a filter that asks for the route, no \
         request takes another route than without the filter",
        "a filter that sets `x-role`, ext_authz and RBAC that one route is without; trace_context, span_attributes, \
         access_log_trace, route_sampling and mesh_tracing, in front and behind",
        "0 of 144 requests moved, 4 versions",
    );
}

/// What an authoriser adds to a request it adds after it has asked for the route.
#[test]
fn an_edit_in_front_of_an_authoriser_that_adds_headers_moves_no_request() {
    for envoy in envoys() {
        let adding = ext_authz().merge(json!({"typed_config": {"http_service": {
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [{"exact": "x-role"}]},
            },
        }}}));
        let rig = Rig::start(&envoy, FILTERS, &[adding], &denied_by_role());
        rig.authz
            .respond_with(|_| Reply::ok().header("x-role", "admin"));
        for filter in FILTERS {
            for way in Way::ALL {
                let seen = rig.send(&filter.listener(way), &edited());
                let expected = match way {
                    Way::EditBehind => "admin",
                    _ => "public",
                };
                let version = envoy.reported_version();
                assert_eq!(seen.upstream(), expected, "{filter} {way:?} on {version}");
            }
        }
    }
}

fn denied_by_role() -> [Route; 2] {
    let admin = Route::prefix("/")
        .header("x-role", "admin")
        .cluster("admin");
    [admin, Route::prefix("/").cluster("public")]
}

/// A route that asks for a header which the filter writes: by an edit it is seen, by filter state it is not.
#[test]
fn routes_that_ask_for_a_trace_header_see_what_came_in_unless_it_is_edited() {
    let plain = Filter {
        name: "mesh_tracing",
        config: r#"{"report": {"cluster": "otlp"}}"#,
    };
    let clearing = Filter {
        name: "trace_context",
        config: r#"{"clear": ["tracestate"]}"#,
    };
    let state = [("traceparent", TRACEPARENT), ("tracestate", "a=1")];
    for envoy in envoys() {
        for (filter, header, request, without, edited) in [
            (
                TRACE_CONTEXT,
                "traceparent",
                get(&[("b3", B3)]),
                "public",
                "admin",
            ),
            (plain, "traceparent", get(&[]), "public", "admin"),
            (clearing, "tracestate", get(&state), "admin", "public"),
        ] {
            let routes = [
                with_header(header).cluster("admin"),
                Route::prefix("/").cluster("public"),
            ];
            let rig = Rig::start(&envoy, &[filter], &[], &routes);
            for way in Way::ALL {
                let expected = match way {
                    Way::Without | Way::StateBehind => without,
                    Way::EditFirst | Way::EditPinned | Way::EditBehind => edited,
                };
                let seen = rig.send(&filter.listener(way), &request);
                let version = envoy.reported_version();
                assert_eq!(seen.upstream(), expected, "{filter} {way:?} on {version}");
            }
        }
    }
}

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
    for envoy in envoys() {
        for cluster in [Cluster::http1 as fn(&str, _) -> _, Cluster::http2] {
            let listeners = filters().flat_map(|filter| {
                ways.map(|way| {
                    let manager = chain(*filter, way, &[], &by_role());
                    Listener::http(&filter.listener(way), manager)
                })
            });
            let rig = Rig::with(&envoy, listeners, cluster);
            for (filter, request) in filters().flat_map(|f| requests.iter().map(move |r| (f, r))) {
                let [edits, state] =
                    ways.map(|way| headers(&rig.send(&filter.listener(way), request)));
                let version = envoy.reported_version();
                assert_eq!(edits, state, "{filter} {request:?} on {version}");
            }
        }
    }
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
    for envoy in envoys() {
        let rig = Rig::start(&envoy, &[PASSING], &[], &by_role());
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
        assert_eq!(stat(&rig, "trace_context.edits_dropped"), 0);
    }
}

fn stat(rig: &Rig, name: &str) -> u64 {
    let name = format!("wasmcustom.meshtrace.{name}");
    rig.envoy
        .stats()
        .expect("the counters")
        .get(&name)
        .copied()
        .unwrap_or(0)
}

/// A request that the filter does not see leaves without the managed headers.
#[test]
fn without_the_filter_the_route_configuration_removes_the_headers() {
    for envoy in envoys() {
        let route = Route::prefix("/")
            .cluster("public")
            .disable_filter(TRACE_CONTEXT.name);
        let rig = Rig::start(&envoy, &[TRACE_CONTEXT], &[], &[route]);
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
    }
}

/// Both routes are in the access log: the one that an attribute read before the edit, and the one that was taken.
#[test]
fn the_access_log_tells_of_a_request_that_was_moved() {
    for envoy in envoys() {
        let probe = |name: &str| -> HttpFilter {
            let property = json!({"property": ["xds", "route_name"]});
            let config = json!({"attributes": [{"key": name, "from": property}]});
            WasmFilter::new(name, module("span_attributes"))
                .configuration(config.to_string())
                .into()
        };
        let routes = by_role();
        let front = [role(), probe("before")];
        let manager = chain(TRACE_CONTEXT, Way::EditBehind, &front, &routes)
            .filter(probe("after"))
            .access_log(json!({
                "before": "%FILTER_STATE(wasm.before:PLAIN)%",
                "after": "%FILTER_STATE(wasm.after:PLAIN)%",
                "taken": "%ROUTE_NAME%",
            }));
        let rig = Rig::with(&envoy, [Listener::http("logged", manager)], Cluster::http1);
        rig.send("logged", &edited());
        let lines = rig
            .envoy
            .access_log("logged")
            .wait_for_lines(1)
            .expect("a line");
        // Directly after the edit the host still tells the old route.
        let expected = json!({"before": "public", "after": "public", "taken": "admin"});
        assert_eq!(lines, [expected], "{}", envoy.reported_version());
    }
}
