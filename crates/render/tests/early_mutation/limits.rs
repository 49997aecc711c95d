//! What a mutation cannot do, and says so.

use meshtrace_render::{Limit, Tracer};

use crate::{TRACERS, render};

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
    let text = include_str!("../../../../docs/early-mutation.md");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for limit in Limit::ALL {
        assert!(text.contains(limit.sentence()), "{limit:?} is missing");
    }
}
