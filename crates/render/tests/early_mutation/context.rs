//! Which context reaches the tracer.

use meshtrace_render::Tracer;

use crate::{all, mutations, patterns, steps, values};

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
            "traceparent = %CEL(('traceparent' in headers) ? \
             ((headers['traceparent'].matches('^[ \\t,]|[ \\t,]$')) ? \
             re.extract(headers['traceparent'], r'^[ \\t,]*(.*[^ \\t,])', r'\\1') : '') : '')%",
            "~several = %CEL(('traceparent' in headers && headers['traceparent'].contains(',')) \
             ? '1' : '')%",
            "~several if present = ^(%REQ(traceparent):35%-ID-HH[ \\t]*(,[ \\t,]*|$))+$",
            "~first = %REQ(traceparent):55%",
            "~known = %REQ(traceparent):56%",
            "~from-tracecontext = %CEL(('traceparent' in headers) ? \
             ((headers['traceparent'].startsWith('00')) ? \
             ((headers['traceparent'].contains(',')) ? \
             ((headers['~first'].matches('^00-H+-ID-HH$') && \
             headers['traceparent'].matches(headers['~several']) && \
             !headers['traceparent'].matches('-0+-')) ? headers['~first'] : '') : \
             ((size(headers['traceparent']) == 55 && \
             headers['traceparent'].matches('^00-H+-ID-HH$') && \
             !headers['traceparent'].matches('-0+-')) ? headers['traceparent'] : '')) : \
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

/// Envoy 1.40 refuses a pattern whose compiled size exceeds 100. A class is one instruction for
/// each of its ranges (upper case folds into lower), anything else at most one a character.
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

/// What a request costs is the number of expressions, and of patterns compiled on the request. Those
/// that cut a value out of several are compiled where there are several.
#[test]
fn expressions_are_few() {
    for (json, tracer) in all() {
        let values = values(json, tracer);
        let expressions = values
            .iter()
            .filter(|value| value.contains("%CEL("))
            .count();
        assert!(expressions <= 23, "{json} {tracer:?}: {expressions}");

        let count =
            |text: &str| -> usize { values.iter().map(|value| value.matches(text).count()).sum() };
        let compiled = count("re.extract(") - count(r", r'^[ \t,]*(");
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
