//! The boundary to the host, driven as a host drives it: through the module's exports.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod mock;

use meshtrace_host::new_root;
use meshtrace_pipeline::{Composition, RouteSampling, TraceContext};
use mock::host;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CONTINUE: u32 = 0;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_delete(context: u32);
}

/// Creates root context `root` and configures it with `json`, as one more plugin of the VM.
fn configure(root: u32, json: &str) -> bool {
    configure_as::<TraceContext>(root, json)
}

fn configure_as<C: Composition>(root: u32, json: &str) -> bool {
    host(|host| {
        host.configuration = json.into();
        let name = format!("plugin-{root}");
        host.properties.insert(b"plugin_name".into(), name.into());
    });
    proxy_wasm::set_root_context(new_root::<C>);
    unsafe {
        proxy_on_context_create(root, 0);
        assert!(proxy_on_vm_start(root, 0));
        reconfigure(root, json)
    }
}

fn reconfigure(root: u32, json: &str) -> bool {
    host(|host| host.configuration = json.into());
    unsafe { proxy_on_configure(root, json.len()) }
}

/// Runs one request through the plugin of `root` and returns what the filter answers.
fn request(root: u32, headers: &[(&str, &[u8])]) -> u32 {
    host(|host| {
        host.calls.clear();
        host.forget_requests();
        host.request_headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect();
    });
    const STREAM: u32 = 1000;
    unsafe {
        proxy_on_context_create(STREAM, root);
        let action = proxy_on_request_headers(STREAM, headers.len(), true);
        proxy_on_delete(STREAM);
        action
    }
}

fn w3c() -> [(&'static str, &'static [u8]); 1] {
    [("traceparent", TRACEPARENT.as_bytes())]
}

#[test]
fn a_request_costs_one_fetch_one_call_an_edit_and_one_a_count() {
    assert!(configure(1, ""));
    assert_eq!(request(1, &w3c()), CONTINUE);
    host(|host| {
        assert_eq!(
            host.header("x-b3-traceid"),
            Some(&TRACEPARENT.as_bytes()[3..35])
        );
        assert_eq!(
            host.calls,
            [
                "proxy_get_header_map_pairs",
                "proxy_replace_header_map_value",
                "proxy_replace_header_map_value",
                "proxy_replace_header_map_value",
                "proxy_increment_metric",
            ]
        );
        let counter = "meshtrace.trace_context.extracted.tracecontext";
        assert_eq!(host.metric(counter), Some(1));
    });
}

#[test]
fn a_request_that_is_right_already_is_not_written_to() {
    assert!(configure(1, r#"{"inject": ["tracecontext"]}"#));
    request(1, &w3c());
    let calls = ["proxy_get_header_map_pairs", "proxy_increment_metric"];
    host(|host| assert_eq!(host.calls, calls));
}

/// Whatever status the host answers to whatever call, the request goes on.
#[test]
fn any_status_of_any_call_lets_the_request_pass() {
    let functions = [
        "proxy_log",
        "proxy_get_header_map_pairs",
        "proxy_replace_header_map_value",
        "proxy_remove_header_map_value",
        "proxy_get_property",
        "proxy_set_property",
        "proxy_get_buffer_bytes",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_define_metric",
        "proxy_increment_metric",
        "proxy_record_metric",
        "proxy_get_current_time_nanoseconds",
    ];
    let config = r#"{
        "incoming": {"mode": "restart", "when": {"not_from_cidrs": [], "direction": "unspecified"}},
        "clear": ["x-secret"],
        "overrides": [{"cluster": "a", "clear": ["b3"]}],
        "baggage_from": ["jaeger"]
    }"#;
    let headers: [(&str, &[u8]); 4] = [
        ("uberctx-a", b"1"),
        ("traceparent", TRACEPARENT.as_bytes()),
        ("b3", b"\xff"),
        ("x-secret", b"1"),
    ];
    let mut root = 0;
    for function in functions {
        for status in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99, u32::MAX] {
            for json in [config, "not JSON"] {
                root += 1;
                host(|host| {
                    host.statuses = [(function, status)].into();
                    host.shared_data.clear();
                });
                assert!(configure(root, json), "{function} answers {status}");
                assert_eq!(
                    request(root, &headers),
                    CONTINUE,
                    "{function} answers {status}"
                );
            }
        }
    }
}

#[test]
fn a_refused_call_is_counted() {
    assert!(configure(1, ""));
    for (function, errors) in [
        ("proxy_get_header_map_pairs", 1),
        ("proxy_replace_header_map_value", 3),
    ] {
        let before = host(|host| {
            host.statuses = [(function, 10)].into();
            host.metric("meshtrace.host_errors").unwrap()
        });
        request(1, &w3c());
        let after = host(|host| host.metric("meshtrace.host_errors").unwrap());
        assert_eq!(after - before, errors, "{function}");
    }
}

#[test]
fn a_block_that_lies_about_itself_lets_the_request_pass() {
    assert!(configure(1, ""));
    for block in [
        &b"\x01"[..],
        b"\xff\xff\xff\xff",
        b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        host(|host| host.raw_block = Some(block.to_vec()));
        assert_eq!(request(1, &w3c()), CONTINUE);
    }
    assert_eq!(host(|host| host.metric("meshtrace.host_errors")), Some(3));
}

#[test]
fn ok_without_bytes_is_no_memory_to_read() {
    assert!(configure(1, ""));
    for size in [0, 1, usize::MAX] {
        host(|host| host.null_with_size = [("proxy_get_header_map_pairs", size)].into());
        assert_eq!(request(1, &w3c()), CONTINUE);
    }
}

#[test]
fn a_bad_first_configuration_is_inert_and_calls_nothing() {
    assert!(configure(1, r#"{"extract": "all"}"#));
    request(1, &[("traceparent", b"junk")]);
    host(|host| {
        assert_eq!(host.calls, [""; 0]);
        assert_eq!(host.metric("meshtrace.config_invalid"), Some(1));
        let line = host.log.last().unwrap();
        assert!(
            line.starts_with("trace_context.extract: invalid type"),
            "{line}"
        );
        assert!(
            line.ends_with("(plugin \"plugin-1\": the filter is loaded inert and changes nothing)"),
            "{line}"
        );
    });
}

#[test]
fn a_bad_update_runs_the_last_good_configuration_and_is_taken() {
    assert!(configure(1, ""));
    assert!(reconfigure(1, r#"{"inject": 7}"#));
    host(|host| {
        let line = host.log.last().unwrap();
        assert!(
            line.ends_with(
                "(plugin \"plugin-1\": the configuration in force stays: the last good one of this \
                 plugin runs)"
            ),
            "{line}"
        );
        assert_eq!(host.metric("meshtrace.config_invalid"), Some(1));
    });
    request(1, &w3c());
    host(|host| assert!(host.header("x-b3-traceid").is_some()));

    assert!(reconfigure(1, r#"{"inject": ["b3"]}"#));
    assert_eq!(
        host(|host| host.metric("meshtrace.config_invalid")),
        Some(0)
    );
}

#[test]
fn a_plugin_that_loads_well_does_not_hide_another_that_did_not() {
    let invalid = || host(|host| host.metric("meshtrace.config_invalid"));
    let of = |plugin: u32| {
        let name = format!("meshtrace.config_invalid.plugin.plugin-{plugin}");
        host(|host| host.metric(&name))
    };
    assert!(configure(1, "bad"));
    assert!(configure(2, ""));
    assert_eq!(invalid(), Some(1));
    assert_eq!((of(1), of(2)), (Some(1), Some(0)));
    assert!(configure(3, "bad too"));
    host(|host| {
        host.properties
            .insert(b"plugin_name".into(), b"plugin-1".into())
    });
    assert!(reconfigure(1, ""));
    assert_eq!(invalid(), Some(1));
    assert_eq!((of(1), of(3)), (Some(0), Some(1)));
    host(|host| {
        host.properties
            .insert(b"plugin_name".into(), b"plugin-3".into())
    });
    assert!(reconfigure(3, ""));
    assert_eq!(invalid(), Some(0));
    assert_eq!(of(3), Some(0));
}

#[test]
fn plugins_of_one_vm_do_not_see_each_other() {
    assert!(configure(1, r#"{"inject": ["b3"]}"#));
    assert!(configure(2, r#"{"inject": ["b3multi"]}"#));
    assert!(
        configure(3, "bad"),
        "the other plugins' good configurations are not its own"
    );
    for (root, header) in [(1, "b3"), (2, "x-b3-traceid"), (1, "b3")] {
        request(root, &w3c());
        host(|host| {
            assert!(host.header(header).is_some(), "{root}");
            assert_eq!(host.header("b3").is_some(), root == 1);
        });
    }
}

#[test]
fn the_old_trace_of_a_restart_is_filter_state() {
    assert!(configure(1, r#"{"incoming": "restart"}"#));
    request(1, &w3c());
    host(|host| {
        let previous = host.properties.get(&b"previous_trace_id"[..]).unwrap();
        assert_eq!(previous, &TRACEPARENT.as_bytes()[3..35]);
    });
}

/// From Envoy 1.40 on listeners of every direction share a root context.
#[test]
fn a_caller_of_one_format_is_counted_by_the_direction_of_each_request() {
    assert!(configure(1, ""));
    let b3 = [(
        "b3",
        &b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"[..],
    )];
    let name = |direction| format!("meshtrace.trace_context.only.b3.{direction}");
    for (number, direction) in [(1_u64, "inbound"), (2, "outbound"), (0, "unspecified")] {
        host(|host| {
            let number = number.to_le_bytes().to_vec();
            let path = b"xds\0listener_direction";
            host.properties.insert(path.into(), number);
            assert_eq!(host.metric(&name(direction)), None, "no needless zero");
        });
        for count in 1..3 {
            request(1, &b3);
            host(|host| assert_eq!(host.metric(&name(direction)), Some(count)));
        }
    }
    let asked = |host: &mut mock::Host| host.calls.contains(&"proxy_get_property");
    assert!(host(asked));
    request(1, &w3c());
    assert!(!host(asked), "who sends W3C has moved");
}

#[test]
fn a_cluster_is_asked_for_only_when_an_override_names_one() {
    let entry = r#""inject": [], "clear": ["tracecontext"]"#;
    assert!(configure(
        1,
        &format!(r#"{{"overrides": [{{"cluster": "a", {entry}}}]}}"#)
    ));
    assert!(configure(
        2,
        &format!(r#"{{"overrides": [{{"host": "a", {entry}}}]}}"#)
    ));
    for (cluster, left) in [(&b"a"[..], false), (b"b", true), (b"\xff", true)] {
        host(|host| {
            let path = b"xds\0cluster_name";
            host.properties.insert(path.into(), cluster.into());
        });
        request(1, &w3c());
        host(|host| {
            assert_eq!(host.header("traceparent").is_some(), left);
            let asked = host
                .calls
                .iter()
                .filter(|call| **call == "proxy_get_property");
            assert_eq!(asked.count(), 1);
        });
    }
    request(2, &[w3c()[0], (":authority", b"a")]);
    host(|host| {
        assert_eq!(host.header("traceparent"), None);
        assert!(!host.calls.contains(&"proxy_get_property"));
    });
}

#[test]
fn overrides_before_a_tracer_are_cautioned_about() {
    let caution = |host: &mut mock::Host| host.log.iter().any(|l| l.contains("overrides: beside"));
    let overrides = r#""overrides": [{"cluster": "a", "inject": []}]"#;
    let upstream = r#""placement": "upstream", "tracer": "b3""#;
    assert!(configure(1, &format!("{{{upstream}, {overrides}}}")));
    assert!(!host(caution));
    assert!(configure(2, &format!("{{{overrides}}}")));
    assert!(host(caution));
}

#[test]
fn long_baggage_is_written() {
    assert!(configure(1, r#"{"baggage_from": ["jaeger"]}"#));
    let value = [b'x'; 4000];
    request(1, &[("uberctx-a", &value), ("baggage", b"k=v")]);
    host(|host| {
        let baggage = host.header("baggage").unwrap();
        assert!(baggage.starts_with(b"k=v,a=xx"));
        assert_eq!(baggage.len(), 4006);
    });
}

#[test]
fn the_address_and_the_direction_are_asked_for_only_when_they_decide() {
    let when = r#"{"incoming": {"mode": "ignore", "when": {"not_from_cidrs": ["10.0.0.0/8"],
                   "direction": "inbound"}}}"#;
    assert!(configure(1, when));
    for (address, direction, left) in [
        (&b"10.0.0.1:80"[..], 1_u64, true),
        (b"192.0.2.1:80", 1, false),
        (b"192.0.2.1:80", 2, true),
        (b"192.0.2.1:80", 0, true),
        (b"192.0.2.1:80", u64::MAX, true),
    ] {
        host(|host| {
            let direction = direction.to_le_bytes().to_vec();
            host.properties
                .insert(b"source\0address".into(), address.into());
            host.properties
                .insert(b"xds\0listener_direction".into(), direction);
        });
        request(1, &w3c());
        host(|host| assert_eq!(host.header("traceparent").is_some(), left, "{direction}"));
    }
}

const SECOND: u64 = 1_000_000_000;
const SAMPLED: &str = "meshtrace.route_sampling.default.sampled";
const DROPPED: &str = "meshtrace.route_sampling.default.dropped";

/// Root contexts stand for workers: one plugin, one store.
fn workers(json: &str, roots: core::ops::RangeInclusive<u32>) {
    for root in roots {
        assert!(configure_as::<RouteSampling>(root, json));
        host(|host| {
            let name = b"plugin-1".to_vec();
            host.properties.insert(b"plugin_name".into(), name);
        });
        assert!(reconfigure(root, json));
    }
    host(|host| host.monotonic = 1_700_000_000 * SECOND);
}

fn metric(name: &str) -> i64 {
    host(|host| host.metric(name)).unwrap()
}

#[test]
fn workers_take_tokens_out_of_one_bucket() {
    workers(r#"{"default": {"per_second": 3}}"#, 1..=2);
    for root in [1, 2, 1, 2, 1, 2] {
        request(root, &[]);
    }
    assert_eq!((metric(SAMPLED), metric(DROPPED)), (3, 3));
    // A third of a second is no whole number of nanoseconds.
    host(|host| host.monotonic += SECOND + 3);
    for root in [1, 2, 1, 2] {
        request(root, &[]);
    }
    assert_eq!((metric(SAMPLED), metric(DROPPED)), (6, 4));
}

#[test]
fn a_token_costs_a_look_and_a_write_and_none_costs_a_look_at_the_clock() {
    workers(r#"{"default": {"per_second": 1}}"#, 1..=1);
    let calls = || host(|host| host.calls.clone());
    request(1, &[]);
    assert_eq!(
        calls(),
        [
            "proxy_get_header_map_pairs",
            "clock_time_get",
            "proxy_get_shared_data",
            "proxy_set_shared_data",
            "proxy_replace_header_map_value",
            "proxy_set_property",
            "proxy_increment_metric",
        ]
    );
    // The first that is refused looks, the others know.
    request(1, &[]);
    request(1, &[]);
    assert_eq!(
        calls(),
        [
            "proxy_get_header_map_pairs",
            "clock_time_get",
            "proxy_set_property",
            "proxy_increment_metric",
        ]
    );
}

#[test]
fn a_worker_that_was_slower_looks_again() {
    workers(r#"{"default": {"per_second": 2}}"#, 1..=1);
    let full_at = |tokens: u64| {
        let now = host(|host| host.monotonic);
        (now + tokens * SECOND / 2).to_le_bytes().to_vec()
    };
    // The other workers take the first token, and both.
    let one = full_at(1);
    host(|host| host.races = vec![one]);
    request(1, &[]);
    assert_eq!((metric(SAMPLED), metric(DROPPED)), (1, 0));

    host(|host| host.monotonic += 10 * SECOND);
    let both = full_at(2);
    host(|host| host.races = vec![both]);
    request(1, &[]);
    assert_eq!((metric(SAMPLED), metric(DROPPED)), (1, 1));
}

#[test]
fn a_host_that_refuses_the_clock_or_the_store_keeps_nothing() {
    workers(r#"{"default": {"per_second": 1000}}"#, 1..=1);
    // A host that serves one of the two clocks has a clock.
    let functions: [&[&str]; 3] = [
        &["clock_time_get", "proxy_get_current_time_nanoseconds"],
        &["proxy_get_shared_data"],
        &["proxy_set_shared_data"],
    ];
    for functions in functions {
        for status in [2, 8, 10, u32::MAX] {
            let statuses = functions.iter().map(|function| (*function, status));
            host(|host| host.statuses = statuses.collect());
            assert_eq!(request(1, &[]), CONTINUE);
        }
    }
    assert_eq!(metric("meshtrace.route_sampling.per_second.failed"), 12);
    assert_eq!((metric(SAMPLED), metric(DROPPED)), (0, 12));
}
