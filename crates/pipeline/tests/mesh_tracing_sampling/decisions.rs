//! What is decided about a trace, and what of it leaves.

use meshtrace_sampling::Counter;

use crate::traced::{Filter, KEPT, LOST, S, T, assert_in_force, parent};

#[test]
fn any_parent_policy_decides_about_this_hop_and_the_next() {
    for (policy, randomness, flag, state, left_flag, left_state) in [
        ("respect", LOST, "01", "a=1", true, "a=1"),
        (
            "respect",
            LOST,
            "01",
            "a=1,ot=th:8;rv:ffffffffffffff",
            true,
            "a=1,ot=th:8;rv:ffffffffffffff",
        ),
        ("respect", LOST, "01", "a=1,ot=th:8", true, "a=1"),
        ("respect", LOST, "01", "ot=th:8", true, ""),
        ("respect", LOST, "00", "ot=th:8,a=1", false, "ot=th:8,a=1"),
        ("respect", KEPT, "00", "ot=th:8,a=1", false, "a=1"),
        ("ignore", LOST, "01", "a=1,ot=th:0;x:1", false, "ot=x:1,a=1"),
        ("ignore", KEPT, "00", "a=1", true, "ot=th:8,a=1"),
        (
            "ignore",
            LOST,
            "00",
            "ot=rv:ffffffffffffff",
            true,
            "ot=th:8;rv:ffffffffffffff",
        ),
        ("ignore", KEPT, "01", "ot=th:8", true, "ot=th:8"),
        ("ignore", KEPT, "01", "ot=th:c", true, "ot=th:8"),
        ("respect_sampled", LOST, "01", "ot=th:0", true, "ot=th:0"),
        ("respect_sampled", KEPT, "00", "", true, "ot=th:8"),
        ("respect_sampled", LOST, "00", "", false, ""),
        ("respect_dropped", KEPT, "00", "", false, ""),
        ("respect_dropped", LOST, "01", "", false, ""),
        ("respect_dropped", KEPT, "01", "ot=th:c", true, "ot=th:c"),
    ] {
        let sampling = format!(r#"{{"parent": "{policy}", "default": {{"ratio": 0.5}}}}"#);
        let mut filter = Filter::sampling(&sampling);
        let traceparent = parent(randomness, flag);
        let mut lines = vec![("traceparent", traceparent.as_str())];
        if !state.is_empty() {
            lines.push(("tracestate", state));
        }
        let left = filter.run(&lines);
        let what = format!("{policy} {randomness} {flag} {state}");
        assert_eq!(left.traceparent().0, left_flag, "{what}");
        assert_eq!(left.tracestate(), left_state, "{what}");
        assert_in_force(&left, &what);
        let counted = match (flag, left_flag) {
            ("01", true) => Counter::ParentSampled,
            ("00", false) => Counter::ParentDropped,
            _ => Counter::ParentChanged,
        };
        assert_eq!(left.counted[0], counted, "{what}");
    }
}

#[test]
fn a_trace_of_which_nobody_has_decided_follows_its_rule() {
    let sampling = r#"{"rules": [
        {"name": "keep", "match": {"path": {"prefix": "/keep"}}, "sample": "always"},
        {"name": "drop", "match": {"path": {"prefix": "/drop"}}, "sample": "never"},
        {"name": "rate", "match": {"path": {"prefix": "/rate"}}, "sample": {"per_second": 1}}
    ], "default": "unchanged", "force": {"header": "x-force", "value_env": "KEY"}}"#;
    let mut filter = Filter::sampling(sampling);
    // A B3 caller that leaves the decision open, with a trace id that one in a hundred keeps.
    let open = format!("{T}{KEPT}-{S}");
    for (path, more, sampled, state, counted, configured) in [
        (
            "/keep",
            None,
            true,
            "ot=th:0",
            &[][..],
            &["rule.keep.sampled"][..],
        ),
        ("/drop", None, false, "", &[], &["rule.drop.dropped"]),
        ("/rate", None, true, "", &[], &["rule.rate.sampled"]),
        ("/rate", None, false, "", &[], &["rule.rate.dropped"]),
        (
            "/drop",
            Some(("x-force", "hunter2")),
            true,
            "",
            &[Counter::Forced],
            &[],
        ),
        (
            "/drop",
            Some(("x-force", "hunter3")),
            false,
            "",
            &[Counter::ForceRefused],
            &["rule.drop.dropped"],
        ),
        (
            "/",
            Some(("b3", open.as_str())),
            true,
            "ot=th:fd70a4",
            &[Counter::ParentDeferred],
            &["default.unchanged"],
        ),
        (
            "/drop",
            Some(("b3", open.as_str())),
            false,
            "",
            &[Counter::ParentDeferred],
            &["rule.drop.dropped"],
        ),
        // A decision without ids stands as one that has some.
        (
            "/keep",
            Some(("b3", "0")),
            false,
            "",
            &[Counter::ParentDropped],
            &[],
        ),
        (
            "/drop",
            Some(("b3", "1")),
            true,
            "",
            &[Counter::ParentSampled],
            &[],
        ),
        // A list of no trace that is continued stays behind.
        (
            "/keep",
            Some(("tracestate", "ot=th:8,a=1")),
            true,
            "ot=th:0",
            &[],
            &["rule.keep.sampled"],
        ),
    ] {
        let lines: Vec<_> = [(":path", path)].into_iter().chain(more).collect();
        let left = filter.run(&lines);
        let what = format!("{lines:?}");
        assert_eq!(left.traceparent().0, sampled, "{what}");
        assert_eq!(left.tracestate(), state, "{what}");
        assert_eq!(left.counted, counted, "{what}");
        assert_eq!(left.configured, configured, "{what}");
        assert_eq!(left.header("x-force"), None, "{what}");
        assert_in_force(&left, &what);
    }
}

#[test]
fn a_debugged_trace_that_a_rule_drops_is_no_longer_one() {
    let mut filter = Filter::new(
        r#"{"trace_context": {"inject": ["tracecontext", "b3"]}, "report": {"cluster": "c"},
            "sampling": {"parent": "ignore", "default": "never"}}"#,
    );
    let left = filter.run(&[("b3", &format!("{T}{KEPT}-{S}-d"))]);
    let (sampled, trace_id, span_id) = left.traceparent();
    assert!(!sampled);
    let b3 = format!("{trace_id}-{span_id}-0-{S}");
    assert_eq!(left.header("b3"), Some(b3));
}

#[test]
fn the_secret_keeps_a_callers_trace_too() {
    let mut filter = Filter::sampling(r#"{"force": {"header": "x-force", "value_env": "KEY"}}"#);
    for (flags, state, expected) in [
        ("00", "ot=th:8,a=1", "a=1"),
        ("00", "a=1", "a=1"),
        ("01", "ot=th:8,a=1", "ot=th:8,a=1"),
    ] {
        let traceparent = parent(KEPT, flags);
        let left = filter.run(&[
            ("traceparent", &traceparent),
            ("tracestate", state),
            ("x-force", "hunter2"),
        ]);
        assert!(left.traceparent().0, "{flags} {state}");
        assert_eq!(left.tracestate(), expected, "{flags} {state}");
        assert_eq!(left.header("x-force"), None);
        assert_in_force(&left, state);
    }
}
