//! The context that comes in, in any format, and what leaves.

use envoy_test_harness::Span;
use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::{Collected, traceparent};
use serde_json::{Value, json};

/// The ids in decimal: the right half of the trace's, and the span's.
const TRACE_DECIMAL: &str = "11803532876627986230";
const SPAN_DECIMAL: &str = "67667974448284343";

/// What a format sends of the trace and the span.
struct Arrival {
    format: &'static str,
    headers: Vec<(&'static str, String)>,
    /// Whether the format has room for the whole trace id.
    is_whole: bool,
}

fn arrivals() -> [Arrival; 9] {
    let (low, high) = (&TRACE[16..], &TRACE[..16]);
    let arrival = |format, headers: &[(&'static str, &str)]| Arrival {
        format,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        is_whole: format != "ottrace",
    };
    let root = format!("{}-{}", &TRACE[..8], &TRACE[8..]);
    [
        arrival(
            "tracecontext",
            &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))],
        ),
        arrival("b3", &[("b3", &format!("{TRACE}-{SPAN}-1"))]),
        arrival(
            "b3multi",
            &[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", SPAN),
                ("x-b3-sampled", "1"),
            ],
        ),
        arrival(
            "jaeger",
            &[("uber-trace-id", &format!("{TRACE}:{SPAN}:0:1"))],
        ),
        arrival(
            "ottrace",
            &[
                ("ot-tracer-traceid", low),
                ("ot-tracer-spanid", SPAN),
                ("ot-tracer-sampled", "true"),
            ],
        ),
        arrival(
            "xray",
            &[(
                "x-amzn-trace-id",
                &format!("Root=1-{root};Parent={SPAN};Sampled=1"),
            )],
        ),
        arrival(
            "gcp",
            &[(
                "x-cloud-trace-context",
                &format!("{TRACE}/{SPAN_DECIMAL};o=1"),
            )],
        ),
        arrival(
            "datadog",
            &[
                ("x-datadog-trace-id", TRACE_DECIMAL),
                ("x-datadog-parent-id", SPAN_DECIMAL),
                ("x-datadog-sampling-priority", "1"),
                ("x-datadog-tags", &format!("_dd.p.tid={high}")),
            ],
        ),
        arrival(
            "grpc-trace-bin",
            &[("grpc-trace-bin", "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=")],
        ),
    ]
}

fn reporting(context: Value) -> Value {
    json!({"trace_context": context, "report": {"cluster": "collector"}})
}

fn send(mesh: &Collected, headers: &[(&str, String)]) -> (Span, RecordedRequest) {
    mesh.sink.clear();
    let request = headers
        .iter()
        .fold(Request::get("/"), |request, (name, value)| {
            request.header(name, value)
        });
    assert_eq!(mesh.send(&request).status, 200);
    let span = mesh.sink.wait_for_spans(1).expect("a span").remove(0);
    (span, mesh.upstream.take().remove(0))
}

#[test]
fn every_format_is_joined_and_every_format_is_written() {
    let all = arrivals().map(|arrival| arrival.format);
    each_host(|host, envoy, at| {
        let config = reporting(json!({"extract": all, "inject": all}));
        let mesh = host.start(envoy, config);
        for Arrival {
            format,
            headers,
            is_whole,
        } in arrivals()
        {
            let what = format!("{at} {format}");
            let (span, left) = send(&mesh, &headers);
            let padded = format!("{:0>32}", &TRACE[16..]);
            let trace_id = if is_whole { TRACE } else { &padded };
            assert_eq!(span.trace_id, trace_id, "{what}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{what}");
            assert_eq!(
                traceparent(&left),
                [trace_id, &span.span_id, "01"],
                "{what}"
            );
            let decimal = u64::from_str_radix(&span.span_id, 16)
                .expect("hexadecimal")
                .to_string();
            for (header, id) in [
                ("b3", &span.span_id),
                ("x-b3-spanid", &span.span_id),
                ("uber-trace-id", &span.span_id),
                ("ot-tracer-spanid", &span.span_id),
                ("x-amzn-trace-id", &span.span_id),
                ("x-cloud-trace-context", &decimal),
                ("x-datadog-parent-id", &decimal),
            ] {
                let value = left.header_text(header).expect(header);
                // Jaeger and OpenTracing leave zeros in front away or keep them.
                assert!(
                    value.contains(id.trim_start_matches('0')),
                    "{what}: {header}: {value}"
                );
                assert_eq!(left.header_values(header).len(), 1, "{what}: {header}");
            }
            assert!(left.header("grpc-trace-bin").is_some(), "{what}");
        }
    });
}

#[test]
fn without_a_context_a_trace_is_started_and_garbage_is_none() {
    each_host(|host, envoy, _| {
        let mesh = host.start(
            envoy,
            json!({"sampling": {"default": "always"}, "report": {"cluster": "collector"}}),
        );
        for headers in [
            vec![],
            vec![("traceparent", "garbage".to_owned())],
            vec![("b3", "\u{e9}\u{e9}".to_owned())],
        ] {
            let (span, left) = send(&mesh, &headers);
            assert_eq!(span.parent_span_id, None, "{headers:?}");
            assert_eq!(
                traceparent(&left),
                [&*span.trace_id, &span.span_id, "01"],
                "{headers:?}"
            );
            assert_eq!(left.header("b3"), None, "{headers:?}");
        }
    });
}

#[test]
fn tracestate_goes_on_and_a_decision_that_is_ours_is_told_in_it() {
    each_host(|host, envoy, _| {
        let config = json!({
            "sampling": {"parent": "ignore", "default": "always"},
            "report": {"cluster": "collector"},
        });
        let mesh = host.start(envoy, config);
        let headers = [
            ("traceparent", format!("00-{TRACE}-{SPAN}-00")),
            ("tracestate", "a=1,ot=th:8;x:y,b=2".to_owned()),
        ];
        let (span, left) = send(&mesh, &headers);
        let list = left.header_text("tracestate").expect("a list");
        assert!(list.contains("a=1") && list.contains("b=2"), "{list}");
        assert!(!list.contains("th:8"), "{list}");
        assert_eq!(span.trace_state, list);
        assert_eq!(left.header_values("tracestate").len(), 1);
    });
}

/// The edge: a caller is not believed, or its context is stripped.
#[test]
fn a_caller_is_believed_as_the_policy_says() {
    each_host(|host, envoy, at| {
        for mode in ["restart", "ignore"] {
            let what = format!("{at} {mode}");
            let mut config = reporting(
                json!({"incoming": {"mode": mode, "when": {"header_absent": "x-trusted"}}}),
            );
            config["sampling"] = json!({"default": "always"});
            let mesh = host.start(envoy, config);
            let parent = format!("00-{TRACE}-{SPAN}-00");
            let headers = [
                ("traceparent", parent.clone()),
                ("tracestate", "a=1".to_owned()),
                ("x-b3-traceid", TRACE.to_owned()),
                ("uber-trace-id", format!("{TRACE}:{SPAN}:0:1")),
                ("sw8", "1-x".to_owned()),
            ];
            let (span, left) = send(&mesh, &headers);
            assert_ne!(span.trace_id, TRACE, "{what}");
            assert_eq!(span.parent_span_id, None, "{what}");
            assert_eq!(
                traceparent(&left),
                [&*span.trace_id, &span.span_id, "01"],
                "{what}"
            );
            let list = left.header_text("tracestate").unwrap_or_default();
            assert!(!list.contains("a=1"), "{what}: {list}");
            assert_eq!(left.header("sw8").is_none(), mode == "ignore", "{what}");
            assert_eq!(
                left.header("uber-trace-id").is_none(),
                mode == "ignore",
                "{what}"
            );

            let headers = [
                ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
                ("x-trusted", "1".to_owned()),
            ];
            let (span, _) = send(&mesh, &headers);
            assert_eq!(span.trace_id, TRACE, "{what}");
        }
    });
}

#[test]
fn preserve_clear_and_overrides_by_host_hold() {
    each_host(|host, envoy, _| {
        let config = reporting(json!({
            "inject": "preserve",
            "clear": ["x-legacy", "sw8"],
            "overrides": [{"host": "*.partner.example", "inject": [], "clear": ["tracecontext", "b3", "b3multi"]}],
        }));
        let mesh = host.start(envoy, config);
        let b3 = ("b3", format!("{TRACE}-{SPAN}-1"));
        let (span, left) = send(
            &mesh,
            &[
                b3.clone(),
                ("x-legacy", "1".to_owned()),
                ("sw8", "1".to_owned()),
            ],
        );
        assert_eq!(
            left.header_text("b3"),
            Some(format!("{TRACE}-{}-1-{SPAN}", span.span_id))
        );
        assert_eq!(left.header("traceparent"), None);
        assert_eq!((left.header("x-legacy"), left.header("sw8")), (None, None));

        let (_, left) = send(&mesh, &[b3, ("host", "api.partner.example:80".to_owned())]);
        assert_eq!(left.header("b3"), None);
        assert_eq!(left.header("traceparent"), None);
    });
}
