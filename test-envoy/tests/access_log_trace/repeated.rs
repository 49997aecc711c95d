//! The log line of a request whose `traceparent` came more than once: it names the trace that is
//! continued.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_render::{IdsFrom, access_log_fields};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, access_log_trace, get, log_ids};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::mesh_tracing;
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};
use serde_json::{Value, json};

const FIRST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SAME_TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-01";
const JOINED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-01";
const OTHER_TRACE: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";

fn routed() -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::path("/direct").direct_response(200, ""))
        .route(Route::prefix("/").cluster("upstream"))
}

fn request(path: &str, case: &str, lines: &[&'static str]) -> Request {
    let request = Request::get(path).header(CASE, case);
    lines.iter().fold(request, |request, line| {
        request.header("traceparent", *line)
    })
}

/// Trace and parent.
fn told(line: &Value) -> [Option<&str>; 2] {
    ["trace_id", "parent_span_id"].map(|key| line[key].as_str())
}

#[test]
fn without_a_tracer_the_line_names_the_trace_that_goes_on() {
    let none = r#"{"tracer": "none"}"#;
    let stages = json!({"trace_context": {}, "access_log": {"tracer": "none"}});
    let mut tried = 0;
    each_supported(|envoy| {
        let fields = json!(access_log_fields(&log_ids(none).1, IdsFrom::Filter));
        let managers = vec![
            (
                "single",
                routed()
                    .filter(access_log_trace(none))
                    .access_log(fields.clone()),
            ),
            (
                "stages",
                routed()
                    .filter(mesh_tracing(stages.clone()))
                    .access_log(fields),
            ),
        ];
        let mesh = Mesh::start_on(envoy, managers);
        for listener in ["single", "stages"] {
            for (lines, continued) in [
                (&[FIRST, SAME_TRACE][..], true),
                (&[JOINED], true),
                (&[JOINED, FIRST], true),
                (&[FIRST, OTHER_TRACE], false),
            ] {
                let log = mesh.envoy.access_log(listener);
                let before = log.lines().expect("a log").len();
                let headers: Vec<_> = lines.iter().map(|line| ("traceparent", *line)).collect();
                let left = mesh.pass(&mut mesh.connect(listener), &get(&headers));
                let logged = log.wait_for_lines(before + 1).expect("a line");
                let line = logged.last().expect("a line");
                let at = format!("{listener} {lines:?} {}: {line}", envoy.reported_version());
                let expected = continued.then_some([TRACE, SPAN]).map(|ids| ids.map(Some));
                assert_eq!(told(line), expected.unwrap_or_default(), "{at}");
                if listener == "stages" {
                    let goes_on = left.header_values("traceparent") == [FIRST.as_bytes()];
                    assert_eq!(goes_on, continued, "{at}");
                }
                tried += 1;
            }
        }
    });
    promises::held(
        "Context and formats",
        "The access log names the trace of a traceparent that came several times exactly where that trace is continued",
        "2 filters without a tracer, lines and joined values, one trace and two",
        &format!(
            "{tried} of {tried} lines, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// What Envoy's tracer exports is what the line may name; of a joined line it makes no span.
#[test]
fn beside_envoys_tracer_the_line_names_what_it_exports() {
    let config = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
    let beside = json!({
        "trace_context": {},
        "access_log": {"tracer": "tracecontext", "spawn_upstream_span": false},
    });
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let fields = json!(access_log_fields(&log_ids(config).1, IdsFrom::Filter));
        let traced = || {
            routed()
                .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
                .access_log(fields.clone())
        };
        let bootstrap = sinks
            .connect(Bootstrap::new())
            .listener(Listener::http(
                "single",
                traced().filter(access_log_trace(config)),
            ))
            .listener(Listener::http(
                "stages",
                traced().filter(mesh_tracing(beside.clone())),
            ));
        let mesh = Mesh::with(envoy, bootstrap);
        for (listener, path) in [
            ("single", "/"),
            ("single", "/direct"),
            ("stages", "/"),
            ("stages", "/direct"),
        ] {
            for lines in [&[FIRST, SAME_TRACE][..], &[JOINED]] {
                let case = format!("{listener} {path} {lines:?}");
                let log = mesh.envoy.access_log(listener);
                let before = log.lines().expect("a log").len();
                let request = request(path, &case, lines);
                mesh.connect(listener).send(&request).expect("a response");
                let logged = log.wait_for_lines(before + 1).expect("a line");
                let line = logged.last().expect("a line");
                let at = format!("{case} {}: {line}", envoy.reported_version());
                if lines == [JOINED] {
                    assert_eq!(told(line), [None, None], "{at}");
                    assert_eq!(line["span_id"].as_str(), None, "{at}");
                    continue;
                }
                assert_eq!(told(line), [Some(TRACE), Some(SPAN)], "{at}");
                let span = sinks.wait_for_case(&case);
                assert_eq!(span.trace_id, TRACE, "{at}");
                assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{at}");
                let span_id = line["span_id"].as_str();
                let exported = (path == "/").then_some(span.span_id.as_str());
                assert_eq!(span_id, exported, "{at}");
            }
        }
    });
}
