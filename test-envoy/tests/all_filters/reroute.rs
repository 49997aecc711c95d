//! A header edit makes Envoy choose the route again: where that matters, and that filter state does
//! without.

use envoy_test_harness::config::{Cluster, HttpFilter, Listener, Route, WasmFilter};
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{get, module};
use meshtrace_test_support::promises;
use meshtrace_test_support::rerouting::{
    B3, EXT_AUTHZ, FILTERS, Filter, RBAC, Rig, Seen, TRACE_CONTEXT, TRACEPARENT, Way,
};
use meshtrace_test_support::rerouting::{
    adding_ext_authz, by_role, chain, edited, ext_authz, rbac, role, with_header,
};
use serde_json::json;

#[test]
fn behind_another_filter_an_edit_moves_a_request_and_filter_state_does_not() {
    each_supported(|envoy| {
        let rig = Rig::start(envoy, FILTERS, &[role()], &by_role());
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
        }
        assert_eq!(rig.counter("host_errors"), 0);
    });
}

/// The route, the status, and how often the authoriser was asked.
fn fate(seen: &Seen) -> (&'static str, u16, usize) {
    (seen.upstream(), seen.response.status, seen.asked)
}

#[test]
fn an_authorisation_that_one_route_is_without_is_passed_by_an_edit_behind_it_alone() {
    let mut tried = 0;
    each_supported(|envoy| {
        for (name, authorisation) in [("ext_authz", ext_authz()), ("RBAC", rbac())] {
            let asked = usize::from(name == "ext_authz");
            let front = [role(), authorisation];
            let rig = Rig::start(envoy, FILTERS, &front, &by_role());
            for filter in FILTERS {
                for way in Way::ALL {
                    let expected = match way {
                        Way::Without | Way::EditPinned | Way::StateBehind => ("public", 200, 0),
                        // The route is chosen anew behind `role`, and its authorisation holds.
                        Way::EditFirst => ("none", 403, asked),
                        // As SECURITY.md says: the authorisation of the route is never asked.
                        Way::EditBehind => ("admin", 200, 0),
                    };
                    let version = envoy.reported_version();
                    for (over, fate) in rig.fates(&filter.listener(way), &edited()) {
                        let at = format!("{name}, {filter} {way:?} on {version} over {over}");
                        assert_eq!(fate, expected, "{at}");
                        tried += usize::from(matches!(way, Way::EditPinned | Way::StateBehind));
                    }
                }
            }
        }
    });
    promises::held(
        "Routing",
        "With `request_headers: \"filter_state\"`, or with edits directly in front of a filter that runs on every route \
         and asks for the route, no request takes another route than without the filter",
        "a filter that sets `x-role`, ext_authz and RBAC that one route is without; trace_context, span_attributes, \
         access_log_trace, route_sampling and mesh_tracing, in front and behind, HTTP/1.1 and HTTP/2",
        &format!("0 of {tried} requests moved, 4 versions"),
    );
}

/// Envoy leaves a filter that the first route switches off by `FilterConfig` out of the chain, so
/// it asks for no route.
#[test]
fn a_filter_that_a_route_takes_out_of_the_chain_pins_nothing() {
    let removed = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": true,
    });
    let routes = [
        Route::prefix("/")
            .header("x-role", "admin")
            .cluster("admin"),
        Route::prefix("/")
            .cluster("public")
            .merge(json!({"typed_per_filter_config": {EXT_AUTHZ: removed, RBAC: removed}})),
    ];
    each_supported(|envoy| {
        for (name, authorisation) in [("ext_authz", ext_authz()), ("RBAC", rbac())] {
            let rig = Rig::start(envoy, FILTERS, &[authorisation, role()], &routes);
            for filter in FILTERS {
                for way in Way::ALL {
                    let seen = rig.send(&filter.listener(way), &edited());
                    let expected = match way {
                        Way::Without | Way::EditPinned | Way::StateBehind => ("public", 200, 0),
                        // As docs/request-headers.md says: the authorisation is never asked.
                        Way::EditFirst | Way::EditBehind => ("admin", 200, 0),
                    };
                    let version = envoy.reported_version();
                    let what = format!("{name}, {filter} {way:?} on {version}");
                    assert_eq!(fate(&seen), expected, "{what}");
                }
            }
        }
    });
}

/// What an authoriser adds to a request it adds after it has asked for the route.
#[test]
fn an_edit_in_front_of_an_authoriser_that_adds_headers_moves_no_request() {
    let routes = [
        Route::prefix("/")
            .header("x-role", "admin")
            .cluster("admin"),
        Route::prefix("/").cluster("public"),
    ];
    each_supported(|envoy| {
        let rig = Rig::start(envoy, FILTERS, &[adding_ext_authz()], &routes);
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
                let role = seen.request().header_text("x-role");
                assert_eq!(
                    role.as_deref(),
                    Some("admin"),
                    "{filter} {way:?} on {version}"
                );
            }
        }
    });
}

/// A route that asks for a header which the filter writes: by an edit it is seen, by filter state
/// it is not.
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
    each_supported(|envoy| {
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
            let rig = Rig::start(envoy, &[filter], &[], &routes);
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
    });
}

/// Both routes are in the access log: the one that an attribute read before the edit, and the one
/// that was taken.
#[test]
fn the_access_log_tells_of_a_request_that_was_moved() {
    each_supported(|envoy| {
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
        let rig = Rig::with(envoy, [Listener::http("logged", manager)], Cluster::http1);
        rig.send("logged", &edited());
        let lines = rig
            .envoy
            .access_log("logged")
            .wait_for_lines(1)
            .expect("a line");
        // Directly after the edit the host still tells the old route.
        let expected = json!({"before": "public", "after": "public", "taken": "admin"});
        assert_eq!(lines, [expected], "{}", envoy.reported_version());
    });
}
