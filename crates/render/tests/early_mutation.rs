//! What early header mutations are rendered to.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{EarlyMutation, Limit, Tracer, early_mutation};
use serde_json::{Value, json};

const TRACERS: [Tracer; 3] = [
    Tracer::OpenTelemetry,
    Tracer::ZipkinB3,
    Tracer::ZipkinB3WithW3c,
];

const CONFIGS: [&str; 6] = [
    "{}",
    r#"{"b3_strict": true}"#,
    r#"{"extract": ["b3", "b3multi", "tracecontext"], "on_defer": "sampled"}"#,
    r#"{"extract": ["b3multi", "b3"]}"#,
    r#"{"extract": ["tracecontext"]}"#,
    r#"{"extract": []}"#,
];

fn config(json: &str) -> TraceContextConfig {
    serde_json::from_str(json).expect("a configuration")
}

fn render(json: &str, tracer: Tracer) -> EarlyMutation {
    early_mutation(&config(json), tracer).expect("a mutation")
}

fn refusal(json: &str) -> String {
    let refused = early_mutation(&config(json), Tracer::OpenTelemetry);
    refused.expect_err("a refusal").to_string()
}

fn mutations(json: &str, tracer: Tracer) -> Vec<Value> {
    let rendered = render(json, tracer).extension;
    let mutations = rendered["typed_config"]["mutations"].as_array();
    mutations.expect("mutations").clone()
}

/// `header <action value`, with names short enough to read.
fn steps(json: &str, tracer: Tracer) -> Vec<String> {
    let short = |text: &str| {
        text.replace("x-meshtrace-early-", "~")
            .replace(&"[0-9a-f]".repeat(16), "ID")
            .replace("[0-9a-f]", "H")
            .replace("request.headers", "headers")
    };
    let family = |mutation: &Value| {
        let prefix = mutation["remove_on_match"]["key_matcher"]["prefix"].as_str()?;
        Some(format!("{prefix}* removed"))
    };
    let step = |mutation: &Value| match (mutation["remove"].as_str(), family(mutation)) {
        (Some(name), _) => format!("{} removed", short(name)),
        (None, Some(family)) => family,
        (None, None) => {
            let append = &mutation["append"];
            let text = |value: &Value| short(value.as_str().expect("text"));
            let action = match append["append_action"].as_str() {
                Some("OVERWRITE_IF_EXISTS_OR_ADD") => "=",
                Some("ADD_IF_ABSENT") => "if absent =",
                Some("OVERWRITE_IF_EXISTS") => "if present =",
                other => panic!("unknown action {other:?}"),
            };
            let header = &append["header"];
            format!(
                "{} {action} {}",
                text(&header["key"]),
                text(&header["value"])
            )
        }
    };
    mutations(json, tracer).iter().map(step).collect()
}

fn values(json: &str, tracer: Tracer) -> Vec<String> {
    let value = |mutation: &Value| {
        let value = mutation["append"]["header"]["value"].as_str();
        value.map(str::to_owned)
    };
    mutations(json, tracer).iter().filter_map(value).collect()
}

/// Every pattern of `matches` and `re.extract`.
fn patterns() -> Vec<String> {
    let mut patterns = Vec::new();
    for (json, tracer) in all() {
        for value in values(json, tracer) {
            let after_matches = value.split(".matches('").skip(1);
            let after_extract = value.split("re.extract(").skip(1);
            let quoted = after_extract.filter_map(|call| call.split("r'").nth(1));
            let found = after_matches.chain(quoted);
            patterns.extend(found.filter_map(|text| text.split('\'').next().map(str::to_owned)));
        }
    }
    patterns.sort();
    patterns.dedup();
    assert!(patterns.len() > 10, "{patterns:?}");
    patterns
}

fn all() -> impl Iterator<Item = (&'static str, Tracer)> {
    CONFIGS
        .into_iter()
        .flat_map(|json| TRACERS.map(|tracer| (json, tracer)))
}

#[test]
fn only_a_valid_traceparent_reaches_a_tracer_that_reads_nothing_else() {
    let steps = steps(r#"{"extract": ["tracecontext"]}"#, Tracer::OpenTelemetry);
    let steps: Vec<_> = steps
        .iter()
        .filter(|step| !step.starts_with('~') || !step.ends_with(" removed"))
        .collect();
    assert_eq!(
        steps,
        [
            "~known = %REQ(traceparent):56%",
            "~from-tracecontext = %CEL(('traceparent' in headers) ? \
             ((headers['traceparent'].startsWith('00')) ? \
             ((size(headers['traceparent']) == 55 && \
             headers['traceparent'].matches('^00-H+-ID-HH$') && \
             !headers['traceparent'].matches('-0+-')) ? headers['traceparent'] : '') : \
             ((!headers['traceparent'].startsWith('ff') && !headers['traceparent'].contains(',') && \
             (size(headers['~known']) == 55 ? headers['~known'].matches('^HH-H+-ID-HH$') : \
             size(headers['~known']) == 56 && headers['~known'].matches('^HH-H+-ID-HH-$')) && \
             !headers['~known'].matches('^..-0+-|-0000000000000000-')) ? \
             re.extract(headers['~known'], r'^H+(-H+-H+-)', \
             headers['~known'].matches('[13579bdf]-?$') ? r'00\\101' : r'00\\100') : '')) : '')%",
            "~chosen if absent = %REQ(~from-tracecontext)%",
            "~chosen-trace = %REQ(~chosen):35%",
            "~tracestate = %CEL(('~from-tracecontext' in headers) ? \
             ((headers['~from-tracecontext'].startsWith(headers['~chosen-trace'])) ? \
             ((headers['tracestate'].matches('^[\\t -~]*$')) ? headers['tracestate'] : '') : '') : \
             (''))%",
            "~traceparent = %REQ(~chosen)%",
            "traceparent removed",
            "tracestate removed",
            "traceparent = %REQ(~traceparent)%",
            "tracestate = %REQ(~tracestate)%",
            "x-client-trace-id if absent = %CEL(('~chosen' in headers) ? \
             ((headers['~chosen'].matches('[13579bdf]$')) ? 'sampled' : '') : '')%",
        ]
    );
}

#[test]
fn the_order_of_extract_is_the_order_in_which_a_candidate_is_chosen() {
    let chosen = |json| {
        let steps = steps(json, Tracer::OpenTelemetry);
        let prefix = "~chosen if absent = ";
        let chosen = steps.iter().filter_map(|step| step.strip_prefix(prefix));
        chosen.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        chosen("{}"),
        [
            "%REQ(~from-tracecontext)%",
            "%REQ(~from-b3)%",
            "%REQ(~from-b3multi)%"
        ]
    );
    assert_eq!(
        chosen(r#"{"extract": ["b3multi", "tracecontext"]}"#),
        ["%REQ(~from-b3multi)%", "%REQ(~from-tracecontext)%"]
    );
}

#[test]
fn a_deferred_decision_becomes_what_on_defer_says() {
    let deferred = |json| {
        let steps = steps(json, Tracer::OpenTelemetry);
        let ends = |flags: &str| {
            format!(
                "size(headers['~b3']) == 49 ? ((headers['~b3'].matches('^H+-ID$') && !headers['~b3'].matches('^0+-|-0000000000000000')) ? '{flags}' : '')"
            )
        };
        ["00", "01"].map(|flags| steps.iter().any(|step| step.contains(&ends(flags))))
    };
    assert_eq!(deferred("{}"), [true, false]);
    assert_eq!(deferred(r#"{"on_defer": "sampled"}"#), [false, true]);
}

#[test]
fn a_header_is_never_half_made() {
    for (json, tracer) in all() {
        for mutation in mutations(json, tracer) {
            let append = &mutation["append"];
            if append.is_null() || append["append_action"] == "OVERWRITE_IF_EXISTS" {
                continue;
            }
            let value = append["header"]["value"].as_str().expect("a value");
            let one_substitution = value.starts_with('%')
                && !value.contains("%%")
                && (value.ends_with(")%") || value.split_once(':').is_some())
                || value == "%UNIQUE_ID%";
            assert!(one_substitution, "{json} {tracer:?}: {value}");
        }
    }
}

#[test]
fn helper_headers_of_a_client_mean_nothing_and_none_is_left() {
    for (json, tracer) in all() {
        let mutations = mutations(json, tracer);
        let helpers: Vec<_> = mutations
            .iter()
            .map_while(|mutation| mutation["remove"].as_str())
            .collect();
        let last: Vec<_> = mutations
            .iter()
            .rev()
            .map_while(|mutation| mutation["remove"].as_str())
            .filter(|name| name.starts_with("x-meshtrace-early-"))
            .collect();
        for mutation in &mutations {
            let Some(name) = mutation["append"]["header"]["key"].as_str() else {
                continue;
            };
            if name.starts_with("x-meshtrace-early-") {
                assert!(helpers.contains(&name), "{name} is removed first");
                assert!(last.contains(&name), "{name} is removed last");
            }
        }
    }
}

/// Envoy 1.40 refuses a pattern whose compiled size exceeds 100. A class is one instruction for each
/// of its ranges (upper case folds into lower), anything else at most one a character.
#[test]
fn no_pattern_exceeds_the_program_size() {
    for pattern in patterns() {
        assert!(!pattern.contains('{'), "{pattern}");
        let folded = pattern
            .replace("[0-9a-fA-F]", "##")
            .replace("[0-9a-f]", "##");
        let size = folded.len() + 4;
        assert!(size <= 100, "{pattern}: {size}");
    }
}

/// What a request costs is the number of expressions, and of patterns compiled on the request.
#[test]
fn expressions_are_few() {
    for (json, tracer) in all() {
        let values = values(json, tracer);
        let expressions = values
            .iter()
            .filter(|value| value.contains("%CEL("))
            .count();
        assert!(expressions <= 19, "{json} {tracer:?}: {expressions}");

        let compiled: usize = values
            .iter()
            .map(|value| value.matches("re.extract(").count())
            .sum();
        assert!(compiled <= 5, "{json} {tracer:?}: {compiled}");
    }
}

#[test]
fn formats_that_nobody_reads_are_left_alone() {
    let touches = |json, tracer, name: &str| {
        let steps = steps(json, tracer);
        steps.iter().any(|step| step.starts_with(name))
    };
    let w3c = r#"{"extract": ["tracecontext"]}"#;
    let b3 = r#"{"extract": ["b3"]}"#;
    assert!(!touches(w3c, Tracer::OpenTelemetry, "b3 "));
    assert!(!touches(b3, Tracer::ZipkinB3, "traceparent "));
    // The tracer would continue what the configuration does not read.
    assert!(touches(b3, Tracer::OpenTelemetry, "traceparent removed"));
    assert!(touches(b3, Tracer::ZipkinB3, "x-b3-traceid removed"));
}

#[test]
fn the_callers_decision_steers_the_opentelemetry_tracer_alone() {
    let steers = |json, tracer| {
        let steps = steps(json, tracer);
        steps
            .iter()
            .any(|step| step.starts_with("x-client-trace-id if absent = "))
    };
    assert!(steers("{}", Tracer::OpenTelemetry));
    assert!(steers(
        r#"{"extract": ["tracecontext"]}"#,
        Tracer::OpenTelemetry
    ));
    assert!(!steers("{}", Tracer::ZipkinB3));
    assert!(!steers("{}", Tracer::ZipkinB3WithW3c));
}

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
            "~kept = %CEL(('~believed' in headers && 'traceparent' in headers) ? \
             headers['traceparent'] : '')%",
            "traceparent removed",
            "traceparent = %REQ(~kept)%",
        ]
    );
    assert_eq!(
        steps[steps.len() - 4..],
        [
            "x-envoy-decorator-operation removed",
            "x-envoy-decorator-operation = %REQ(~kept)%",
            "~kept removed",
            "~believed removed",
        ]
    );
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

#[test]
fn each_limit_is_told_where_it_holds() {
    let limits = |json, tracer| render(json, tracer).limits;
    let w3c = r#"{"extract": ["tracecontext"]}"#;
    assert_eq!(
        limits(w3c, Tracer::ZipkinB3WithW3c),
        [
            Limit::TracestateUnchecked,
            Limit::LaterVersionWithComma,
            Limit::LaterVersionFlags,
            Limit::UnreadFormatsRemoved,
        ]
    );
    let strict = r#"{"b3_strict": true}"#;
    assert!(limits("{}", Tracer::OpenTelemetry).contains(&Limit::UpperCaseB3Refused));
    assert!(!limits(strict, Tracer::OpenTelemetry).contains(&Limit::UpperCaseB3Refused));
    assert!(limits("{}", Tracer::ZipkinB3).contains(&Limit::DeferredByTracer));
    let restart = r#"{"on_conflict": "restart"}"#;
    assert!(limits(restart, Tracer::ZipkinB3).contains(&Limit::ConflictNotRestarted));

    let mut told = Vec::new();
    for json in [
        "{}",
        w3c,
        restart,
        r#"{"b3_trace_id_bits": 64}"#,
        r#"{"extract": ["b3", "jaeger"]}"#,
        r#"{"incoming": {"mode": "restart", "when": {"direction": "inbound"}}}"#,
        r#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#,
        r#"{"incoming": {"mode": "ignore", "when": {"header_absent": "x-known"}}}"#,
    ] {
        for tracer in TRACERS {
            told.extend(limits(json, tracer));
        }
    }
    for limit in Limit::ALL {
        assert!(told.contains(limit), "{limit:?} is never told");
        let sentence = limit.to_string();
        assert!(
            sentence.ends_with('.') && !sentence.contains("  "),
            "{sentence}"
        );
    }
}

#[test]
fn the_documentation_tells_every_limit() {
    let text = include_str!("../../../docs/early-mutation.md");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for limit in Limit::ALL {
        assert!(text.contains(limit.sentence()), "{limit:?} is missing");
    }
}
