//! Callers that are not believed.

use meshtrace_render::{Limit, Tracer};
use serde_json::json;

use crate::{TRACERS, refusal, render, steps};

#[test]
fn a_caller_that_is_not_believed_brings_no_context() {
    let restart = [
        "traceparent removed",
        "tracestate removed",
        "b3 removed",
        "x-b3-traceid removed",
        "x-b3-spanid removed",
        "x-b3-parentspanid removed",
        "x-b3-sampled removed",
        "x-b3-flags removed",
        "x-client-trace-id removed",
        "x-envoy-force-trace removed",
        "x-request-id removed",
        "x-envoy-decorator-operation removed",
        "x-envoy-downstream-service-cluster removed",
    ];
    for tracer in TRACERS {
        assert_eq!(steps(r#"{"incoming": "restart"}"#, tracer), restart);
        let ignore = steps(r#"{"incoming": "ignore"}"#, tracer);
        for step in restart
            .into_iter()
            .chain(["uber-trace-id removed", "sw8 removed"])
            .chain(["sentry-trace removed", "x-instana-* removed"])
        {
            assert!(ignore.contains(&step.to_owned()), "{step}");
        }
    }
}

#[test]
fn what_a_mutation_cannot_do_is_refused() {
    assert!(refusal(r#"{"placement": "upstream", "tracer": "b3"}"#).starts_with("placement: "),);
    assert!(refusal(r#"{"extract": ["b3", "b3"]}"#).starts_with("extract[1]: "));
    for (when, path) in [
        (
            r#"{"not_from_cidrs": ["10.0.0.0/8", "2001:0:1::/48"]}"#,
            "incoming.when.not_from_cidrs[1]: ",
        ),
        (
            r#"{"not_from_cidrs": ["::/0"]}"#,
            "incoming.when.not_from_cidrs[0]: ",
        ),
        (
            r#"{"header_absent": "x'known"}"#,
            "incoming.when.header_absent: ",
        ),
        (
            r#"{"header_absent": "x%known"}"#,
            "incoming.when.header_absent: ",
        ),
    ] {
        assert!(refusal(&restart_when(when)).starts_with(path), "{when}");
    }
    let directed = render(
        &restart_when(r#"{"direction": "inbound"}"#),
        Tracer::ZipkinB3,
    );
    assert!(directed.limits.contains(&Limit::DirectionOfListener));
}

fn restart_when(when: &str) -> String {
    format!(r#"{{"incoming": {{"mode": "restart", "when": {when}}}}}"#)
}

/// The expression that finds a believed caller.
fn believed(when: &str) -> String {
    let steps = steps(&restart_when(when), Tracer::OpenTelemetry);
    let begin = "~believed = %CEL((";
    let found = steps.iter().find_map(|step| step.strip_prefix(begin));
    let expression = found.and_then(|step| step.strip_suffix(") ? '1' : '')%"));
    expression.expect("a condition").to_owned()
}

#[test]
fn a_believed_callers_headers_are_put_back() {
    let continued = steps("{}", Tracer::OpenTelemetry);
    let steps = steps(
        &restart_when(r#"{"header_absent": "X-Known"}"#),
        Tracer::OpenTelemetry,
    );
    assert_eq!(
        steps[..6],
        [
            "~believed removed",
            "~believed = %CEL(('x-known' in headers) ? '1' : '')%",
            "~kept removed",
            "~kept = %CEL(('traceparent' in headers) ? headers['traceparent'] : '')%",
            "traceparent removed",
            "traceparent = %CEL(('~believed' in headers && '~kept' in headers) ? \
             headers['~kept'] : '')%",
        ]
    );
    let removals = steps.len() - continued.len();
    assert_eq!(
        steps[removals - 4..removals],
        [
            "x-envoy-downstream-service-cluster removed",
            "x-envoy-downstream-service-cluster = %CEL(('~believed' in headers && \
             '~kept' in headers) ? headers['~kept'] : '')%",
            "~kept removed",
            "~believed removed",
        ]
    );
    assert_eq!(steps[removals..], continued, "the trace is continued");
    for first_line in ["b3", "x-b3-traceid", "x-b3-sampled"] {
        let kept = format!("~kept = %REQ({first_line})%");
        assert!(steps.contains(&kept), "{first_line}");
    }
}

#[test]
fn a_trace_is_continued_behind_the_removals_where_anybody_is_believed() {
    let continues = |json: &str, tracer| {
        let continued = steps("{}", tracer);
        let rendered = render(json, tracer);
        let virtual_host = rendered.virtual_host == render("{}", tracer).virtual_host;
        let script = steps(json, tracer).ends_with(&continued);
        assert_eq!(
            rendered.limits.contains(&Limit::TracestateUnchecked),
            script
        );
        (script, virtual_host)
    };
    for tracer in TRACERS {
        // Without a header to remove, the two virtual hosts are alike.
        let nothing_to_remove = tracer != Tracer::OpenTelemetry;
        for (json, believes) in [
            (r#"{"incoming": "restart"}"#.to_owned(), false),
            (r#"{"incoming": "ignore"}"#.to_owned(), false),
            (restart_when(r#"{"direction": "inbound"}"#), false),
            (restart_when(r#"{"header_absent": "x-known"}"#), true),
            (restart_when(r#"{"not_from_cidrs": ["10.0.0.0/8"]}"#), true),
        ] {
            let expected = (believes, believes || nothing_to_remove);
            assert_eq!(continues(&json, tracer), expected, "{json}, {tracer:?}");
        }
    }
}

#[test]
fn either_condition_makes_a_caller_believed() {
    assert_eq!(
        believed(r#"{"header_absent": "x-known", "not_from_cidrs": ["10.0.0.0/8"]}"#),
        "'x-known' in headers || (!('x-forwarded-for' in headers) && \
         (source.address.matches('^([[]::ffff:)?10[.][0-9]')))"
    );
}

#[test]
fn a_network_is_a_pattern_of_addresses_as_text() {
    for (network, pattern) in [
        ("0.0.0.0/0", "^([[]::ffff:)?[0-9]"),
        ("10.0.0.0/8", "^([[]::ffff:)?10[.][0-9]"),
        (
            "172.16.0.0/12",
            "^([[]::ffff:)?172[.](1[6-9]|2[0-9]|3[0-1])[.]",
        ),
        ("192.168.7.0/24", "^([[]::ffff:)?192[.]168[.]7[.][0-9]"),
        (
            "192.0.2.8/29",
            "^([[]::ffff:)?192[.]0[.]2[.]([8-9]|1[0-5])(]|:)",
        ),
        ("192.0.2.8/32", "^([[]::ffff:)?192[.]0[.]2[.]8(]|:)"),
        ("fd00::/8", "^[[]fdHH"),
        ("fe80::/10", "^[[]fe[89ab]H"),
        ("2000::/3", "^[[][23]HHH"),
        ("2001:1db0::/28", "^[[]2001:1dbH"),
        ("2001:db8::/32", "^[[]2001:db8:"),
        ("::1/128", "^[[]::1]"),
        ("::ffff:192.0.2.8/128", "^([[]::ffff:)?192[.]0[.]2[.]8(]|:)"),
    ] {
        let when = format!(r#"{{"not_from_cidrs": ["{network}"]}}"#);
        let expected =
            format!("(!('x-forwarded-for' in headers) && (source.address.matches('{pattern}')))");
        assert_eq!(believed(&when), expected, "{network}");
    }
}

#[test]
fn the_manager_forces_no_trace_for_a_client_and_makes_request_ids() {
    let settings = |json: &str| render(json, Tracer::OpenTelemetry).manager.to_json();
    assert_eq!(settings("{}"), json!({}));
    for mode in ["restart", "ignore"] {
        assert_eq!(
            settings(&format!(r#"{{"incoming": "{mode}"}}"#)),
            json!({"generate_request_id": true, "tracing": {"client_sampling": {"value": 0}}})
        );
    }
    // Those who are believed may force a trace.
    for when in [
        r#"{"header_absent": "x-known"}"#,
        r#"{"not_from_cidrs": ["10.0.0.0/8"]}"#,
    ] {
        assert_eq!(
            settings(&restart_when(when)),
            json!({"generate_request_id": true})
        );
    }
}

#[test]
fn what_is_cleared_goes_with_the_context() {
    let cleared = steps(
        r#"{"incoming": "restart", "clear": ["Baggage", "jaeger", "b3"]}"#,
        Tracer::OpenTelemetry,
    );
    let plain = steps(r#"{"incoming": "restart"}"#, Tracer::OpenTelemetry);
    assert_eq!(
        cleared[plain.len()..],
        [
            "baggage removed",
            "uber-trace-id removed",
            "jaeger-debug-id removed",
            "uberctx-* removed",
        ]
    );
}
