//! What `access_log_trace` tells besides the five ids: the caller, the back ends' shapes, and who
//! misconfigured it.

use std::time::Duration;

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{AccessLog, EnvoyBinary, each_supported};
use meshtrace_render::{IdsFrom, access_log, access_log_fields};
use meshtrace_test_support::common::{
    Mesh, SPAN, TRACE, access_log_trace, expose_ids, get, log_ids, manager, trace_context,
};
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};
use serde_json::{Value, json};

const CONFIG: &str = r#"{
    "tracer": "tracecontext",
    "spawn_upstream_span": false,
    "ids": {"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"},
    "shapes": ["datadog", "b3_64", {"gcp": {"project": "my-project"}}],
    "response_header": {"name": "x-trace-id", "traceresponse": true}
}"#;

/// A mesh with the rendered step and log, the OpenTelemetry tracer, and this share of requests
/// sampled.
fn logged(envoy: &EnvoyBinary, sampled: f64, from: IdsFrom, log: &str) -> (Mesh, Sinks) {
    let (config, ids) = log_ids(CONFIG);
    let step = expose_ids(&config, envoy).expect("a step");
    let tracing = Tracer::OpenTelemetry.tracing().expect("a tracer");
    let manager = HttpConnectionManager::new()
        .route(Route::path("/direct").direct_response(200, ""))
        .route(Route::prefix("/").cluster("upstream"))
        .tracing(tracing.random_sampling(sampled))
        .filter(step)
        .filter(access_log_trace(CONFIG))
        .merge(json!({"access_log": [access_log(log, &access_log_fields(&ids, from))]}));
    let sinks = Sinks::start();
    let bootstrap = sinks
        .connect(Bootstrap::new())
        .listener(Listener::http("ingress", manager));
    (Mesh::with(envoy, bootstrap), sinks)
}

fn send(mesh: &Mesh, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = headers
        .iter()
        .fold(Request::get(path), |request, (name, value)| {
            request.header(name, value)
        });
    mesh.connect("ingress").send(&request).expect("a response")
}

fn text<'v>(line: &'v Value, key: &str) -> &'v str {
    line[key].as_str().unwrap_or_default()
}

#[test]
fn the_caller_and_the_log_are_told_the_same_ids_in_every_shape() {
    each_supported(|envoy| {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let log = log.to_str().expect("a path");
        let (mesh, _sinks) = logged(envoy, 100.0, IdsFrom::Filter, log);
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        for (path, headers) in [
            ("/", vec![]),
            ("/direct", vec![]),
            ("/", vec![("traceparent", w3c.as_str())]),
            ("/direct", vec![("traceparent", w3c.as_str())]),
        ] {
            let before = AccessLog::new(log).lines().expect("a log").len();
            let response = send(&mesh, path, &headers);
            let lines = AccessLog::new(log)
                .wait_for_lines(before + 1)
                .expect("a line");
            let line = lines.last().expect("a line");
            let at = format!(
                "{}: {path} {headers:?}\n{line}\n{response:?}",
                envoy.reported_version()
            );

            let trace_id = text(line, "trace_id");
            assert_eq!(trace_id.len(), 32, "{at}");
            assert!(headers.is_empty() || trace_id == TRACE, "{at}");
            assert_eq!(
                response.header_text("x-trace-id").as_deref(),
                Some(trace_id),
                "{at}"
            );
            let half = u64::from_str_radix(&trace_id[16..], 16).expect("digits");
            assert_eq!(text(line, "trace_id_datadog"), half.to_string(), "{at}");
            assert_eq!(text(line, "trace_id_b3_64"), &trace_id[16..], "{at}");
            let gcp = format!("projects/my-project/traces/{trace_id}");
            assert_eq!(text(line, "trace_id_gcp"), gcp, "{at}");

            // What is not known is null, and from 1.40 on not there.
            assert_eq!(
                line.get("grpc_status").is_none(),
                envoy.is_at_least(1, 40),
                "{at}"
            );
            let tells_span = envoy.is_at_least(1, 38) || path == "/";
            assert_eq!(line["span_id"].is_string(), tells_span, "{at}");
            let expected = envoy
                .is_at_least(1, 38)
                .then(|| format!("00-{trace_id}-{}-01", text(line, "span_id")));
            assert_eq!(response.header_text("traceresponse"), expected, "{at}");
            assert_eq!(
                line["parent_span_id"].is_string(),
                !headers.is_empty(),
                "{at}"
            );
            for key in [
                "start_time",
                "method",
                "path",
                "authority",
                "duration",
                "request_id",
            ] {
                assert!(!line[key].is_null(), "{key}: {at}");
            }
        }
    });
}

#[test]
fn an_unsampled_request_has_its_ids_too() {
    each_supported(|envoy| {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let log = log.to_str().expect("a path");
        let (mesh, _sinks) = logged(envoy, 0.0, IdsFrom::Filter, log);
        let request = mesh.pass(&mut mesh.connect("ingress"), &get(&[]));
        let line = AccessLog::new(log)
            .wait_for_lines(1)
            .expect("a line")
            .remove(0);
        let ids = ["trace_id", "span_id", "trace_flags"].map(|key| text(&line, key));
        assert_eq!(
            request.header_text("traceparent"),
            Some(format!("00-{}", ids.join("-"))),
            "{}",
            envoy.reported_version()
        );
        assert_eq!(ids[2], "00");
    });
}

#[test]
fn envoys_own_formatters_tell_the_same_where_they_exist() {
    each_supported(|envoy| {
        if !envoy.is_at_least(1, 38) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let log = log.to_str().expect("a path");
        let (mesh, _sinks) = logged(envoy, 100.0, IdsFrom::Envoy, log);
        let request = mesh.pass(&mut mesh.connect("ingress"), &get(&[]));
        let line = AccessLog::new(log)
            .wait_for_lines(1)
            .expect("a line")
            .remove(0);
        let ids = ["trace_id", "span_id", "trace_flags"].map(|key| text(&line, key));
        assert_eq!(
            request.header_text("traceparent"),
            Some(format!("00-{}", ids.join("-")))
        );
    });
}

/// What a filter behind this one makes of the headers is not taken for the tracer's.
#[test]
fn beside_trace_context_in_both_placements_a_line_names_the_exported_span() {
    let told = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
    let upstream = r#"{"placement": "upstream", "tracer": "tracecontext"}"#;
    let w3c = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    let b3 = format!("b3: {TRACE}-{SPAN}-1");
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let mut bootstrap = sinks.connect(Bootstrap::new());
        for config in [told, "{}"] {
            let manager = HttpConnectionManager::new()
                .route(Route::path("/direct").direct_response(200, ""))
                .route(Route::prefix("/").cluster("upstream"))
                .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
                .filter(access_log_trace(config))
                .filter(trace_context(""))
                .upstream_filter(trace_context(upstream))
                .access_log(json!(access_log_fields(
                    &log_ids(config).1,
                    IdsFrom::Filter
                )));
            bootstrap = bootstrap.listener(Listener::http(config, manager));
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for config in [told, "{}"] {
            let arrivals = [None, Some(&w3c), Some(&b3)];
            let places = ["/", "/direct"].map(|path| arrivals.map(|arrival| (path, arrival)));
            for (path, arrival) in places.into_iter().flatten() {
                let case = format!("{config} {path} {arrival:?}");
                let mut request = Request::get(path).header(CASE, &case);
                if let Some((name, value)) = arrival.and_then(|line| line.split_once(": ")) {
                    request = request.header(name, value);
                }
                let log = mesh.envoy.access_log(config);
                let before = log.lines().expect("a log").len();
                mesh.connect(config).send(&request).expect("a response");
                let lines = log.wait_for_lines(before + 1).expect("a line");
                let line = lines.last().expect("a line");
                let span = sinks.wait_for_case(&case);

                let at = format!("{}: {case}\n{line}\n{span:?}", envoy.reported_version());
                let has = ["trace_id", "span_id", "parent_span_id"].map(|key| line[key].as_str());
                let exported = [
                    Some(&span.trace_id),
                    Some(&span.span_id),
                    span.parent_span_id.as_ref(),
                ];
                for (has, exported) in has.iter().zip(exported) {
                    assert!(
                        has.is_none() || *has == exported.map(String::as_str),
                        "{at}"
                    );
                }
                assert_eq!(
                    has[0].is_some(),
                    path == "/" || (config == told && arrival == Some(&w3c)),
                    "{at}"
                );
                assert_eq!(has[1].is_some(), path == "/" && config == told, "{at}");
            }
        }
    });
}

#[test]
fn a_line_that_is_logged_while_the_request_lasts_has_the_ids_too() {
    each_supported(|envoy| {
        if !envoy.is_at_least(1, 38) {
            return;
        }
        let (config, _) = log_ids(CONFIG);
        let step = expose_ids(&config, envoy).expect("a step");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .filter(step)
            .filter(access_log_trace(CONFIG))
            .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
            .access_log(json!({
                "kind": "%ACCESS_LOG_TYPE%",
                "ids": "%FILTER_STATE(wasm.trace_id:PLAIN)%-%FILTER_STATE(wasm.span_id:PLAIN)%",
            }))
            .merge(json!({"access_log_options": {"access_log_flush_interval": "0.1s"}}));
        let sinks = Sinks::start();
        let bootstrap = sinks.connect(Bootstrap::new());
        let mesh = Mesh::with(
            envoy,
            bootstrap.listener(Listener::http("ingress", manager)),
        );
        mesh.upstream
            .respond_with(|_| Reply::ok().delay(Duration::from_millis(500)));
        let request = mesh.pass(&mut mesh.connect("ingress"), &get(&[]));
        let traceparent = request.header_text("traceparent").expect("a context");
        let lines = mesh
            .envoy
            .access_log("ingress")
            .wait_for_lines(3)
            .expect("the lines");
        assert!(
            lines
                .iter()
                .any(|line| line["kind"] == "DownstreamPeriodic"),
            "{lines:?}"
        );
        for line in &lines {
            assert_eq!(
                traceparent,
                format!("00-{}-01", text(line, "ids")),
                "{line}"
            );
        }
    });
}

#[test]
fn a_bad_configuration_is_one_line_and_fails_no_request() {
    let bad = r#"{"shapes": ["datadog", "x-ray"]}"#;
    let mesh = Mesh::start(vec![("ingress", manager(access_log_trace(bad)))]);
    mesh.envoy
        .wait_for_log(
            "access_log_trace.shapes[1]: invalid value: string \"x-ray\", expected \"datadog\"",
        )
        .expect("the refusal");
    mesh.pass(
        &mut mesh.connect("ingress"),
        &get(&[("traceparent", "junk")]),
    );
}
