//! `per_second`: the workers' one bucket, in a host's shared data.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod mock;

use meshtrace_pipeline::RouteSampling;
use mock::drive::{CONTINUE, configure_as, reconfigure, request};
use mock::{LOOK, host};

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
    let calls = || {
        let mut calls = host(|host| host.calls.clone());
        calls.retain(|call| *call != LOOK);
        calls
    };
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
