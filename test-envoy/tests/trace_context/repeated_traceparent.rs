//! A `traceparent` that came more than once: proxies add one where they should replace it, or join
//! lines by a comma.

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, Tracing,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, Upstream, each_supported};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, get, manager, trace_context};
use meshtrace_test_support::http2;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{collector, mesh_tracing, reporting, traceparent};
use serde_json::json;

const FIRST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SAME_TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-00";
const OTHER_TRACE: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";

type Headers<'a> = Vec<(&'static str, &'a str)>;

fn lines<'a>(values: &[&'a str]) -> Headers<'a> {
    let mut headers: Headers<'a> = values.iter().map(|value| ("traceparent", *value)).collect();
    headers.push(("tracestate", "vendor=1"));
    headers
}

/// What is continued, with the first line's flag, and what names no trace.
fn cases() -> Vec<(Headers<'static>, bool)> {
    const JOINED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-00";
    const WITH_EMPTY: &str = ", 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,";
    const TWO_TRACES: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, 00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
    vec![
        (lines(&[FIRST, FIRST]), true),
        (lines(&[FIRST, SAME_TRACE]), true),
        (lines(&[FIRST, SAME_TRACE, FIRST]), true),
        (lines(&[JOINED]), true),
        (lines(&[JOINED, FIRST]), true),
        (lines(&[FIRST, ""]), true),
        (lines(&[WITH_EMPTY]), true),
        (lines(&[FIRST, OTHER_TRACE]), false),
        (lines(&[TWO_TRACES]), false),
        (lines(&[FIRST, "junk"]), false),
    ]
}

#[test]
fn lines_of_one_trace_are_continued_by_the_first_and_leave_as_one() {
    let reject = r#"{"on_repeated": "reject", "inject": ["tracecontext"]}"#;
    let mut tried = 0;
    each_supported(|envoy| {
        let mesh = Mesh::start_on(
            envoy,
            vec![
                (
                    "same",
                    manager(trace_context(r#"{"inject": ["tracecontext"]}"#)),
                ),
                ("reject", manager(trace_context(reject))),
            ],
        );
        for (headers, continued) in cases() {
            let at = format!("{headers:?} {}", envoy.reported_version());
            for listener in ["same", "reject"] {
                http2::over_both(mesh.address(listener), &headers);
                let requests = mesh.upstream.take();
                assert_eq!(requests.len(), 2, "{at}");
                for request in requests {
                    let left = request.header_values("traceparent");
                    if continued && listener == "same" {
                        assert_eq!(left, [FIRST.as_bytes()], "{at}");
                        assert_eq!(
                            request.header_text("tracestate").as_deref(),
                            Some("vendor=1"),
                            "{at}"
                        );
                    } else {
                        assert!(left.is_empty(), "{listener}: {at}");
                        assert_eq!(request.header("tracestate"), None, "{listener}: {at}");
                    }
                    tried += 1;
                }
            }
        }
    });
    promises::held(
        "Context and formats",
        "A traceparent that came several times, or joined by commas, is continued where all of them name one trace, and \
         one line is left",
        "10 shapes, same_trace and reject, HTTP/1.1 and HTTP/2",
        &format!(
            "{tried} of {tried} requests as documented, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// The filter is no worse than Envoy's own tracer, which continues the first of several lines.
#[test]
fn mesh_tracing_continues_what_envoys_own_tracer_continues() {
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let sink = OtlpSink::start().expect("a collector");
        let upstream = Upstream::start().expect("an upstream");
        let plain = || HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
        let ours = plain().filter(mesh_tracing(reporting("http/protobuf", "{}")));
        let own = plain().tracing(Tracing::opentelemetry_http("collector", "test"));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ours", ours))
            .listener(Listener::http("own", own))
            .cluster(Cluster::http1("upstream", upstream.address()))
            .cluster(collector("http/protobuf", &sink));
        let proxy = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
        let pass = |listener: &str, headers: &[(&str, &str)]| -> RecordedRequest {
            let address = proxy.address(listener).expect("its address");
            get(headers).send(address).expect("a response");
            upstream.take().remove(0)
        };
        for (headers, continued) in cases() {
            let ours = pass("ours", &headers);
            assert_eq!(
                ours.header_values("traceparent").len(),
                1,
                "{headers:?} {at}"
            );
            assert_eq!(
                traceparent(&ours)[0] == TRACE,
                continued,
                "{headers:?} {at}"
            );
            if continued {
                let spans = sink.wait_for_trace(TRACE, 1).expect("the span");
                let parents: Vec<_> = spans
                    .iter()
                    .filter_map(|span| span.parent_span_id.as_deref())
                    .collect();
                assert_eq!(parents, [SPAN], "{headers:?} {at}");
                sink.clear();
            }
        }
        for headers in [lines(&[FIRST, FIRST]), lines(&[FIRST, SAME_TRACE])] {
            assert_eq!(
                traceparent(&pass("own", &headers))[0],
                TRACE,
                "{headers:?} {at}"
            );
        }
    });
}

/// Upstream the tracer writes one line.
#[test]
fn the_key_is_refused_where_it_makes_no_sense() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let config =
        json!({"placement": "upstream", "tracer": "tracecontext", "on_repeated": "reject"});
    let mesh = Mesh::start_on(
        &envoy,
        vec![("ingress", manager(trace_context(&config.to_string())))],
    );
    let log = mesh.envoy.log().expect("its log");
    assert!(
        log.contains("trace_context.on_repeated: not with placement"),
        "{log}"
    );
}

/// A comma ends a value, and what only the format knows stays with the ids.
#[test]
fn joined_values_of_other_formats_keep_what_stands_beside_the_ids() {
    const X_RAY: &str =
        "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1;Lineage=a:1";
    const OTHER: &str = "Root=1-80f198ee-56343ba864fe8b2a57d3eff7";
    let only = |format: &str| {
        let config = json!({"extract": [format], "inject": [format]});
        manager(trace_context(&config.to_string()))
    };
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let listeners = ["xray", "datadog"].map(|format| (format, only(format)));
        let mesh = Mesh::start_on(envoy, listeners.into());
        let pass = |listener: &str, headers: &[(&str, &str)]| {
            mesh.pass(&mut mesh.connect(listener), &get(headers))
        };
        for (second, left) in [(X_RAY, Some(X_RAY)), (OTHER, None)] {
            let joined = format!("{X_RAY},{second}");
            let request = pass("xray", &[("x-amzn-trace-id", &joined)]);
            let header = request.header_text("x-amzn-trace-id");
            assert_eq!(header.as_deref(), left, "{joined} {at}");
        }
        let request = pass(
            "datadog",
            &[
                ("x-datadog-trace-id", "123,123"),
                ("x-datadog-parent-id", "456,456"),
                ("x-datadog-sampling-priority", "2"),
                ("x-datadog-origin", "synthetics"),
                ("x-datadog-tags", "_dd.p.dm=-4"),
            ],
        );
        for (name, value) in [
            ("x-datadog-trace-id", "123"),
            ("x-datadog-parent-id", "456"),
            ("x-datadog-sampling-priority", "2"),
            ("x-datadog-origin", "synthetics"),
            ("x-datadog-tags", "_dd.p.dm=-4"),
        ] {
            assert_eq!(
                request.header_text(name).as_deref(),
                Some(value),
                "{name} {at}"
            );
        }
    });
}
