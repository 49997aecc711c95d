//! From Envoy's access log through a real OpenTelemetry Collector to log records that name the
//! exported spans: with the files of the example. `make test-mesh` builds the Collector and runs
//! these.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{
    AccessLog, EnvoyBinary, Span, SpanKind, Upstream, WAIT_LIMIT, each_supported,
};
use meshtrace_render::{IdsFrom, access_log, access_log_fields};
use meshtrace_test_support::common::{
    Mesh, SPAN, TRACE, access_log_trace, expose_ids, log_ids, root,
};
use meshtrace_test_support::tracers::{CASE, Reader, Sinks, Tracer};
use serde_json::{Value, json};

const CONFIG: &str = r#"{
    "tracer": "tracecontext",
    "spawn_upstream_span": false,
    "ids": {"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"}
}"#;

/// A Collector with the example's configuration; it ends when dropped.
#[derive(Debug)]
struct Collector(Child);

impl Collector {
    /// Reads `log`, and exports as JSON to `loki`.
    fn start(log: &Path, loki: &Upstream) -> Self {
        let binary =
            env::var_os("COLLECTOR_BIN").expect("COLLECTOR_BIN, as `make test-mesh` sets it");
        let child = Command::new(binary)
            .arg("--config")
            .arg(root().join("examples/access-log/collector.yaml"))
            .args([
                "--config=yaml:exporters::otlphttp/loki::encoding: json",
                "--config=yaml:exporters::otlphttp/loki::compression: none",
                "--config=yaml:service::telemetry::metrics::level: none",
            ])
            .env("ACCESS_LOG", log)
            .env("LOKI_ENDPOINT", format!("http://{}", loki.address()))
            .stderr(Stdio::null())
            .spawn()
            .expect("a Collector");
        Self(child)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

/// The log records of an OTLP export in JSON, by the attribute `case`.
fn records(request: &RecordedRequest) -> Vec<(String, Value)> {
    assert_eq!(request.path, "/v1/logs");
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let scopes = list(&body, "resourceLogs").flat_map(|resource| list(resource, "scopeLogs"));
    scopes
        .flat_map(|scope| list(scope, "logRecords"))
        .map(|record| {
            let case = list(record, "attributes").find(|attribute| attribute["key"] == "case");
            let case = case.and_then(|case| case["value"]["stringValue"].as_str());
            (case.expect("a case").to_owned(), record.clone())
        })
        .collect()
}

fn wait_for_records(loki: &Upstream, count: usize) -> HashMap<String, Value> {
    let start = Instant::now();
    loop {
        let found: HashMap<_, _> = loki.requests().iter().flat_map(records).collect();
        if found.len() >= count {
            return found;
        }
        assert!(
            start.elapsed() < WAIT_LIMIT,
            "{} of {count} records: {found:?}",
            found.len()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Envoy with the rendered log and step.
fn mesh(envoy: &EnvoyBinary, sinks: &Sinks, log: &Path) -> Mesh {
    let (config, ids) = log_ids(CONFIG);
    let step = expose_ids(&config, envoy).expect("a step");
    let mut fields = access_log_fields(&ids, IdsFrom::Filter);
    fields.insert("case".to_owned(), json!(format!("%REQ({CASE})%")));
    let log = access_log(log.to_str().expect("a path"), &fields);
    let manager = HttpConnectionManager::new()
        .route(Route::path("/direct").direct_response(200, ""))
        .route(Route::path("/").cluster("upstream"))
        .tracing(Tracer::OpenTelemetry.tracing().expect("a tracer"))
        .filter(step)
        .filter(access_log_trace(CONFIG))
        .merge(json!({"access_log": [log]}));
    let bootstrap = sinks.connect(Bootstrap::new());
    Mesh::with(
        envoy,
        bootstrap.listener(Listener::http("ingress", manager)),
    )
}

fn compare(record: &Value, span: Option<&Span>, tells_span: bool, at: &str) {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let Some(span) = span else {
        assert_eq!([text("traceId"), text("spanId")], ["", ""], "{at}");
        return;
    };
    assert_eq!(text("traceId"), span.trace_id, "{at}");
    let span_id = if tells_span {
        span.span_id.as_str()
    } else {
        ""
    };
    assert_eq!(text("spanId"), span_id, "{at}");
}

#[test]
#[ignore = "needs a Collector: `make test-mesh`"]
fn every_log_record_names_the_span_that_was_exported() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let arrivals = [
        vec![],
        vec![("traceparent", w3c.as_str())],
        vec![("traceparent", "junk")],
    ];
    each_supported(|envoy| {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let (loki, sinks) = (Upstream::start().expect("a server"), Sinks::start());
        let mesh = mesh(envoy, &sinks, &log);
        let _collector = Collector::start(&log, &loki);

        let mut cases = Vec::new();
        let mut connection = mesh.connect("ingress");
        for path in ["/", "/direct", "/nowhere"] {
            for arrival in &arrivals {
                let case = format!("{path} {arrival:?}");
                let request = Request::get(path).header(CASE, &case);
                let request = arrival
                    .iter()
                    .fold(request, |r, (name, value)| r.header(name, value));
                connection.send(&request).expect("a response");
                cases.push((case, path, arrival));
            }
        }
        mesh.upstream.take();
        connection
            .send(&Request::get("/").header(CASE, "last"))
            .expect("a response");
        let last = mesh.upstream.take().pop().expect("a request");
        let told = Reader::W3c.read(&last).expect("a context");
        sinks.spans(Tracer::OpenTelemetry, &told.trace_id, "last", 1);

        let records = wait_for_records(&loki, cases.len() + 1);
        let lines = AccessLog::new(&log).lines().expect("the log");
        assert_eq!(records.len(), lines.len());
        for (case, path, arrival) in cases {
            let at = format!("{}: {case}: {}", envoy.reported_version(), records[&case]);
            let spans = sinks.arrived(&case);
            let span = spans.iter().find(|span| span.kind == SpanKind::Server);
            // A malformed traceparent makes Envoy's tracer start no span.
            assert_eq!(
                span.is_none(),
                arrival.contains(&("traceparent", "junk")),
                "{at}"
            );
            let tells_span = envoy.is_at_least(1, 38) || path == "/";
            compare(&records[&case], span, tells_span, &at);
        }
    });
}
