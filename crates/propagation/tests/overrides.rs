//! What one destination gets in place of what the rest gets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Left, ids, parse, run_to};
use meshtrace_propagation::Peer;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn run(config: &str, sent: &str, cluster: Option<&str>) -> Left {
    run_to(config, &parse(sent), Peer::default(), cluster)
}

/// Which of the formats left, of a context that came in W3C.
fn formats(config: &str, host: &str, cluster: Option<&str>) -> Vec<&'static str> {
    let sent = [
        (":authority".to_owned(), host.into()),
        ("traceparent".to_owned(), ids("00-$T-$S-01").into()),
    ];
    let left = run_to(config, &sent.into(), Peer::default(), cluster);
    ["traceparent", "b3", "x-b3-traceid", "uber-trace-id"]
        .into_iter()
        .filter(|name| left.header(name).is_some())
        .collect()
}

#[test]
fn the_first_match_replaces_what_it_names_and_inherits_the_rest() {
    let config = r#"{
        "inject": ["tracecontext", "b3"], "clear": ["jaeger"],
        "overrides": [
            {"cluster": "partner", "inject": [], "clear": ["tracecontext"]},
            {"host": "b3.example.com", "inject": ["b3multi"]},
            {"cluster": "legacy", "inject": ["jaeger"], "clear": ["tracecontext"]},
            {"host": "*.example.com.", "clear": ["tracecontext", "b3"]},
            {"host": "a.example.com", "inject": ["b3multi"]},
            {"host": "[2001:db8::1]", "inject": ["b3multi"]},
            {"cluster": "kept", "inject": "preserve"}
        ]
    }"#;
    let all = vec!["traceparent", "b3"];
    let multi = vec!["traceparent", "x-b3-traceid"];
    for (host, cluster, expected) in [
        ("elsewhere", None, &all),
        ("elsewhere", Some("other"), &all),
        ("elsewhere", Some("partner"), &vec![]),
        // To the letter.
        ("elsewhere", Some("Partner"), &all),
        ("elsewhere", Some("partner2"), &all),
        ("elsewhere", Some("partne"), &all),
        ("elsewhere", Some(""), &all),
        ("elsewhere", Some("legacy"), &vec!["uber-trace-id"]),
        ("elsewhere", Some("kept"), &vec!["traceparent"]),
        // Whatever case, port and final dot.
        ("b3.example.com", None, &multi),
        ("B3.Example.COM:8443", None, &multi),
        ("b3.example.com.", None, &multi),
        ("b3.example.com.:80", None, &multi),
        ("[2001:db8::1]", None, &multi),
        ("[2001:DB8::1]:443", None, &multi),
        ("[2001:db8::2]:443", None, &all),
        // Below the domain, at any depth, and not beside it. The earlier entry wins.
        ("a.example.com", None, &vec![]),
        ("x.y.example.com", None, &vec![]),
        ("example.com", None, &all),
        (".example.com", None, &all),
        ("an-example.com", None, &all),
        // Either may match first.
        ("a.example.com", Some("legacy"), &vec!["uber-trace-id"]),
        ("b3.example.com", Some("legacy"), &multi),
        ("b3.example.com", Some("partner"), &vec![]),
        ("", None, &all),
        (":", None, &all),
        ("\u{e9}\u{1f600}", None, &all),
    ] {
        assert_eq!(
            formats(config, host, cluster),
            *expected,
            "{host}, {cluster:?}"
        );
    }
}

#[test]
fn a_request_without_an_authority_matches_no_host() {
    let config = r#"{"overrides": [{"host": "a", "inject": [], "clear": ["tracecontext"]}]}"#;
    let left = run(config, "traceparent: 00-$T-$S-01", None);
    assert!(left.header("traceparent").is_some());
}

#[test]
fn nothing_of_any_format_is_left_where_all_are_cleared() {
    let everything = "traceparent: 00-$T-$S-01
        tracestate: a=1
        b3: $T-$S-1
        x-b3-traceid: $T
        x-b3-spanid: $S
        x-b3-parentspanid: $P
        x-b3-sampled: 1
        x-b3-flags: 1
        uber-trace-id: $T:$S:0:1
        uberctx-user: 1
        ot-tracer-traceid: $T
        ot-tracer-spanid: $S
        ot-tracer-sampled: true
        ot-baggage-user: 1
        x-ot-span-context: opaque
        x-amzn-trace-id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7
        x-cloud-trace-context: $T/1;o=1
        x-datadog-trace-id: 1
        x-datadog-parent-id: 2
        x-datadog-sampling-priority: 1
        x-datadog-origin: rum
        x-datadog-tags: a=b
        grpc-trace-bin: AABL
        sw8: 1
        baggage: a=1
        x-request-id: 7
        accept: */*";
    let malformed = "traceparent: junk
        tracestate:
        b3: junk
        x-b3-traceid: junk
        accept: */*";
    let entry = r#"{"cluster": "partner", "inject": [], "clear": ["tracecontext", "b3", "b3multi", "jaeger",
        "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin", "sw8", "x-ot-span-context", "baggage",
        "x-request-id"]}"#;
    for top in [
        "",
        r#""inject": "preserve","#,
        r#""on_missing": "generate", "baggage_from": ["jaeger", "ottrace"],"#,
        r#""incoming": "ignore","#,
        r#""incoming": "restart", "on_missing": "generate","#,
        r#""placement": "upstream", "tracer": "tracecontext","#,
        r#""placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext", "jaeger"],"#,
        r#""placement": "upstream", "tracer": "xray", "inject": "preserve","#,
    ] {
        let config = format!(r#"{{{top} "overrides": [{entry}]}}"#);
        for sent in [everything, malformed] {
            let left = run(&config, sent, Some("partner"));
            assert_eq!(left.text(), ["accept: */*"], "{top}");
        }
        let left = run(&config, "accept: */*", Some("partner"));
        assert_eq!(left.text(), ["accept: */*"], "{top}");
    }
}

#[test]
fn what_an_entry_clears_it_does_not_inherit_for_writing() {
    let config = r#"{"inject": ["tracecontext", "b3"],
        "overrides": [{"cluster": "w3c", "clear": ["b3"]}]}"#;
    let left = run(config, "b3: $T-$S-1", Some("w3c"));
    assert_eq!(left.text(), [ids("traceparent: 00-$T-$S-01")]);
}
