//! What `meshtrace init` writes for a standalone Envoy, on real Envoys: the caller's trace is joined.

use std::fs;
use std::process::Command;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::{
    Envoy, EnvoyBinary, Options, OtlpSink, Span, Upstream, ZipkinSink, each_supported,
};
use meshtrace_test_support::common::{SPAN, TRACE, command_line, root};
use meshtrace_test_support::example::set_cluster;
use meshtrace_test_support::native;
use serde_json::Value;

/// The folder's Envoy, and all that it sends to.
struct SetUp {
    envoy: Envoy,
    upstream: Upstream,
    otlp: OtlpSink,
    zipkin: ZipkinSink,
}

impl SetUp {
    fn start(binary: &EnvoyBinary, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let version = binary.reported_version();
        let modules = root().join("dist/{filter}.wasm");
        let output = Command::new(command_line())
            .args(["init", "--envoy", version, "--url"])
            .arg(&modules)
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .output()
            .expect("the command line");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{printed}");
        let text = fs::read_to_string(out.join("envoy.yaml")).expect("the configuration");
        let mut bootstrap: Value = serde_saphyr::from_str(&text).expect("YAML");
        let upstream = Upstream::start().expect("an application");
        let otlp = OtlpSink::start().expect("a collector");
        let zipkin = ZipkinSink::start().expect("a collector");
        set_cluster(&mut bootstrap, "application", upstream.address());
        let has = |name: &str| text.contains(&format!("name: {name}"));
        if has("tracing-collector") {
            let address = match text.contains("OpenTelemetryConfig") {
                true => otlp.grpc_addr(),
                false => zipkin.address(),
            };
            set_cluster(&mut bootstrap, "tracing-collector", address);
        } else {
            set_cluster(&mut bootstrap, "collector", otlp.http_addr());
        }
        // A span is sent at once, and not after five seconds.
        bootstrap["layered_runtime"] = serde_json::json!({"layers": [{"name": "test", "static_layer": {
            "tracing.opentelemetry.min_flush_spans": 1,
            "tracing.zipkin.min_flush_spans": 1,
        }}]});
        let options = match text.contains("DynamicModuleTracer") {
            true => native::options(),
            false => Options::new(),
        };
        let envoy = Envoy::start_raw(binary, bootstrap, options).expect("an Envoy that starts");
        Self {
            envoy,
            upstream,
            otlp,
            zipkin,
        }
    }

    /// A caller with both formats. The proxy's spans are returned.
    fn call(&self) -> Vec<Span> {
        let address = self.envoy.address("ingress").expect("its address");
        let request = Request::get("/orders/7")
            .header("b3", format!("{TRACE}-{SPAN}-1"))
            .header("x-user-id", "alice");
        let response = Connection::open(address).and_then(|mut open| open.send(&request));
        assert_eq!(response.expect("a response").status, 200);
        let mut spans = Vec::new();
        for _ in 0..100 {
            spans = self.otlp.spans();
            spans.extend(self.zipkin.spans());
            if !spans.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        spans
    }

    fn is_joined(&self) {
        let spans = self.call();
        assert!(!spans.is_empty(), "no span was exported");
        for span in &spans {
            assert_eq!(span.trace_id, TRACE, "{spans:#?}");
        }
        assert_eq!(spans[0].attribute("user.id"), Some("alice"), "{spans:#?}");
        let requests = self.upstream.wait_for_requests(1).expect("the request");
        let traceparent = requests[0]
            .header_text("traceparent")
            .expect("W3C's header");
        assert!(
            traceparent.starts_with(&format!("00-{TRACE}-")),
            "{traceparent}"
        );
    }
}

const SPOKEN: [&str; 2] = ["--formats", "tracecontext,b3"];

#[test]
fn a_set_up_of_each_tracer_joins_the_trace() {
    each_supported(|binary| {
        for tracer in ["opentelemetry", "zipkin", "zipkin-with-w3c", "none"] {
            SetUp::start(binary, &[&["--tracer", tracer][..], &SPOKEN].concat()).is_joined();
        }
    });
}

#[test]
fn a_set_up_of_the_native_tracer_joins_the_trace() {
    for binary in native::envoys() {
        SetUp::start(&binary, &[&["--tracer", "native"][..], &SPOKEN].concat()).is_joined();
    }
}

#[test]
fn at_an_edge_the_trace_is_a_new_one() {
    each_supported(|binary| {
        let arguments = ["--tracer", "none", "--place", "edge"];
        let set_up = SetUp::start(binary, &[&arguments[..], &SPOKEN].concat());
        // One in ten is reported, so that the headers show it.
        set_up.call();
        let requests = set_up.upstream.wait_for_requests(1).expect("the request");
        let traceparent = requests[0]
            .header_text("traceparent")
            .expect("W3C's header");
        assert!(!traceparent.contains(TRACE), "{traceparent}");
    });
}
