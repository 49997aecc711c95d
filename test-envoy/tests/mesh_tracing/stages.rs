//! `mesh_tracing` with all of its stages: one span, its attributes and its log line, from one
//! filter.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, HttpFilter, Listener};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, Span, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing};
use serde_json::{Value, json};

const LOG_KEYS: [&str; 5] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "trace_flags",
    "trace_format",
];

fn stages(report: Value) -> Value {
    json!({
        "trace_context": {"extract": ["tracecontext", "b3"], "inject": ["tracecontext"]},
        "span_attributes": {"attributes": [
            {"key": "user.id", "from": {"header": "x-user-id"}},
            {"key": "order.id", "from": {"path": "/orders/{id}/**", "capture": "id"}},
            {"key": "cache", "from": {"response_header": "x-cache"}},
        ]},
        "access_log": {"response_header": {"name": "x-trace-id", "traceresponse": true}},
        "report": report,
    })
}

fn logged(manager: HttpConnectionManager) -> HttpConnectionManager {
    let keys = LOG_KEYS.iter().chain(&["user.id", "cache"]);
    let fields = keys.map(|key| {
        let format = format!("%FILTER_STATE(wasm.{key}:PLAIN)%");
        ((*key).to_owned(), Value::String(format))
    });
    manager.access_log(Value::Object(fields.collect()))
}

/// One request's log line, and its span where it is reported.
struct Run {
    mesh: Collected,
}

impl Run {
    fn start(binary: &EnvoyBinary, manager: HttpConnectionManager) -> Self {
        let listener = Listener::http("ingress", logged(manager));
        let bootstrap = Bootstrap::new().listener(listener);
        let mesh = Collected::with(binary, "http/protobuf", bootstrap);
        mesh.upstream
            .respond_with(|_| Reply::ok().header("x-cache", "HIT"));
        Self { mesh }
    }

    fn line(&self) -> Value {
        let log = self.mesh.envoy.access_log("ingress");
        let lines = log.wait_for_lines(1).expect("a line");
        lines.last().expect("a line").clone()
    }

    fn span(&self) -> Span {
        self.mesh.only_span()
    }
}

fn request(path: &str, flags: &str) -> Request {
    Request::get(path)
        .header("b3", format!("{TRACE}-{SPAN}-{flags}"))
        .header("x-user-id", "zo\u{eb}")
}

/// The line leads to the span.
fn assert_leads(line: &Value, span: &Span, version: &str) {
    let told = LOG_KEYS.map(|key| line[key].as_str().unwrap_or_default().to_owned());
    let expected = [TRACE, &span.span_id, SPAN, "01", "b3"];
    assert_eq!(told, expected, "{version}");
    assert_eq!(
        (span.trace_id.as_str(), span.parent_span_id.as_deref()),
        (TRACE, Some(SPAN))
    );
}

#[test]
fn one_filter_opens_describes_logs_and_reports_the_span() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let filter = mesh_tracing(stages(json!({"cluster": "collector"})));
        let run = Run::start(envoy, manager(filter));
        let response = run.mesh.send(&request("/orders/7/items", "1"));
        let (line, span) = (run.line(), run.span());
        assert_leads(&line, &span, version);
        let of = |key: &str| span.attributes.get(key).map(String::as_str);
        assert_eq!(of("user.id"), Some("zo\u{eb}"), "{version}");
        assert_eq!(of("order.id"), Some("7"), "{version}");
        assert_eq!(of("cache"), Some("HIT"), "{version}");
        assert_eq!(of("url.path"), Some("/orders/7/items"), "{version}");
        assert_eq!(
            (&line["user.id"], &line["cache"]),
            (&json!("zo\u{eb}"), &json!("HIT")),
            "{version}"
        );
        assert_eq!(
            response.header_text("x-trace-id").as_deref(),
            Some(TRACE),
            "{version}"
        );
        let told = format!("00-{TRACE}-{}-01", span.span_id);
        assert_eq!(
            response.header_text("traceresponse"),
            Some(told),
            "{version}"
        );
        assert_eq!(run.mesh.counter("host_errors"), 0, "{version}");
    });
}

#[test]
fn a_local_answer_and_an_earlier_filter_s_denial_lead_to_their_spans() {
    let deny = HttpFilter::raw(
        "deny",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [{"url_path": {"path": {"prefix": "/orders/denied"}}}],
                "principals": [{"any": true}],
            }}},
        }),
    );
    each_supported(|envoy| {
        let version = envoy.reported_version();
        for (path, status) in [("/direct", 404), ("/orders/denied/x", 403)] {
            let filter = mesh_tracing(stages(json!({"cluster": "collector"})));
            let run = Run::start(envoy, manager(deny.clone()).filter(filter));
            assert_eq!(
                run.mesh.send(&request(path, "1")).status,
                status,
                "{version}"
            );
            let (line, span) = (run.line(), run.span());
            assert_leads(&line, &span, version);
            let of = |key: &str| span.attributes.get(key).map(String::as_str);
            assert_eq!(of("user.id"), Some("zo\u{eb}"), "{version} {path}");
        }
    });
}

#[test]
fn a_failure_that_is_kept_has_the_attributes_of_its_request() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let filter = mesh_tracing(stages(json!({"cluster": "collector"})));
        let run = Run::start(envoy, manager(filter));
        run.mesh.upstream.respond_with(|_| Reply::status(500));
        run.mesh.send(&request("/orders/7/items", "0"));
        let (line, span) = (run.line(), run.span());
        assert_eq!(line["trace_flags"], "00", "{version}");
        assert_eq!(line["span_id"], json!(span.span_id), "{version}");
        let of = |key: &str| span.attributes.get(key).map(String::as_str);
        assert_eq!(of("meshtrace.kept"), Some("error"), "{version}");
        assert_eq!(of("user.id"), Some("zo\u{eb}"), "{version}");
        assert_eq!(of("order.id"), Some("7"), "{version}");
    });
}

#[test]
fn without_report_the_stages_are_those_of_the_single_filters() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let config = json!({
            "trace_context": {},
            "span_attributes": {},
            "access_log": {"tracer": "none", "response_header": "x-trace-id"},
        });
        let run = Run::start(envoy, manager(mesh_tracing(config)));
        let response = run.mesh.send(&request("/", "1"));
        let line = run.line();
        let upstream = run.mesh.upstream.take().remove(0);
        let traceparent = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(
            upstream.header_text("traceparent"),
            Some(traceparent),
            "{version}"
        );
        assert_eq!(line["trace_id"], TRACE, "{version}");
        assert_eq!(line["user.id"], "zo\u{eb}", "{version}");
        assert_eq!(
            response.header_text("x-trace-id").as_deref(),
            Some(TRACE),
            "{version}"
        );
        assert_eq!(run.mesh.sink.spans().len(), 0, "{version}");
    });
}
