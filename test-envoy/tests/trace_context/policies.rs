//! What only a real host can show of the policies: filter state, addresses, directions, counters.

use envoy_test_harness::config::{Bootstrap, Listener, TrafficDirection};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{
    Mesh, SPAN, TRACE, get, manager, trace_context, trace_headers,
};
use serde_json::json;

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

fn restart(when: &str) -> String {
    format!(r#"{{"incoming": {{"mode": "restart", "when": {when}}}}}"#)
}

/// Whether the request that left `listener` carries the caller's trace.
fn continues(mesh: &Mesh, listener: &str) -> bool {
    let request = get(&[("traceparent", &traceparent())]);
    let left = trace_headers(&mesh.pass(&mut mesh.connect(listener), &request));
    left.iter().any(|header| header.contains(TRACE))
}

#[test]
fn trust_is_decided_by_the_address_and_the_direction_that_envoy_knows() {
    each_supported(|envoy| {
        let listener =
            |name: &str, when: &str| Listener::http(name, manager(trace_context(&restart(when))));
        let bootstrap = Bootstrap::new()
            .listener(listener(
                "loopback",
                r#"{"not_from_cidrs": ["127.0.0.0/8"]}"#,
            ))
            .listener(listener(
                "elsewhere",
                r#"{"not_from_cidrs": ["10.0.0.0/8"]}"#,
            ))
            .listener(
                listener("inbound", r#"{"direction": "inbound"}"#)
                    .direction(TrafficDirection::Inbound),
            )
            .listener(
                listener("outbound", r#"{"direction": "inbound"}"#)
                    .direction(TrafficDirection::Outbound),
            )
            .listener(listener("standalone", r#"{"direction": "inbound"}"#));
        let mesh = Mesh::with(envoy, bootstrap);
        for (listener, expected) in [
            ("loopback", true),
            ("elsewhere", false),
            ("inbound", false),
            ("outbound", true),
            ("standalone", true),
        ] {
            let version = envoy.reported_version();
            assert_eq!(
                continues(&mesh, listener),
                expected,
                "{listener} on {version}"
            );
        }
        assert_eq!(
            mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0)
        );
    });
}

#[test]
fn the_trace_that_was_not_continued_is_in_the_access_log() {
    each_supported(|envoy| {
        let manager = manager(trace_context(r#"{"incoming": "restart"}"#)).access_log(json!({
            "previous": "%FILTER_STATE(wasm.previous_trace_id:PLAIN)%",
            "traceparent": "%REQ(traceparent)%",
        }));
        let mesh = Mesh::start_on(envoy, vec![("ingress", manager)]);
        assert!(!continues(&mesh, "ingress"));
        let log = mesh.envoy.access_log("ingress");
        let lines = log.wait_for_lines(1).expect("a line");
        let line = lines.first().expect("a line");
        assert_eq!(line["previous"], TRACE);
        assert_ne!(line["traceparent"], traceparent());
    });
}

#[test]
fn every_verdict_is_a_counter_of_envoy() {
    let mesh = Mesh::start(vec![("ingress", manager(trace_context("")))]);
    let mut connection = mesh.connect("ingress");
    let other = "80f198ee56343ba864fe8b2a57d3eff7";
    for (headers, counters) in [
        (vec![], vec!["missing"]),
        (vec![("b3", "0".to_owned())], vec!["sampling_only"]),
        (
            vec![
                ("traceparent", traceparent()),
                ("b3", format!("{other}-{SPAN}-1")),
            ],
            vec!["extracted.tracecontext", "conflicts.trace_id"],
        ),
        (
            vec![
                ("traceparent", "junk".to_owned()),
                ("b3", format!("{TRACE}-{SPAN}")),
            ],
            vec![
                "deferred",
                "extracted.b3",
                "malformed.traceparent",
                "only.b3.unspecified",
            ],
        ),
    ] {
        let stats = || mesh.envoy.stats().expect("the counters");
        let before = stats();
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        mesh.pass(&mut connection, &get(&headers));
        let moved: Vec<_> = stats()
            .into_iter()
            .filter(|(name, value)| {
                name.contains("meshtrace") && before.get(name).copied().unwrap_or(0) != *value
            })
            .collect();
        let mut expected: Vec<_> = counters
            .iter()
            .map(|counter| format!("wasmcustom.meshtrace.trace_context.{counter}"))
            .collect();
        expected.sort();
        let names: Vec<_> = moved.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, expected, "{headers:?}");
    }
    let prometheus = mesh
        .envoy
        .admin("GET", "/stats/prometheus")
        .expect("the page");
    let name = "meshtrace_trace_context_conflicts_trace_id";
    assert!(prometheus.text().contains(name), "{name}");
}

#[test]
fn a_load_balancers_trace_id_is_continued_where_spans_are_started() {
    each_supported(|envoy| {
        let extract = r#""extract": ["tracecontext", "xray"]"#;
        let generate = format!(r#"{{{extract}, "on_missing": "generate"}}"#);
        let mesh = Mesh::start_on(
            envoy,
            vec![
                ("generate", manager(trace_context(&generate))),
                ("pass", manager(trace_context(&format!("{{{extract}}}")))),
            ],
        );
        let root = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
        let send = |listener| {
            let request = get(&[("x-amzn-trace-id", root)]);
            let left = mesh.pass(&mut mesh.connect(listener), &request);
            let text = |name| left.header_text(name);
            (text("traceparent"), text("x-amzn-trace-id"))
        };
        let version = envoy.reported_version();
        let (traceparent, xray) = send("generate");
        let traceparent = traceparent.expect("a traceparent");
        let span = traceparent.split('-').nth(2).expect("a span").to_owned();
        assert_eq!(traceparent, format!("00-{TRACE}-{span}-00"), "{version}");
        let told = format!("{root};Parent={span};Sampled=0");
        assert_eq!(xray, Some(told), "{version}");

        assert_eq!(send("pass"), (None, Some(root.to_owned())), "{version}");
        let counter = "wasmcustom.meshtrace.trace_context.incomplete";
        assert_eq!(mesh.envoy.stat(counter).ok(), Some(2), "{version}");
    });
}

#[test]
fn workers_and_listeners_share_nothing_but_the_counters() {
    let mesh = Mesh::start(vec![
        ("single", manager(trace_context(r#"{"inject": ["b3"]}"#))),
        (
            "multi",
            manager(trace_context(r#"{"inject": ["b3multi"]}"#)),
        ),
    ]);
    for listener in ["single", "multi", "single"] {
        let request = get(&[("traceparent", &traceparent())]);
        let left = trace_headers(&mesh.pass(&mut mesh.connect(listener), &request));
        let single = left.iter().any(|header| header.starts_with("b3: "));
        assert_eq!(single, listener == "single", "{left:?}");
        assert_eq!(left.len(), if single { 2 } else { 4 }, "{left:?}");
    }
}
