//! Which configuration runs, where a host's shared data are lost, late, or broken.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "the exports are a C ABI")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod mock;

use std::sync::atomic::{AtomicU64, Ordering};

use meshtrace_host::new_root;
use meshtrace_pipeline::TraceContext;
use mock::host;

const GOOD: &str = r#"{"inject": ["b3"]}"#;
const OTHER: &str = r#"{"inject": ["b3multi"]}"#;
const BAD: &str = r#"{"inject": 7}"#;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_delete(context: u32);
}

/// Loads `json` for the plugin `name` in the root context `root`, which is taken whatever it is.
fn load(root: u32, name: &str, json: &str) {
    host(|host| {
        host.configuration = json.into();
        host.properties.insert(b"plugin_name".into(), name.into());
    });
    proxy_wasm::set_root_context(new_root::<TraceContext>);
    unsafe {
        proxy_on_context_create(root, 0);
        assert!(proxy_on_vm_start(root, 0));
        assert!(proxy_on_configure(root, json.len()), "{name} {json}");
    }
}

/// As Envoy does: in the VM that it tries a configuration in, in the main thread's and in a
/// worker's. Here all three are one, and the root context that counts is the last one.
fn load_in_all(root: u32, name: &str, json: &str) {
    for root in [root, root + 1, root + 2] {
        load(root, name, json);
    }
}

fn end(roots: &[u32]) {
    roots
        .iter()
        .for_each(|root| unsafe { proxy_on_delete(*root) });
}

/// The format that a request leaves the root context `root` in.
fn runs(root: u32) -> &'static str {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);

    runs_at(root, REQUESTS.fetch_add(1, Ordering::Relaxed))
}

/// The same for the request that came at `time`.
fn runs_at(root: u32, time: u64) -> &'static str {
    const STREAM: u32 = 1000;
    let time = (b"request\0time".into(), time.to_le_bytes().into());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    host(|host| {
        host.request_headers = vec![("traceparent".into(), traceparent.into())];
        host.properties.extend([time]);
    });
    unsafe {
        proxy_on_context_create(STREAM, root);
        assert_eq!(proxy_on_request_headers(STREAM, 1, true), 0);
        proxy_on_delete(STREAM);
    }
    host(
        |host| match (host.header("b3"), host.header("x-b3-traceid")) {
            (Some(_), None) => "b3",
            (None, Some(_)) => "b3multi",
            _ => "nothing",
        },
    )
}

fn invalid() -> Option<i64> {
    host(|host| host.metric("meshtrace.config_invalid"))
}

fn lines(text: &str) -> usize {
    host(|host| host.log.iter().filter(|line| line.contains(text)).count())
}

#[test]
fn a_new_root_context_runs_what_is_in_force_for_its_plugin() {
    load_in_all(1, "a", GOOD);
    load_in_all(4, "b", OTHER);
    load_in_all(7, "a", BAD);
    load_in_all(10, "b", BAD);
    load_in_all(13, "c", BAD);
    assert_eq!([9, 12, 15].map(runs), ["b3", "b3multi", "nothing"]);
    assert_eq!(invalid(), Some(1));
    assert_eq!((lines("the last good one"), lines("loaded inert")), (2, 1));
    // Once more: what is remembered is not the bad one.
    load_in_all(16, "a", r#"{"inject": 8}"#);
    assert_eq!(runs(18), "b3");
}

#[test]
fn what_no_worker_has_loaded_is_not_in_force() {
    load(1, "a", GOOD);
    load(2, "a", GOOD);
    load_in_all(3, "a", BAD);
    assert_eq!([2, 5].map(runs), ["b3", "nothing"]);
}

#[test]
fn an_update_that_comes_before_the_workers_have_the_one_before_is_one_too() {
    for (next, expected) in [(OTHER, "b3multi"), (r#"{"inject": 8}"#, "b3")] {
        load_in_all(1, next, GOOD);
        // The main thread has it, and the workers do not.
        load(4, next, next);
        load(5, next, next);
        load_in_all(6, next, BAD);
        assert_eq!([3, 8].map(runs), ["b3", expected]);
        // A worker that was late has both.
        load(9, next, next);
        load(10, next, BAD);
        assert_eq!((runs(10), invalid()), (expected, Some(1)));
        end(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
    assert_eq!(lines("loaded inert"), 0);
}

#[test]
fn a_plugin_without_a_name_is_nobody_s_update() {
    load_in_all(1, "", GOOD);
    load_in_all(4, "", BAD);
    assert_eq!([3, 6].map(runs), ["b3", "nothing"]);
    end(&[4, 5, 6]);
    assert_eq!(invalid(), Some(0));
}

#[test]
fn a_name_of_two_plugins_is_nobody_s() {
    // As two listeners of one bootstrap are loaded: all by the main thread first.
    for root in [1, 2] {
        load(root, "a", GOOD);
    }
    for root in [3, 4] {
        load(root, "a", OTHER);
    }
    load(5, "a", GOOD);
    load(6, "a", OTHER);
    load_in_all(7, "a", BAD);
    assert_eq!([5, 6, 9].map(runs), ["b3", "b3multi", "nothing"]);
}

#[test]
fn the_end_of_the_last_root_context_ends_all_that_is_remembered() {
    load_in_all(1, "a", GOOD);
    load_in_all(4, "a", BAD);
    end(&[1, 2, 3]);
    assert_eq!((runs(6), invalid()), ("b3", Some(1)));
    end(&[4, 5, 6]);
    assert_eq!(invalid(), Some(0));
    host(|host| {
        let kept = |json: &[u8]| host.shared_data.values().any(|value| value.ends_with(json));
        assert!(!kept(GOOD.as_bytes()), "a configuration may hold secrets");
    });
    load_in_all(7, "a", BAD);
    assert_eq!((runs(9), invalid()), ("nothing", Some(1)));
}

#[test]
fn what_an_update_replaced_is_in_force_again_when_the_update_goes() {
    load_in_all(1, "a", GOOD);
    for (root, json) in [(4, OTHER), (7, BAD)] {
        load_in_all(root, "a", json);
        end(&[root, root + 1, root + 2]);
        assert_eq!(invalid().unwrap_or_default(), 0);
        load_in_all(10, "a", r#"{"inject": 8}"#);
        assert_eq!(runs(12), "b3");
        end(&[10, 11, 12]);
    }
}

/// Envoy takes the root context of a listener that drains again.
#[test]
fn an_inert_root_context_runs_the_good_configuration_that_came_after_it() {
    load_in_all(1, "a", BAD);
    assert_eq!(runs(3), "nothing");
    load_in_all(4, "a", GOOD);
    assert_eq!(runs(6), "b3");
    assert_eq!((runs(3), invalid()), ("b3", Some(0)));
    load_in_all(7, "a", OTHER);
    assert_eq!([runs(3), runs(9), runs(3)], ["b3", "b3multi", "b3multi"]);
    end(&[4, 5, 6, 7, 8, 9]);
    assert_eq!((runs(3), invalid()), ("b3multi", Some(1)));
    let back = "trace_context: plugin \"a\": a configuration that was refused before is back";
    assert_eq!(lines(back), 1);
}

/// It may be of another plugin of the same name: only a request has a listener.
#[test]
fn an_inert_root_context_does_not_run_what_served_elsewhere() {
    let at = |address: &str| {
        let property = (b"destination\0address".into(), address.into());
        host(|host| host.properties.extend([property]));
    };
    load_in_all(1, "a", BAD);
    load_in_all(4, "a", GOOD);
    at("10.0.0.1:80");
    assert_eq!(runs(3), "nothing");
    at("10.0.0.1:81");
    assert_eq!(runs(6), "b3");
    at("10.0.0.1:80");
    assert_eq!(runs(3), "nothing");
    at("10.0.0.1:81");
    assert_eq!(runs(3), "b3");
    // Once found it holds for the plugin, in whichever worker.
    load(7, "a", BAD);
    load(8, "a", GOOD);
    at("10.0.0.1:80");
    assert_eq!(runs(7), "b3");
}

/// After an update from a good configuration no request is asked where it is served, although the old
/// root context drains for minutes.
#[test]
fn only_a_bad_configuration_waits() {
    load_in_all(1, "a", GOOD);
    load_in_all(4, "a", OTHER);
    let noted = || {
        let is_place = |name: &Vec<u8>| name.starts_with(b"meshtrace.served");
        host(|host| {
            host.shared_data
                .keys()
                .filter(|name| is_place(name))
                .count()
        })
    };
    assert_eq!((runs(6), noted()), ("b3multi", 0));
    load_in_all(7, "b", BAD);
    load_in_all(10, "b", GOOD);
    assert_eq!((runs(12), noted()), ("b3", 1));
}

/// Two filters of one chain.
#[test]
fn what_serves_the_same_request_is_another_plugin() {
    for is_first in [true, false] {
        let name = is_first.to_string();
        load_in_all(1, &name, BAD);
        load_in_all(4, &name, GOOD);
        for time in [u64::MAX - 1, u64::MAX] {
            let order = if is_first { [3, 6] } else { [6, 3] };
            for root in order {
                let expected = if root == 3 { "nothing" } else { "b3" };
                assert_eq!(runs_at(root, time), expected, "{is_first}");
            }
        }
        end(&[1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn a_write_that_another_worker_won_is_made_again() {
    for races in 1..20 {
        host(|host| host.races = vec![b"not a list".to_vec(); races]);
        load_in_all(1, "a", GOOD);
        assert!(host(|host| host.races.is_empty()));
        load_in_all(4, "a", BAD);
        assert_eq!(runs(6), "b3");
        end(&[1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn without_shared_data_nothing_is_refused_and_nothing_is_taken_for_another() {
    for function in ["proxy_get_shared_data", "proxy_set_shared_data"] {
        for status in [1, 2, 8, 10, u32::MAX] {
            host(|host| {
                host.shared_data.clear();
                host.statuses = [(function, status)].into();
            });
            load_in_all(1, "a", GOOD);
            load_in_all(4, "a", BAD);
            assert_eq!([3, 6].map(runs), ["b3", "nothing"], "{function} {status}");
            assert_eq!(invalid(), Some(1));
            end(&[1, 2, 3, 4, 5, 6]);
        }
    }
}
