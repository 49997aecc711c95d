//! What Envoy's own counters add to a finding.

use super::{CONTEXT, LOADED, PROPAGATION, REPORT, dump, examine, stats};

const REPORTING: &str =
    r#"{"report": {"cluster": "collector"}, "sampling": {"default": "always"}}"#;

#[test]
fn an_export_that_fails_is_explained_by_the_cluster_s_counters() {
    let cases: [(&[(&str, u64)], &str); 5] = [
        (&[], "that no policy of the collector forbids it"),
        (
            &[
                ("cluster.collector.membership_healthy", 0),
                ("cluster.collector.upstream_cx_connect_fail", 3),
            ],
            "the cluster collector has no healthy endpoint",
        ),
        (
            &[
                ("cluster.collector.membership_healthy", 1),
                ("cluster.collector.upstream_cx_connect_fail", 3),
            ],
            "3 connections to the cluster collector could not be made",
        ),
        (
            &[
                ("cluster.collector.upstream_cx_connect_fail", 3),
                ("cluster.collector.ssl.connection_error", 2),
                ("cluster.collector.ssl.fail_verify_san", 1),
            ],
            "TLS with the cluster collector failed 3 times (`cluster.collector.ssl.*`)",
        ),
        (
            &[(
                "cluster.collector.upstream_cx_destroy_remote_with_active_rq",
                4,
            )],
            "the cluster collector closed 4 connections without an answer",
        ),
    ];
    for (own, sentence) in cases {
        let failed = [
            ("wasmcustom.meshtrace.report.calls", 2),
            ("wasmcustom.meshtrace.report.retries", 2),
        ];
        let values: Vec<_> = failed.iter().chain(own).copied().collect();
        let names = [LOADED, PROPAGATION, REPORT];
        let diagnosis = examine(
            &dump("mesh_tracing", REPORTING),
            stats(&names, &[]),
            stats(&names, &values),
        );
        let messages: Vec<_> = diagnosis
            .report
            .findings
            .iter()
            .filter(|finding| finding.code.as_str() == "MT121")
            .map(|finding| finding.message.as_str())
            .collect();
        let [message] = messages[..] else {
            panic!("{diagnosis:#?}");
        };
        assert!(message.contains(sentence), "{message}");
    }
}

#[test]
fn a_gauge_of_a_listener_that_drains_is_told_so() {
    let message = |draining: u64| {
        let values = [
            ("wasmcustom.meshtrace.config_invalid", 1),
            ("wasmcustom.meshtrace.config_invalid.plugin.own", 1),
            ("listener_manager.total_filter_chains_draining", draining),
        ];
        let last = stats(&[LOADED, PROPAGATION], &values);
        let diagnosis = examine(&dump("trace_context", CONTEXT), last.clone(), last);
        let mut findings = diagnosis.report.findings.into_iter();
        let found = findings.find(|finding| finding.code.as_str() == "MT110");
        found.map(|finding| finding.message).unwrap_or_default()
    };
    assert!(
        message(2).contains("2 listeners or filter chains drain"),
        "{}",
        message(2)
    );
    assert!(
        message(0).contains("the module may be older"),
        "{}",
        message(0)
    );
}
