//! Filters beside each tracer: each alone, and all of them in one answer.

use std::path::{Path, PathBuf};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use envoy_test_harness::{AccessLog, each_supported};
use meshtrace_render::{Filter, ProxyTracer, Tracer};
use meshtrace_test_support::applied::{self, merge};
use meshtrace_test_support::common::Mesh;
use meshtrace_test_support::tracers::{self, CASE, Caller, Reader, Sinks};
use serde_json::json;

use super::{manager, render, setup, word};

const RULES: &str = r#"{"rules": [{"match": {"path": {"prefix": "/health"}}, "sample": "never"},
    {"match": {"path": {"template": "/orders/{id}"}}, "sample": "always"}], "default": "never"}"#;
const IDS: &str = r#"{"ids": {"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"},
        "shared_span_context": false}"#;
/// With headers, which tags of every version read.
const ATTRIBUTES: &str = r#"{"emit": {"request_header_prefix": "x-span-attr-"}}"#;

/// The sets of filters, by what a request through them shows.
fn sets() -> Vec<(&'static str, Vec<(Filter, &'static str)>)> {
    use Filter::{AccessLogTrace, RouteSampling, SpanAttributes, TraceContext};
    vec![
        ("context", vec![(TraceContext, "")]),
        ("sampling", vec![(RouteSampling, RULES)]),
        ("attributes", vec![(SpanAttributes, ATTRIBUTES)]),
        ("log", vec![(AccessLogTrace, IDS)]),
        (
            "context sampling attributes log",
            vec![
                (TraceContext, ""),
                (RouteSampling, RULES),
                (SpanAttributes, ATTRIBUTES),
                (AccessLogTrace, IDS),
            ],
        ),
    ]
}

fn path_of(folder: &Path, shows: &str) -> PathBuf {
    folder.join(format!("{}.log", shows.replace(' ', "-")))
}

#[test]
fn filters_do_what_they_are_for_beside_opentelemetry() {
    beside(Tracer::OpenTelemetry);
}

#[test]
fn filters_do_what_they_are_for_beside_zipkin() {
    beside(Tracer::ZipkinB3);
}

#[test]
fn filters_do_what_they_are_for_beside_zipkin_with_w3c() {
    beside(Tracer::ZipkinB3WithW3c);
}

fn beside(tracer: Tracer) {
    let mut tried = 0;
    each_supported(|envoy| {
        let folder = tempfile::tempdir().expect("a folder");
        let sinks = Sinks::start();
        let mut bootstrap = sinks.connect(Bootstrap::new());
        for (shows, filters) in sets() {
            let mut setup = setup(envoy, ProxyTracer::Some(tracer), &filters);
            let log = path_of(folder.path(), shows);
            setup.log = log.to_str().expect("a path in UTF-8").to_owned();
            let mut manager = manager(word(tracer), &render(&setup));
            merge(
                &mut manager["tracing"],
                &json!({"custom_tags": [{"tag": "case", "request_header": {"name": CASE}}]}),
            );
            bootstrap = bootstrap.listener(applied::listener(shows, &manager));
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for (shows, _) in sets() {
            let label = format!("{shows}, {tracer:?} on {}", envoy.reported_version());
            let log = AccessLog::new(path_of(folder.path(), shows));
            one(&mesh, &sinks, tracer, shows, &log, &label);
            tried += 1;
        }
    });
    assert_eq!(tried, 4 * 5);
}

fn one(mesh: &Mesh, sinks: &Sinks, tracer: Tracer, shows: &str, log: &AccessLog, label: &str) {
    let mut connection = mesh.connect(shows);
    let mut send = |request: &Request| mesh.pass(&mut connection, request);
    let has = |what: &str| shows.split(' ').any(|word| word == what);
    // A caller in each format: the proxy's own span is in its trace, and the application is told so
    // in every format.
    let callers: &[&[&str]] = match has("context") {
        true => &[
            &["traceparent: 00-$T-$S-01"],
            &["b3: $T-$S-1"],
            &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
        ],
        // What this tracer reads itself.
        false if tracer == Tracer::OpenTelemetry => &[&["traceparent: 00-$T-$S-01"]],
        false => &[&["b3: $T-$S-1"]],
    };
    let mut sent = 0;
    for (place, headers) in callers.iter().enumerate() {
        let caller = Caller::fresh();
        let case = format!("{label} {place}");
        let mut request = caller.request(&case, headers);
        request = request
            .header("x-user-id", "u1")
            .header("x-tenant-id", "t1");
        let seen = send(&request);
        sent += 1;
        // It waits for the caller's trace.
        let spans = sinks.spans(sink_of(tracer), &caller.trace_id, &case, 1);
        let span = spans.first().expect("a span");
        assert_eq!(
            span.parent_span_id.as_deref(),
            Some(&*caller.span_id),
            "{case}"
        );
        // From 1.40 on Zipkin writes B3 in the shape that came in.
        let b3 = Reader::B3Multi
            .read(&seen)
            .or_else(|| Reader::B3.read(&seen));
        let told: Vec<_> = Reader::W3c.read(&seen).into_iter().chain(b3).collect();
        if has("context") {
            assert_eq!(told.len(), 2, "{case}: {seen:?}");
        }
        if has("context") || tracer == Tracer::OpenTelemetry {
            for told in told {
                let told = (told.trace_id, told.span_id, told.sampled);
                let span_id = span.span_id.clone();
                assert_eq!(
                    told,
                    (caller.trace_id.clone(), span_id, Some(true)),
                    "{case}"
                );
            }
        }
        if has("attributes") {
            assert_eq!(span.attribute("user.id"), Some("u1"), "{case}");
            assert_eq!(span.attribute("tenant.id"), Some("t1"), "{case}");
        }
        let helpers = seen.headers.iter().filter(|(name, _)| {
            let name = String::from_utf8_lossy(name).to_lowercase();
            [
                "x-active-",
                "x-meshtrace-",
                "x-client-trace-id",
                "x-envoy-force-trace",
            ]
            .iter()
            .any(|helper| name.starts_with(helper))
        });
        assert_eq!(helpers.count(), 0, "{case}: {seen:?}");
        if has("log") {
            let lines = log.wait_for_lines(sent).expect("log lines");
            let line = lines.last().expect("a line");
            assert_eq!(line["trace_id"], *span.trace_id, "{case}: {line}");
            assert_eq!(line["span_id"], *span.span_id, "{case}: {line}");
        }
    }
    if has("sampling") {
        // Nobody has decided: the rules do.
        let rules = [("/health", false), ("/other", false), ("/orders/7", true)];
        for (path, keeps) in rules {
            let case = format!("{label} {path}");
            let seen = send(&Request::get(path).header(CASE, &case));
            let reader = match tracer {
                Tracer::OpenTelemetry => Reader::W3c,
                _ => Reader::B3Multi,
            };
            let told = reader.read(&seen).expect("a context");
            assert_eq!(told.sampled, Some(keeps), "{case}");
            if keeps {
                let spans = sinks.spans(sink_of(tracer), &told.trace_id, &case, 1);
                assert_eq!(spans.len(), 1, "{case}");
            }
        }
        // The span of the last request has come, so those of the ones before would be there.
        let kept = |path: &str| sinks.arrived(&format!("{label} {path}")).len();
        assert_eq!([kept("/health"), kept("/other")], [0, 0], "{label}");
    }
}

fn sink_of(tracer: Tracer) -> tracers::Tracer {
    match tracer {
        Tracer::OpenTelemetry => tracers::Tracer::OpenTelemetry,
        Tracer::ZipkinB3 => tracers::Tracer::ZipkinB3,
        Tracer::ZipkinB3WithW3c => tracers::Tracer::ZipkinB3WithW3c,
    }
}
