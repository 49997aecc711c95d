//! When a trace is started or restarted, and whom the filter believes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Left, S, T, T2, parse, propagation, run, run_from};
use meshtrace_propagation::{Counter, Direction, Peer};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Trace id, span id and flags of the `traceparent` that left.
fn traceparent(left: &Left) -> (String, String, String) {
    let text = left.header("traceparent").expect("a traceparent");
    let fields: Vec<_> = text.split('-').map(str::to_owned).collect();
    assert_eq!((fields[0].as_str(), fields.len()), ("00", 4));
    (fields[1].clone(), fields[2].clone(), fields[3].clone())
}

#[test]
fn a_missing_context_is_generated_on_request() {
    for (config, sent, flags) in [
        (r#"{"on_missing": "generate"}"#, "", "00"),
        (
            r#"{"on_missing": "generate", "generate_sampled": true}"#,
            "",
            "01",
        ),
        (
            r#"{"on_missing": "generate", "random_flag": true}"#,
            "",
            "02",
        ),
        // "a hop that starts a trace uses flags 00", and a caller's decision is kept.
        (
            r#"{"on_missing": "generate", "generate_sampled": true}"#,
            "b3: 0",
            "00",
        ),
        (r#"{"on_missing": "generate"}"#, "b3: 1", "01"),
        (r#"{"on_missing": "generate"}"#, "traceparent: junk", "00"),
    ] {
        let left = run(config, &parse(sent));
        let (trace_id, span_id, left_flags) = traceparent(&left);
        assert_eq!(left_flags, flags, "{config}, {sent}");
        assert_eq!(left.header("x-b3-traceid"), Some(trace_id));
        assert_eq!(left.header("x-b3-spanid"), Some(span_id));
        assert!(left.tally.has(Counter::Generated));
        assert_eq!(left.decision.previous_trace_id, None);
    }
}

#[test]
fn a_context_that_came_is_not_generated_anew() {
    let left = run(r#"{"on_missing": "generate"}"#, &parse("b3: $T-$S-1"));
    assert_eq!(traceparent(&left), (T.into(), S.into(), "01".into()));
    assert!(!left.tally.has(Counter::Generated));
}

#[test]
fn two_traces_restart_on_request() {
    let config = r#"{"on_conflict": "restart"}"#;
    let left = run(
        config,
        &parse(
            "traceparent: 00-$T-$S-01
             tracestate: a=1
             b3: $T2-$S2-0",
        ),
    );
    let (trace_id, _, flags) = traceparent(&left);
    assert!(trace_id != T && trace_id != T2);
    assert_eq!(flags, "01", "the decision of the format listed first");
    assert_eq!(left.header("tracestate"), None);
    assert!(left.header("b3").unwrap().starts_with(&trace_id));
    let previous = left.decision.previous_trace_id.expect("the old trace");
    assert_eq!(previous.to_hex(), T.as_bytes());
    assert!(left.tally.has(Counter::Restarted) && left.tally.has(Counter::ConflictTraceId));

    // Only when the trace ids differ.
    let left = run(config, &parse("traceparent: 00-$T-$S-01\nb3: $T-$S2-0"));
    assert_eq!(traceparent(&left).0, T);
}

#[test]
fn an_untrusted_context_is_replaced_or_stripped() {
    let sent = parse(
        "traceparent: 00-$T-$S-01
         tracestate: a=1
         b3: $T-$S-d
         uber-trace-id: 1:2:0:1
         x-amzn-trace-id: Root=1
         baggage: k=v",
    );
    let left = run(r#"{"incoming": "restart"}"#, &sent);
    let (trace_id, span_id, flags) = traceparent(&left);
    assert!(trace_id != T && span_id != S);
    assert_eq!(flags, "00", "nor is the caller's decision believed");
    assert_eq!(left.header("b3"), Some(format!("{trace_id}-{span_id}-0")));
    assert_eq!(left.header("tracestate"), None);
    let previous = left.decision.previous_trace_id.expect("the old trace");
    assert_eq!(previous.to_hex(), T.as_bytes());

    let left = run(r#"{"incoming": "ignore"}"#, &sent);
    assert_eq!(left.text(), ["baggage: k=v"], "every known header goes");
    assert_eq!(left.tally.iter().collect::<Vec<_>>(), [Counter::Ignored]);

    let left = run(r#"{"incoming": "ignore", "on_missing": "generate"}"#, &sent);
    assert_ne!(traceparent(&left).0, T);
    assert_eq!(left.header("b3"), None, "only what is injected is written");
}

#[test]
fn a_restart_without_a_context_does_what_a_missing_one_does() {
    for sent in ["", "b3: 1", "traceparent: junk"] {
        let left = run(r#"{"incoming": "restart"}"#, &parse(sent));
        assert_eq!(left.text(), Vec::<String>::new(), "{sent}");
        let config = r#"{"incoming": "restart", "on_missing": "generate"}"#;
        let (_, _, flags) = traceparent(&run(config, &parse(sent)));
        assert_eq!(flags, "00", "{sent}");
    }
}

#[test]
fn trust_depends_on_the_address_a_header_or_the_direction() {
    let sent = parse("traceparent: 00-$T-$S-01\nx-internal: 1");
    let when = |when: &str| format!(r#"{{"incoming": {{"mode": "restart", "when": {when}}}}}"#);
    let mesh = r#"{"not_from_cidrs": ["10.0.0.0/8", "fd00::/8"]}"#;
    let from = |address: &'static str| Peer {
        address: Some(address.as_bytes()),
        direction: Direction::Inbound,
        ..Peer::default()
    };
    for (condition, peer, restarts) in [
        (mesh, from("10.1.2.3:4567"), false),
        (mesh, from("192.0.2.1:4567"), true),
        (mesh, from("[fd00::1]:4567"), false),
        (mesh, from("[2001:db8::1]:4567"), true),
        (mesh, from("[::ffff:10.1.2.3]:4567"), false),
        (mesh, from("10.1.2.3"), false),
        // What cannot be read is not trusted.
        (mesh, from("/var/run/envoy.sock"), true),
        (mesh, from("\u{e9}"), true),
        (mesh, Peer::default(), true),
        (r#"{"header_absent": "X-Internal"}"#, Peer::default(), false),
        (r#"{"header_absent": "x-mesh"}"#, Peer::default(), true),
        (r#"{"direction": "inbound"}"#, from("10.1.2.3:1"), true),
        (r#"{"direction": "outbound"}"#, from("10.1.2.3:1"), false),
        // All that are set must hold.
        (
            r#"{"direction": "inbound", "header_absent": "x-internal"}"#,
            from("10.1.2.3:1"),
            false,
        ),
        ("{}", from("10.1.2.3:1"), true),
    ] {
        let left = run_from(&when(condition), &sent, peer);
        let restarted = left.tally.has(Counter::Restarted);
        assert_eq!(restarted, restarts, "{condition}, {peer:?}");
        assert_eq!(traceparent(&left).0 == T, !restarts);
    }
}

#[test]
fn what_the_host_knows_is_looked_up_only_where_it_decides() {
    let needs = |config: &str| {
        let propagation = propagation(config);
        (
            propagation.needs_address(),
            propagation.needs_direction(),
            propagation.needs_cluster(),
        )
    };
    assert_eq!(needs("{}"), (false, false, false));
    assert_eq!(needs(r#"{"incoming": "ignore"}"#), (false, false, false));
    let when = r#"{"incoming": {"mode": "ignore", "when": {"not_from_cidrs": []}}}"#;
    assert_eq!(needs(when), (true, false, false));
    let when = r#"{"incoming": {"mode": "ignore", "when": {"direction": "inbound"}}}"#;
    assert_eq!(needs(when), (false, true, false));
    let host = r#"{"overrides": [{"host": "a", "inject": []}]}"#;
    assert_eq!(needs(host), (false, false, false));
    let cluster = r#"{"overrides": [{"cluster": "a", "inject": []}]}"#;
    assert_eq!(needs(cluster), (false, false, true));
}

const UNFINISHED: &str = r#""extract": ["tracecontext", "b3", "xray", "gcp", "datadog"]"#;

#[test]
fn a_trace_id_without_a_span_is_continued_where_spans_are_started() {
    let half = "0000000000000000a3ce929d0e0e4736";
    for (sent, started, trace_id, flags) in [
        (
            "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            "false",
            T,
            "00",
        ),
        (
            "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            "true",
            T,
            "01",
        ),
        (
            "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=1",
            "false",
            T,
            "01",
        ),
        (
            "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=?",
            "false",
            T,
            "00",
        ),
        ("x-cloud-trace-context: $T", "false", T, "00"),
        ("x-cloud-trace-context: $T/0;o=1", "false", T, "01"),
        (
            "x-datadog-trace-id: 11803532876627986230",
            "false",
            half,
            "00",
        ),
        (
            "x-datadog-trace-id: 11803532876627986230
             x-datadog-parent-id: 0
             x-datadog-sampling-priority: 1",
            "false",
            half,
            "01",
        ),
        // A decision without ids decides where the trace's own header leaves it open.
        ("x-cloud-trace-context: $T\nb3: 1", "false", T, "01"),
        ("x-cloud-trace-context: $T;o=0\nb3: 1", "true", T, "00"),
        // The first that is listed, of those that a format reads.
        (
            "x-amzn-trace-id: junk\nx-cloud-trace-context: $T",
            "false",
            T,
            "00",
        ),
        (
            "x-cloud-trace-context: $T2
             x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736",
            "false",
            T,
            "00",
        ),
    ] {
        let config = format!(
            r#"{{{UNFINISHED}, "on_missing": "generate", "generate_sampled": {started}, "random_flag": true}}"#
        );
        let left = run(&config, &parse(sent));
        let (trace, span, left_flags) = traceparent(&left);
        assert_eq!(
            (trace.as_str(), left_flags.as_str()),
            (trace_id, flags),
            "{sent}"
        );
        let counters = [Counter::Incomplete, Counter::Generated];
        assert!(counters.iter().all(|counter| left.tally.has(*counter)));
        let bare = left.tally.has(Counter::SamplingOnly);
        assert_ne!(left.tally.has(Counter::Missing), bare, "{sent}");
        // What was read tells the same span.
        let decimal = u64::from_str_radix(&span, 16).unwrap();
        for (name, told) in [
            ("x-amzn-trace-id", span.clone()),
            ("x-cloud-trace-context", decimal.to_string()),
            ("x-datadog-parent-id", decimal.to_string()),
        ] {
            let header = left.header(name);
            assert!(
                header.is_none_or(|header| header.contains(&told)),
                "{name}: {sent}"
            );
        }
    }
}

#[test]
fn a_trace_id_without_a_span_passes_and_is_counted() {
    let sent = "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Self=1";
    let left = run(&format!("{{{UNFINISHED}}}"), &parse(sent));
    assert_eq!(left.edits, 0);
    let counted: Vec<_> = left.tally.iter().collect();
    assert_eq!(counted, [Counter::Missing, Counter::Incomplete]);
}

#[test]
fn the_trace_id_of_an_untrusted_caller_is_not_continued() {
    for mode in ["restart", "ignore"] {
        let config = format!(r#"{{{UNFINISHED}, "on_missing": "generate", "incoming": "{mode}"}}"#);
        let left = run(&config, &parse("x-cloud-trace-context: $T;o=1"));
        let (trace_id, _, flags) = traceparent(&left);
        assert_ne!(trace_id, T);
        assert_eq!(flags, "00");
    }
}

#[test]
fn a_context_wins_over_a_trace_id_without_a_span() {
    let config = format!(r#"{{{UNFINISHED}, "on_missing": "generate"}}"#);
    let left = run(
        &config,
        &parse("x-cloud-trace-context: $T2;o=1\nb3: $T-$S-0"),
    );
    assert_eq!(traceparent(&left), (T.into(), S.into(), "00".into()));
    assert!(!left.tally.has(Counter::Incomplete) && !left.tally.has(Counter::Generated));
}

/// A hop with a span of its own: W3C Trace Context, section 3.5, and B3's parent.
#[test]
fn a_participant_has_a_span_of_its_own_whatever_came_in() {
    use meshtrace_headers::{Headers, encode};
    use meshtrace_propagation::{IdGenerator, SamplingState, Tally};

    let untrusted = r#"{"incoming": "restart"}"#;
    let ignored = r#"{"incoming": "ignore"}"#;
    let restarts = r#"{"on_conflict": "restart"}"#;
    let other = format!("b3: {T2}-{S}-0");
    let conflict = format!("traceparent: 00-{T}-{S}-01\n{other}");
    for (config, sent, continued, sampling, previous, counter) in [
        (
            "{}",
            "",
            false,
            SamplingState::Deferred,
            false,
            Counter::Generated,
        ),
        (
            "{}",
            "b3: 1",
            false,
            SamplingState::Sampled,
            false,
            Counter::Generated,
        ),
        (
            "{}",
            "b3: 0",
            false,
            SamplingState::NotSampled,
            false,
            Counter::Generated,
        ),
        (
            "{}",
            "traceparent: 00-$T-$S-01",
            true,
            SamplingState::Sampled,
            false,
            Counter::ExtractedTracecontext,
        ),
        (
            "{}",
            "b3: $T-$S",
            true,
            SamplingState::Deferred,
            false,
            Counter::ExtractedB3,
        ),
        (
            "{}",
            "b3: $T-$S-d",
            true,
            SamplingState::Debug,
            false,
            Counter::ExtractedB3,
        ),
        (
            untrusted,
            "b3: $T-$S-1",
            false,
            SamplingState::Deferred,
            true,
            Counter::Restarted,
        ),
        (
            untrusted,
            "b3: 1",
            false,
            SamplingState::Deferred,
            false,
            Counter::Generated,
        ),
        (
            ignored,
            "b3: $T-$S-1",
            false,
            SamplingState::Deferred,
            false,
            Counter::Ignored,
        ),
        (
            restarts,
            conflict.as_str(),
            false,
            SamplingState::Sampled,
            true,
            Counter::Restarted,
        ),
    ] {
        let propagation = propagation(config);
        let block = encode(&parse(sent));
        let headers = Headers::parse(&block).expect("a header block");
        let mut tally = Tally::default();
        let ids = IdGenerator::from_seed([7; 32]);
        let incoming = propagation.extract(headers, Peer::default(), &mut tally);
        let joined = propagation.participate(&incoming, &ids, &mut tally);
        let what = format!("{config} {sent}");
        let text = |digits: &[u8]| String::from_utf8(digits.to_vec()).expect("digits");
        let parent = joined.parent.map(|id| text(&id.to_hex()));
        assert_eq!(parent.as_deref(), continued.then_some(S), "{what}");
        assert_eq!(joined.context.b3_parent, joined.parent, "{what}");
        assert_eq!(
            text(&joined.context.trace_id.to_hex()) == T,
            continued,
            "{what}"
        );
        assert_ne!(text(&joined.context.span_id.to_hex()), S, "{what}");
        assert_eq!(joined.context.sampling, sampling, "{what}");
        assert_eq!(joined.previous_trace_id.is_some(), previous, "{what}");
        assert!(tally.has(counter), "{what}: {tally:?}");
    }
}
