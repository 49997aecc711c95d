//! What is found in a running Envoy: a dump, and two looks at its counters.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod native;
mod reasons;

use std::collections::BTreeSet;

use meshtrace_check::{Code, Diagnosis, Input, Observed, Options, State, Stats, diagnose};
use serde_json::{Value, json};

/// The counters that Envoy 1.40 shows, as far as they matter here, of a filter that has seen nothing.
const LOADED: &[&str] = &[
    "wasm.wasm_vm_count",
    "wasm.remote_load_fetch_failures",
    "wasm.remote_load_fetch_successes",
    "wasm.own.vm_reload_failure",
    "http.ingress.downstream_rq_total",
    "wasmcustom.meshtrace.config_invalid",
    "wasmcustom.meshtrace.host_errors",
];

const PROPAGATION: &[&str] = &[
    "wasmcustom.meshtrace.trace_context.extracted.tracecontext",
    "wasmcustom.meshtrace.trace_context.malformed.traceparent",
    "wasmcustom.meshtrace.trace_context.missing",
    "wasmcustom.meshtrace.trace_context.edits_dropped",
];

const REPORT: &[&str] = &[
    "wasmcustom.meshtrace.report.exported",
    "wasmcustom.meshtrace.report.rejected",
    "wasmcustom.meshtrace.report.calls",
    "wasmcustom.meshtrace.report.retries",
    "wasmcustom.meshtrace.report.dropped.queue_full",
    "wasmcustom.meshtrace.report.dropped.refused",
    "wasmcustom.meshtrace.report.dropped.expired",
    "wasmcustom.meshtrace.report.dropped.unknown_cluster",
];

fn stats(names: &[&[&str]], values: &[(&str, u64)]) -> Stats {
    let mut stats: Vec<_> = names
        .iter()
        .flat_map(|names| names.iter())
        .map(|name| json!({"name": name, "value": 0}))
        .collect();
    for (name, value) in values {
        stats.retain(|stat| stat["name"] != *name);
        stats.push(json!({"name": name, "value": value}));
    }
    stats.push(json!({"name": "a.text", "value": "a text"}));
    stats.push(json!({"histograms": {"supported_quantiles": [0, 25]}}));
    Stats::read(json!({"stats": stats}).to_string().as_bytes()).expect("counters")
}

/// A listener with one filter, as `/config_dump` shows it.
fn dump(module: &str, config: &str) -> Value {
    let plugin = json!({
        "name": "own",
        "failure_policy": "FAIL_OPEN",
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": format!("/{module}.wasm")}},
        },
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": config,
        },
    });
    let wasm = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [
            {"name": "own", "typed_config": {"@type": wasm, "config": plugin}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": router}},
        ],
    });
    let listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "ingress",
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    });
    let cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "collector",
        "type": "STATIC",
    });
    json!({"configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "static_clusters": [{"cluster": cluster}],
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "static_listeners": [{"listener": listener}],
        },
    ]})
}

fn examine(dump: &Value, before: Stats, after: Stats) -> Diagnosis {
    let observed = Observed {
        dump: Input {
            name: "http://admin/config_dump".to_owned(),
            bytes: dump.to_string().into_bytes(),
        },
        stats: "http://admin/stats".to_owned(),
        before,
        after,
        seconds: 5,
    };
    diagnose(&observed, &Options::default())
}

fn codes(diagnosis: &Diagnosis) -> Vec<&'static str> {
    let findings = diagnosis.report.findings.iter();
    findings.map(|finding| finding.code.as_str()).collect()
}

const CONTEXT: &str = r#"{"inject": ["b3"]}"#;
const REPORTING: &str = r#"{"report": {"cluster": "collector", "role": "server"}, "trace_context": {}, "sampling": {"default": {"ratio": 0.5}}}"#;

/// A run whose counters move by what is said, from 0 where nothing else is.
fn run(module: &str, config: &str, before: &[(&str, u64)], after: &[(&str, u64)]) -> Diagnosis {
    let full = |values: &[(&str, u64)]| -> Stats {
        let names = |(name, value): &(&str, u64)| {
            let is_envoys = name.starts_with("wasm.") || name.starts_with("http.");
            let prefix = if is_envoys {
                ""
            } else {
                "wasmcustom.meshtrace."
            };
            (format!("{prefix}{name}"), *value)
        };
        let values: Vec<_> = values.iter().map(names).collect();
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        let own = match module {
            "mesh_tracing" => REPORT,
            _ => &[],
        };
        stats(&[LOADED, PROPAGATION, own], &values)
    };
    let dump = dump(module, config);
    examine(&dump, full(before), full(after))
}

const TRAFFIC: (&str, u64) = ("trace_context.extracted.tracecontext", 10);

#[test]
fn what_the_counters_say() {
    let report = |before: &[(&str, u64)], after: &[(&str, u64)]| {
        let after: Vec<_> = [TRAFFIC].iter().chain(after).copied().collect();
        run("mesh_tracing", REPORTING, before, &after)
    };
    let context = |before: &[(&str, u64)], after: &[(&str, u64)]| {
        run("trace_context", CONTEXT, before, after)
    };
    let malformed = "trace_context.malformed.traceparent";
    let rules = |name: &str, count: u64| context(&[], &[TRAFFIC, (name, count)]);
    let arrived = ("http.ingress.downstream_rq_total", 7);
    let cases = [
        // All is well.
        (context(&[], &[TRAFFIC]), ""),
        (
            report(&[], &[("report.calls", 1), ("report.exported", 10)]),
            "",
        ),
        // A call that is not answered yet.
        (report(&[], &[("report.calls", 1)]), ""),
        // What was, and is over.
        (
            report(
                &[("report.dropped.refused", 4), ("report.retries", 9)],
                &[
                    ("report.dropped.refused", 4),
                    ("report.retries", 9),
                    ("report.exported", 10),
                ],
            ),
            "",
        ),
        (
            context(&[("host_errors", 2)], &[TRAFFIC, ("host_errors", 2)]),
            "",
        ),
        // The export.
        (
            report(&[], &[("report.calls", 1), ("report.dropped.refused", 10)]),
            "MT120",
        ),
        (
            report(&[], &[("report.exported", 9), ("report.rejected", 1)]),
            "MT120",
        ),
        (
            report(&[], &[("report.calls", 2), ("report.retries", 2)]),
            "MT121",
        ),
        (
            report(&[("report.calls", 1)], &[("report.calls", 1)]),
            "MT121",
        ),
        (report(&[], &[("report.dropped.expired", 3)]), "MT121"),
        (
            report(&[], &[("report.exported", 9), ("report.retries", 1)]),
            "MT122",
        ),
        (
            report(
                &[],
                &[("report.exported", 9), ("report.dropped.queue_full", 1)],
            ),
            "MT123",
        ),
        (
            report(&[], &[("report.dropped.unknown_cluster", 1)]),
            "MT070",
        ),
        (report(&[], &[("report.not_sampled", 9)]), ""),
        (report(&[], &[("report.not_sampled", 10)]), "MT124"),
        (
            report(
                &[],
                &[
                    ("report.not_sampled", 99),
                    ("report.exported", 1),
                    ("report.calls", 1),
                ],
            ),
            "",
        ),
        // The requests.
        (context(&[], &[]), "MT130"),
        (
            run("mesh_tracing", REPORTING, &[], &[("report.not_sampled", 3)]),
            "",
        ),
        (context(&[], &[arrived]), "MT131"),
        (context(&[], &[(malformed, 5)]), "MT132"),
        (context(&[], &[(malformed, 4)]), ""),
        (context(&[], &[(malformed, 50), TRAFFIC]), ""),
        (context(&[], &[("trace_context.missing", 5)]), "MT133"),
        (rules("route_sampling.rule.no.dropped", 999), ""),
        (rules("route_sampling.rule.no.dropped", 1000), "MT134"),
        (rules("route_sampling.parent.sampled", 100), "MT135"),
        (
            report(
                &[],
                &[
                    ("report.exported", 40),
                    ("report.incoming.joined", 20),
                    ("report.outgoing.started", 20),
                ],
            ),
            "MT136",
        ),
        (context(&[], &[TRAFFIC, ("host_errors", 2)]), "MT115"),
        (
            context(&[("host_errors", 2)], &[("host_errors", 2)]),
            "MT115, MT130",
        ),
        (
            context(&[], &[TRAFFIC, ("trace_context.edits_dropped", 1)]),
            "MT116",
        ),
        (
            context(&[], &[TRAFFIC, ("route_sampling.force.off", 1)]),
            "MT018",
        ),
        // Modules.
        (
            context(&[], &[TRAFFIC, ("wasm.own.vm_reload_failure", 1)]),
            "MT114",
        ),
        (
            context(&[], &[TRAFFIC, ("wasm.other.vm_reload_failure", 1)]),
            "",
        ),
        (
            context(&[], &[TRAFFIC, ("wasm.remote_load_fetch_failures", 1)]),
            "MT114",
        ),
    ];
    let mut seen = BTreeSet::new();
    for (place, (diagnosis, expected)) in cases.iter().enumerate() {
        let findings = &diagnosis.report.findings;
        assert_eq!(
            codes(diagnosis).join(", "),
            *expected,
            "case {place}: {findings:#?}"
        );
        seen.extend(findings.iter().map(|finding| finding.code.as_str()));
        let all = findings.iter();
        assert!(
            all.clone()
                .all(|finding| finding.file == "http://admin/stats")
        );
        assert!(all.clone().all(|finding| finding.message.len() > 40));
        assert_eq!(
            diagnosis.filters.first().map(|filter| filter.state),
            Some(State::InForce)
        );
    }
    // Those that are about the filters themselves have tests of their own below.
    for code in Code::ALL.iter().filter(|code| code.as_str() >= "MT114") {
        assert!(
            seen.contains(code.as_str()) || *code == Code::NoFilter,
            "{code}"
        );
    }
}

#[test]
fn a_refused_configuration_is_told_with_what_runs() {
    let bad = r#"{"injct": ["b3"]}"#;
    let gauge = ("wasmcustom.meshtrace.config_invalid", 1);
    let state = |diagnosis: &Diagnosis| diagnosis.filters.first().expect("a filter").state;

    let inert = stats(&[LOADED], &[gauge]);
    let diagnosis = examine(&dump("trace_context", bad), inert.clone(), inert);
    assert_eq!(codes(&diagnosis), ["MT110", "MT011"]);
    assert_eq!(state(&diagnosis), State::Inert);

    let last = stats(&[LOADED, PROPAGATION], &[gauge]);
    let diagnosis = examine(&dump("trace_context", bad), last.clone(), last.clone());
    assert_eq!(codes(&diagnosis), ["MT110", "MT011", "MT130"]);
    assert_eq!(state(&diagnosis), State::Refused);

    // Nothing in the dump is wrong: another plugin, or an older module.
    let diagnosis = examine(&dump("trace_context", CONTEXT), last.clone(), last);
    assert!(codes(&diagnosis).contains(&"MT110"), "{diagnosis:#?}");
    assert_eq!(state(&diagnosis), State::InForce);
}

#[test]
fn a_filter_that_is_not_loaded_or_not_seen_is_told() {
    let state = |diagnosis: &Diagnosis| diagnosis.filters.first().expect("a filter").state;
    let dump = dump("trace_context", CONTEXT);

    let without = stats(&[&["wasm.wasm_vm_count"]], &[]);
    let diagnosis = examine(&dump, without.clone(), without);
    assert_eq!(codes(&diagnosis), ["MT112"]);
    assert_eq!(state(&diagnosis), State::NotLoaded);

    let hidden = stats(&[&["server.live"]], &[]);
    let diagnosis = examine(&dump, hidden.clone(), hidden.clone());
    assert_eq!(codes(&diagnosis), ["MT113"]);
    assert_eq!(state(&diagnosis), State::Unknown);

    let none = json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"},
    ]});
    let diagnosis = examine(&none, hidden.clone(), hidden);
    assert_eq!(codes(&diagnosis), ["MT117"]);
    assert!(diagnosis.filters.is_empty());
}

#[test]
fn an_update_that_envoy_rejected_is_told() {
    let mut dump = dump("trace_context", CONTEXT);
    let configs = dump.get_mut("configs").and_then(Value::as_array_mut);
    configs.expect("a list").push(json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "dynamic_listeners": [{
            "name": "egress",
            "error_state": {"details": "no such filter\n", "failed_configuration": {}},
        }],
    }));
    let busy = stats(
        &[LOADED, PROPAGATION],
        &[(
            "wasmcustom.meshtrace.trace_context.extracted.tracecontext",
            3,
        )],
    );
    let diagnosis = examine(&dump, stats(&[LOADED, PROPAGATION], &[]), busy);
    assert_eq!(codes(&diagnosis), ["MT111"]);
    let message = &diagnosis.report.findings.first().expect("one").message;
    assert!(message.contains("update of egress"), "{message}");
    assert!(message.ends_with(": no such filter"), "{message}");
}

#[test]
fn the_gauge_of_a_plugin_tells_which_of_them_is_refused() {
    let gauge = ("wasmcustom.meshtrace.config_invalid", 1);
    let state = |diagnosis: &Diagnosis| diagnosis.filters.first().expect("a filter").state;
    let own = "wasmcustom.meshtrace.config_invalid.plugin.own";
    let other = ("wasmcustom.meshtrace.config_invalid.plugin.a.b", 1);

    // The dump's plugin is well, and another one is not.
    let seen = stats(&[LOADED, PROPAGATION], &[gauge, (own, 0), other]);
    let diagnosis = examine(&dump("trace_context", CONTEXT), seen.clone(), seen);
    assert_eq!(state(&diagnosis), State::InForce);
    let findings = &diagnosis.report.findings;
    let finding = findings
        .iter()
        .find(|finding| finding.code == Code::NotInForce);
    let message = &finding.expect("a finding").message;
    assert!(message.starts_with("\"a.b\" runs without"), "{message}");

    // The dump's plugin is refused, although nothing in it looks wrong.
    let seen = stats(&[LOADED, PROPAGATION], &[gauge, (own, 1)]);
    let diagnosis = examine(&dump("trace_context", CONTEXT), seen.clone(), seen);
    assert_eq!(state(&diagnosis), State::Refused);
    let seen = stats(&[LOADED], &[gauge, (own, 1)]);
    let diagnosis = examine(&dump("trace_context", CONTEXT), seen.clone(), seen);
    assert_eq!(state(&diagnosis), State::Inert);
}

#[test]
fn counters_are_explained() {
    let diagnosis = run(
        "trace_context",
        CONTEXT,
        &[("trace_context.missing", 2)],
        &[
            TRAFFIC,
            ("trace_context.missing", 3),
            ("trace_context.only.b3.inbound", 4),
            ("route_sampling.rule.no.more.dropped", 5),
            ("config_invalid", 0),
        ],
    );
    let lines: Vec<_> = diagnosis
        .moved
        .iter()
        .map(|moved| format!("{} {} {}", moved.name, moved.by, moved.meaning))
        .collect();
    assert_eq!(
        lines,
        [
            "meshtrace.route_sampling.rule.no.more.dropped 5 The request was dropped by the rule \
             \"no.more\".",
            "meshtrace.trace_context.extracted.tracecontext 10 The context was taken from \
             `traceparent`.",
            "meshtrace.trace_context.missing 1 The request carried no usable context.",
            "meshtrace.trace_context.only.b3.inbound 4 A context arrived in b3 and in no other \
             format (inbound).",
        ]
    );
}

#[test]
fn other_documents_are_no_counters() {
    for text in ["", "<html>", "{}", "{\"stats\": 1}", "[]"] {
        assert_eq!(Stats::read(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn an_application_that_copies_no_header_is_found() {
    let judged = |before: [u64; 3], after: [u64; 3]| {
        let names = [
            "report.incoming.joined",
            "report.outgoing.joined",
            "report.outgoing.started",
        ];
        let before: Vec<_> = names.into_iter().zip(before).collect();
        let mut after: Vec<_> = names.into_iter().zip(after).collect();
        after.extend([TRAFFIC, ("report.exported", 10)]);
        run("mesh_tracing", REPORTING, &before, &after)
    };
    // What came in with a trace, what was sent with one, and what was sent without.
    for (before, after, expected) in [
        // Too few on either side.
        ([0, 0, 0], [19, 0, 20], false),
        ([0, 0, 0], [20, 0, 19], false),
        // A job sends of its own accord, and nobody asks it.
        ([0, 0, 0], [0, 0, 500], false),
        ([0, 0, 0], [500, 500, 0], false),
        // On some paths it does copy.
        ([0, 0, 0], [500, 1, 500], false),
        // It did not, and does now.
        ([90, 0, 90], [120, 30, 90], false),
        // It did, and does not now.
        ([90, 90, 0], [110, 90, 20], true),
        ([90, 90, 0], [109, 90, 20], false),
        // Since the start, however little moves.
        ([90, 0, 90], [91, 0, 91], true),
    ] {
        let diagnosis = judged(before, after);
        let found = if expected { vec!["MT136"] } else { vec![] };
        assert_eq!(codes(&diagnosis), found, "{before:?} {after:?}");
    }
    let diagnosis = judged([90, 90, 0], [115, 90, 21]);
    let finding = diagnosis.report.findings.first().expect("a finding");
    for part in [
        "25 in 5 seconds, 115 since the start",
        "21 in 5 seconds, 21 since the start",
    ] {
        assert!(finding.message.contains(part), "{}", finding.message);
    }
}
