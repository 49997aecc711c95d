//! Who still sends one format alone, as Envoy's own metrics show it: by format and by direction.

use std::thread;

use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, TrafficDirection,
};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, get, manager, text, trace_context};
use serde_json::Value;

/// The `stats_config` that the reference shows.
fn shown() -> Value {
    let reference = text("docs/trace_context.md");
    let (_, block) = reference
        .split_once("```yaml\nstats_config:")
        .expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    serde_saphyr::from_str(&format!("stats_config:{block}")).expect("YAML")
}

const DIRECTIONS: [(&str, TrafficDirection); 3] = [
    ("inbound", TrafficDirection::Inbound),
    ("outbound", TrafficDirection::Outbound),
    ("unspecified", TrafficDirection::Unspecified),
];

fn on_every_envoy(promise: impl Fn(&EnvoyBinary) + Sync) {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        for envoy in &envoys {
            scope.spawn(|| promise(envoy));
        }
    });
}

/// Sends a different number of requests to each direction, and returns the `only` counters.
fn counted(mesh: &Mesh) -> Vec<(String, u64)> {
    let b3 = format!("{TRACE}-{SPAN}-1");
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
    for (i, (direction, _)) in DIRECTIONS.iter().enumerate() {
        let mut connection = mesh.connect(direction);
        let mut send = |headers: &[(&str, &str)], count: usize| {
            for _ in 0..count {
                mesh.pass(&mut connection, &get(headers));
            }
        };
        send(&[("b3", &b3)], 1 + i);
        send(&multi, 4 + i);
        send(&[("b3", &b3), ("traceparent", &traceparent)], 7);
        send(&[], 7);
    }
    let stats = mesh.envoy.stats().expect("the counters");
    let only = stats.into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("wasmcustom.meshtrace.trace_context.only.")?;
        Some((name.to_owned(), value))
    });
    only.collect()
}

fn assert_told_apart(mesh: &Mesh, case: &str) {
    let expected = [
        ("b3.inbound", 1),
        ("b3.outbound", 2),
        ("b3.unspecified", 3),
        ("b3multi.inbound", 4),
        ("b3multi.outbound", 5),
        ("b3multi.unspecified", 6),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(counted(mesh), expected, "{case}");
}

#[test]
fn one_configuration_on_listeners_of_every_direction_is_counted_by_direction() {
    on_every_envoy(|binary| {
        let listeners = DIRECTIONS.map(|(name, direction)| {
            // To the letter the same plugin in the same VM; from 1.40 on it is one root context.
            Listener::http(name, manager(trace_context(""))).direction(direction)
        });
        let bootstrap = listeners
            .into_iter()
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Mesh::with(binary, bootstrap.merge(shown()));
        assert_told_apart(&mesh, binary.reported_version());

        let page = mesh
            .envoy
            .admin("GET", "/stats/prometheus")
            .expect("the page");
        let page = page.text();
        for (format, direction, value) in [
            ("b3", "inbound", 1),
            ("b3", "outbound", 2),
            ("b3multi", "unspecified", 6),
        ] {
            let line = format!(
                "meshtrace_trace_context_only{{direction=\"{direction}\",format=\"{format}\"}} {value}\n"
            );
            let swapped = format!(
                "meshtrace_trace_context_only{{format=\"{format}\",direction=\"{direction}\"}} {value}\n"
            );
            let lines: Vec<_> = page.lines().filter(|line| line.contains("only")).collect();
            assert!(
                page.contains(&line) || page.contains(&swapped),
                "{line} in {lines:#?}"
            );
        }
        let extracted = "meshtrace_trace_context_extracted{format=\"b3multi\"} 15\n";
        assert!(page.contains(extracted), "{page}");
        assert_eq!(
            mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

#[test]
fn one_discovered_configuration_is_counted_by_direction() {
    on_every_envoy(|binary| {
        let discovered = || -> HttpFilter { trace_context("").discovered() };
        let listeners = DIRECTIONS.map(|(name, direction)| {
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("upstream"))
                .filter(discovered());
            Listener::http(name, manager).direction(direction)
        });
        let bootstrap = listeners
            .into_iter()
            .fold(Bootstrap::new(), Bootstrap::listener);
        let mesh = Mesh::with(binary, bootstrap);
        assert_told_apart(&mesh, binary.reported_version());
    });
}
