//! A bad configuration never costs a listener, a request or another plugin: whatever it comes to,
//! and by whatever way.

use std::thread;
use std::time::Duration;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpFilter, WasmFilter};
use envoy_test_harness::{Envoy, EnvoyBinary, Error, Options, Upstream, each_supported};
use meshtrace_test_support::common::{
    self, Mesh, SPAN, TRACE, deny, get, listener, module, trace_headers, under_load,
};
use meshtrace_test_support::promises;
use serde_json::json;

const INVALID: &str = "wasmcustom.meshtrace.config_invalid";
const GOOD: &str = r#"{"inject": ["b3"]}"#;
const OTHER: &str = r#"{"inject": ["b3multi"]}"#;
const BAD: &str = r#"{"unknown": 1}"#;
const BAD_TOO: &str = r#"{"inject": 1}"#;
const LAST_GOOD: &str = "the last good one of this plugin runs";
const INERT: &str = "the filter is loaded inert";

fn plugin(config: &str) -> WasmFilter {
    WasmFilter::new("trace_context", module("trace_context")).configuration(config)
}

/// The filter has another name than the plugin, which may have none.
fn named(filter: &str, plugin: &str, config: &str) -> WasmFilter {
    WasmFilter::new(filter, module("trace_context"))
        .configuration(config)
        .merge(json!({"name": plugin}))
}

fn mesh(envoy: &EnvoyBinary, workers: u32, bootstrap: Bootstrap) -> Mesh {
    let upstream = Upstream::start().expect("an upstream");
    let bootstrap = bootstrap.cluster(Cluster::http1("upstream", upstream.address()));
    let options = Options::default().concurrency(workers);
    let envoy = Envoy::start_with(envoy, bootstrap, options).expect("an Envoy that starts");
    Mesh { envoy, upstream }
}

/// The formats that a request leaves `listener` in, on as many connections as reach every worker.
fn formats(mesh: &Mesh, listener: &str) -> &'static str {
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let mut seen: Vec<&str> = (0..8)
        .map(|_| {
            let request = get(&[("traceparent", &traceparent)]);
            let left = trace_headers(&mesh.pass(&mut mesh.connect(listener), &request));
            let has = |name: &str| left.iter().any(|line| line.starts_with(name));
            match (has("b3:"), has("x-b3-traceid")) {
                (true, true) => "both",
                (true, false) => "b3",
                (false, true) => "b3multi",
                (false, false) => "unchanged",
            }
        })
        .collect();
    seen.dedup();
    assert_eq!(seen.len(), 1, "the workers differ: {seen:?}");
    seen.remove(0)
}

fn status(mesh: &Mesh, listener: &str) -> u16 {
    mesh.connect(listener)
        .send(&get(&[]))
        .expect("a response")
        .status
}

fn invalid(mesh: &Mesh) -> u64 {
    mesh.envoy.stat(INVALID).expect("the gauge")
}

fn lines(mesh: &Mesh, text: &str) -> usize {
    mesh.envoy.log().expect("the log").matches(text).count()
}

#[test]
fn a_bad_update_over_ecds_keeps_nobody_from_changing_a_listener() {
    each_supported(|envoy| {
        for workers in [1, 2] {
            let ingress = |filters: Vec<HttpFilter>| listener("ingress", filters);
            let discovered = || plugin(GOOD).discovered();
            let bootstrap = Bootstrap::new().watched_listener(ingress(vec![discovered()]));
            let mesh = mesh(envoy, workers, bootstrap);
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 0));

            under_load(&mesh, || {
                let update = mesh.envoy.update_extension(plugin(BAD));
                update.expect("an update that is taken");
                mesh.envoy.wait_for_log(LAST_GOOD).expect("the refusal");
            });
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 1));

            let update = |listener| mesh.envoy.update_listener(listener);
            update(ingress(vec![deny(), discovered()])).expect("a rule that lands");
            assert_eq!(status(&mesh, "ingress"), 403);
            update(listener("new", vec![discovered()])).expect("a listener that is added");
            assert_eq!(formats(&mesh, "new"), "b3");
            update(ingress(vec![discovered()])).expect("a rule that goes");
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 1));

            under_load(&mesh, || {
                let update = mesh.envoy.update_extension(plugin(OTHER));
                update.expect("an update that is taken");
            });
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 0));
            assert_eq!(formats(&mesh, "new"), "b3multi");
        }
    });
    promises::held(
        "Configuration",
        "A bad update keeps the last good configuration in force and holds back no other change of a listener",
        "over ECDS, four clients without a pause; then a DENY rule, a new listener, and the rule's removal over LDS",
        "every request answered; the rule answers 403; 4 versions, 1 and 2 workers",
    );
}

#[test]
fn the_gauge_and_the_line_tell_of_every_change() {
    each_supported(|envoy| {
        for workers in [1, 2] {
            let discovered = listener("ingress", vec![plugin(GOOD).discovered()]);
            let mesh = mesh(envoy, workers, Bootstrap::new().listener(discovered));
            let update = |config: &str| {
                let update = mesh.envoy.update_extension(plugin(config));
                update.expect("an update that is taken");
            };
            let mut in_force = "b3";
            for (time, good) in [(1, OTHER), (2, GOOD), (3, OTHER), (4, OTHER)] {
                update(BAD);
                // A worker that loads it after the next update would tell it again.
                assert_eq!(formats(&mesh, "ingress"), in_force);
                assert_eq!(invalid(&mesh), 1);
                update(good);
                assert_eq!(invalid(&mesh), 0);
                in_force = if good == OTHER { "b3multi" } else { "b3" };
                assert_eq!(formats(&mesh, "ingress"), in_force);
                assert_eq!(lines(&mesh, "unknown field `unknown`"), time);
                assert_eq!(lines(&mesh, LAST_GOOD), time);
                assert_eq!(lines(&mesh, "the configuration is in force"), time + 1);
            }
            // From one bad configuration to another, and back.
            update(BAD);
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 1));
            update(BAD_TOO);
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 1));
            update(BAD);
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 1));
            assert_eq!(lines(&mesh, LAST_GOOD), 7);
        }
    });
    promises::held(
        "Configuration",
        "meshtrace.config_invalid and the log tell of every change of the configuration",
        "good and bad in turn over ECDS, the same bad one again and again, bad after bad",
        "0 or 1 after each of 11 changes, and one line for each; 4 versions, 1 and 2 workers",
    );
}

#[test]
fn the_gauge_forgets_a_bad_plugin_that_is_removed() {
    each_supported(|envoy| {
        let bad = || listener("bad", vec![named("f", "bad", BAD).into()]);
        let good = listener("ingress", vec![named("f", "good", GOOD).into()]);
        let bootstrap = Bootstrap::new().listener(good).watched_listener(bad());
        let upstream = Upstream::start().expect("an upstream");
        let bootstrap = bootstrap.cluster(Cluster::http1("upstream", upstream.address()));
        let options = Options::default().argument("--drain-time-s").argument("1");
        let envoy = Envoy::start_with(envoy, bootstrap, options).expect("an Envoy that starts");
        let mesh = Mesh { envoy, upstream };
        for time in 1..3 {
            assert_eq!((formats(&mesh, "bad"), invalid(&mesh)), ("unchanged", 1));
            assert_eq!(lines(&mesh, INERT), time);
            mesh.envoy.remove_listener("bad").expect("a removal");
            let gauge = mesh.envoy.wait_for_stat(INVALID, |value| value == 0);
            gauge.expect("a gauge that is right");
            assert_eq!(formats(&mesh, "ingress"), "b3");
            mesh.envoy.update_listener(bad()).expect("the same again");
        }
    });
}

#[test]
fn two_plugins_without_a_name_of_their_own_start_and_do_not_share_a_configuration() {
    let orders = [[GOOD, BAD], [BAD, GOOD]];
    each_supported(|envoy| {
        for name in ["", "same"] {
            for order in orders {
                let [first, second] = order.map(|config| vec![named("f", name, config).into()]);
                let bootstrap = Bootstrap::new()
                    .listener(listener("first", first))
                    .listener(listener("second", second));
                let mesh = mesh(envoy, 2, bootstrap);
                for (listener, config) in ["first", "second"].into_iter().zip(order) {
                    let expected = if config == GOOD { "b3" } else { "unchanged" };
                    assert_eq!(formats(&mesh, listener), expected, "{name:?} {order:?}");
                }
                assert_eq!(invalid(&mesh), 1, "{name:?} {order:?}");
                assert_eq!(lines(&mesh, INERT), 1, "{name:?} {order:?}");
            }
            // In one listener.
            let both = [GOOD, BAD].map(|config| named("f", name, config).into());
            let mesh = mesh(
                envoy,
                1,
                Bootstrap::new().listener(listener("one", both.into())),
            );
            assert_eq!((formats(&mesh, "one"), invalid(&mesh)), ("b3", 1));
            assert_eq!(lines(&mesh, INERT), 1);
        }
    });
    promises::held(
        "Configuration",
        "A bad plugin costs no other plugin of its name, and no start",
        "two plugins of one name or none in one VM, good and bad, in one listener and in two, in both orders",
        "Envoy starts, the good one works, the bad one changes nothing; 4 versions, 2 workers",
    );
}

/// A good plugin of the same name in a listener that comes later: it looks like an update, until
/// there are requests.
#[test]
fn a_bad_plugin_does_not_run_what_is_in_force_in_another_listener() {
    each_supported(|envoy| {
        let with =
            |name: &str, config: &str| listener(name, vec![named("f", "same", config).into()]);
        let bootstrap = Bootstrap::new().watched_listener(with("first", BAD));
        let mesh = mesh(envoy, 2, bootstrap);
        assert_eq!((formats(&mesh, "first"), invalid(&mesh)), ("unchanged", 1));
        let update = |name: &str, config: &str| {
            mesh.envoy
                .update_listener(with(name, config))
                .expect("taken");
        };
        update("second", GOOD);
        for (listener, expected) in [("first", "unchanged"), ("second", "b3")].repeat(3) {
            assert_eq!(formats(&mesh, listener), expected, "{listener}");
        }
        // The first one's own last good configuration.
        update("first", OTHER);
        assert_eq!(formats(&mesh, "first"), "b3multi");
        update("first", BAD);
        assert_eq!(formats(&mesh, "first"), "b3multi");
        assert_eq!(formats(&mesh, "second"), "b3");
    });
    // In one filter chain, where each request passes both.
    each_supported(|envoy| {
        for is_first in [true, false] {
            let with = |configs: &[&str]| {
                let plugins = configs
                    .iter()
                    .map(|config| named("f", "same", config).into());
                listener("one", plugins.collect())
            };
            let bootstrap = Bootstrap::new().watched_listener(with(&[BAD]));
            let mesh = mesh(envoy, 2, bootstrap);
            assert_eq!(formats(&mesh, "one"), "unchanged");
            let both = if is_first { [BAD, GOOD] } else { [GOOD, BAD] };
            mesh.envoy.update_listener(with(&both)).expect("taken");
            let extracted = || {
                let counter = "wasmcustom.meshtrace.trace_context.extracted.tracecontext";
                mesh.envoy.stat(counter).unwrap_or_default()
            };
            let before = extracted();
            assert_eq!(formats(&mesh, "one"), "b3");
            assert_eq!(extracted() - before, 8, "one filter reads each request");
        }
    });
    promises::held(
        "Configuration",
        "A bad plugin does not run the configuration of a good one of its name beside it",
        "the good one is added later in another listener, and in the same chain before and behind it; requests to both in \
         turn; then an update of the bad one, and back",
        "nothing, then its own last good configuration; 4 versions, 2 workers",
    );
}

#[test]
fn a_new_listener_with_a_bad_plugin_is_never_refused() {
    each_supported(|envoy| {
        for name in ["", "same", "other"] {
            let first = || listener("first", vec![named("f", "same", GOOD).into()]);
            let bootstrap = Bootstrap::new().watched_listener(first());
            let mesh = mesh(envoy, 2, bootstrap);
            assert_eq!(formats(&mesh, "first"), "b3");
            let second = || listener("second", vec![named("f", name, BAD).into()]);
            let update = |listener| mesh.envoy.update_listener(listener).expect("taken");
            update(second());
            // Envoy's API: a plugin's name is its own.
            let expected = if name == "same" { "b3" } else { "unchanged" };
            assert_eq!((formats(&mesh, "second"), invalid(&mesh)), (expected, 1));
            assert_eq!(formats(&mesh, "first"), "b3");
            mesh.envoy.remove_listener("first").expect("a removal");
            thread::sleep(Duration::from_millis(300));
            update(listener("first", vec![named("f", name, BAD_TOO).into()]));
            assert_eq!(status(&mesh, "first"), 200);
        }
    });
}

/// Envoy itself refuses the listener, after it has loaded the plugin: what was in force before is
/// in force again.
#[test]
fn a_listener_that_envoy_refuses_leaves_no_trace() {
    each_supported(|envoy| {
        for config in [OTHER, BAD] {
            let ingress = |config: &str, more: Vec<HttpFilter>| {
                let own: HttpFilter = plugin(config).into();
                listener("ingress", [vec![own], more].concat())
            };
            let bootstrap = Bootstrap::new().watched_listener(ingress(GOOD, vec![]));
            let mesh = mesh(envoy, 2, bootstrap);
            // Envoy reads the whole file, and makes the filters in their order.
            let unknown = json!({"@type": "type.googleapis.com/google.protobuf.StringValue"});
            let broken = vec![HttpFilter::raw("broken", unknown)];
            let update = |listener| mesh.envoy.update_listener(listener);
            let refusal = update(ingress(config, broken)).expect_err("Envoy must not take it");
            assert!(matches!(refusal, Error::UpdateRefused { .. }), "{refusal}");
            let gauge = mesh.envoy.wait_for_stat(INVALID, |value| value == 0);
            gauge.expect("a gauge that is right");
            assert_eq!(formats(&mesh, "ingress"), "b3");
            update(ingress(BAD_TOO, vec![])).expect("an update that is taken");
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 1));
        }
    });
}

#[test]
fn a_new_version_that_refuses_its_configuration_runs_the_last_good_one() {
    each_supported(|envoy| {
        let discovered = listener("ingress", vec![plugin(GOOD).discovered()]);
        let mesh = mesh(envoy, 2, Bootstrap::new().listener(discovered));
        assert_eq!(formats(&mesh, "ingress"), "b3");
        // Another environment is another VM, as another module is.
        let new = |config: &str| plugin(config).env("VERSION", "2");
        under_load(&mesh, || {
            let update = mesh.envoy.update_extension(new(BAD));
            update.expect("an update that is taken");
        });
        assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 1));
        let update = mesh.envoy.update_extension(new(OTHER));
        update.expect("an update that is taken");
        assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 0));
    });
}

/// Strict is for the first load: an update has something to run.
#[test]
fn strict_refuses_a_first_load_and_holds_back_no_update() {
    each_supported(|envoy| {
        let strict = |config: &str| plugin(config).env("MESHTRACE_STRICT", "1");
        let ingress = |config: &str| listener("ingress", vec![strict(config).into()]);
        let bootstrap = Bootstrap::new().watched_listener(ingress(GOOD));
        let mesh = mesh(envoy, 2, bootstrap);
        let update = |listener| mesh.envoy.update_listener(listener);
        update(ingress(BAD)).expect("an update that is taken");
        assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 1));
        let new = named("f", "new", BAD).env("MESHTRACE_STRICT", "1");
        let refused = update(listener("new", vec![new.into()])).expect_err("a refusal");
        assert!(
            refused.to_string().contains("MESHTRACE_STRICT=1"),
            "{refused}"
        );
        update(ingress(OTHER)).expect("an update that is taken");
        assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3multi", 0));
    });
}

/// Without a name there is no last good configuration, and a refusal would hold back other changes.
#[test]
fn strict_holds_back_no_change_of_a_plugin_without_a_name() {
    each_supported(|envoy| {
        for workers in [1, 2] {
            let strict =
                |config: &str| named("trace_context", "", config).env("MESHTRACE_STRICT", "1");
            let ingress = |filters: Vec<HttpFilter>| listener("ingress", filters);
            let discovered = || strict(GOOD).discovered();
            let bootstrap = Bootstrap::new().watched_listener(ingress(vec![discovered()]));
            let mesh = mesh(envoy, workers, bootstrap);
            assert_eq!((formats(&mesh, "ingress"), invalid(&mesh)), ("b3", 0));
            let update = |config: &str| {
                let update = mesh.envoy.update_extension(strict(config));
                update.expect("an update that is taken");
            };
            for _ in 0..2 {
                update(BAD);
                assert_eq!(
                    (formats(&mesh, "ingress"), invalid(&mesh)),
                    ("unchanged", 1)
                );
                let rule = mesh
                    .envoy
                    .update_listener(ingress(vec![deny(), discovered()]));
                rule.expect("a rule that lands");
                assert_eq!(status(&mesh, "ingress"), 403);
                let rule = mesh.envoy.update_listener(ingress(vec![discovered()]));
                rule.expect("a rule that goes");
                // The very same text as before.
                update(GOOD);
                let gauge = mesh.envoy.wait_for_stat(INVALID, |value| value == 0);
                gauge.expect("a gauge that is right");
                assert_eq!(formats(&mesh, "ingress"), "b3");
            }
        }
    });
    // At first load it refuses.
    each_supported(|envoy| {
        let strict = named("f", "", BAD).env("MESHTRACE_STRICT", "1");
        let upstream = Upstream::start().expect("an upstream");
        let bootstrap = Bootstrap::new()
            .listener(listener("ingress", vec![strict.into()]))
            .cluster(Cluster::http1("upstream", upstream.address()));
        let refusal = Envoy::start(envoy, bootstrap).expect_err("a refused start");
        assert!(
            refusal.to_string().contains("MESHTRACE_STRICT=1"),
            "{refusal}"
        );
    });
}

#[test]
fn a_refusal_is_one_short_line_whatever_it_refuses() {
    let long = "k".repeat(10_000_000);
    let forged = r#"{"a\n[2026-01-01][1][critical][main] b": 1}"#;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let many = |mistakes: usize, length: usize| {
        let keys = (0..mistakes).map(|i| format!("\"{i}{}\": 1", "k".repeat(length)));
        format!("{{{}}}", keys.collect::<Vec<_>>().join(","))
    };
    let all = [
        format!(r#"{{"{long}": 1}}"#),
        format!(r#"{{"inject": "{long}"}}"#),
        format!(r#"{{"inject": ["{long}"]}}"#),
        format!(r#"{{"clear": ["{long} {long}"]}}"#),
        forged.to_owned(),
        deep,
        many(2, 200),
        many(20, 200),
        many(20, 60),
        many(20, 1),
        many(5_000, 10),
        // The place of each of them would take the time of reading all those before it.
        many(200_000, 10),
        format!(r#"{{"inject": [{}0]}}"#, "0,".repeat(500_000)),
    ];
    let tried = all.len();
    for bad in all {
        let mesh = Mesh::start(vec![("ingress", common::manager(plugin(&bad)))]);
        let log = mesh.envoy.wait_for_log(INERT).expect("the refusal");
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("trace_context"))
            .collect();
        let lines_of_refusal = lines.iter().filter(|line| line.contains(INERT));
        assert_eq!(lines_of_refusal.count(), 1, "{lines:?}");
        let longest = log.lines().map(str::len).max().unwrap_or_default();
        assert!(longest <= 2048, "{longest} bytes");
        assert!(!log.contains("\n[2026-01-01]"), "a forged line");
        assert_eq!(formats(&mesh, "ingress"), "unchanged");
    }
    promises::held(
        "Configuration",
        "A refusal is one short line, whatever the configuration holds",
        "keys and values of 10 MB, a key with a line feed and a log prefix, 10,000 levels, 2 to 500,000 mistakes",
        &format!("one line of at most 2,048 bytes each, and none forged; {tried} configurations"),
    );
}
