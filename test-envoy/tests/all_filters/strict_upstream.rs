//! No header that a filter writes gives a strict peer a reason to close the connection, which the
//! requests of others share (RFC 9113, sections 8.1.1 and 8.2.1): Hypercorn stands behind every
//! filter that writes headers.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Route, WasmFilter,
};
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{self, access_log_trace, module, trace_context};
use meshtrace_test_support::http2;
use meshtrace_test_support::promises;
use serde_json::json;

use crate::strict::{StrictMesh, seen};

fn manager(filter: impl Into<HttpFilter>) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter)
}

/// A filter before ours that leaves a header with spaces, as no client of HTTP/1.1 can; the route
/// removes it again.
fn with_spaces(filter: WasmFilter) -> HttpConnectionManager {
    let lua = "function envoy_on_request(handle) handle:headers():replace('x-spaces', ' \\t x y \\t') end";
    HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(HttpFilter::lua("spaces", lua))
        .filter(filter)
        .virtual_host(json!({"request_headers_to_remove": ["x-spaces"]}))
}

fn span_attributes(config: &str) -> WasmFilter {
    WasmFilter::new("span_attributes", module("span_attributes"))
        .configuration(config)
        .env("SPACES", " x y ")
}

/// One attribute from every source and by everything that can put a space at an end, and what is
/// received of it.
const ATTRIBUTES: &[(&str, &str, &str)] = &[
    ("query", r#""from": {"query": "a"}"#, "x y"),
    ("query.blank", r#""from": {"query": "blank"}"#, ""),
    ("cookie", r#""from": {"cookie": "c"}"#, "x y"),
    (
        "header",
        r#""from": {"header": "x-spaces"}"#,
        "\u{fffd} x y \u{fffd}",
    ),
    (
        "path",
        r#""from": {"path": "/users/{id}/**", "capture": "id"}"#,
        "x y",
    ),
    ("claim", r#""from": {"jwt_claim": {"claim": "sub"}}"#, "x y"),
    ("member", r#""from": {"baggage": "m"}"#, "x y"),
    (
        "property",
        r#""from": {"property": ["request", "headers", "x-spaces"]}"#,
        "\u{fffd} x y \u{fffd}",
    ),
    ("env", r#""from": {"env": "SPACES"}"#, "x y"),
    ("literal", r#""from": {"literal": " x y "}"#, "x y"),
    (
        "replace",
        r#""from": {"query": "a"}, "transform": [{"replace": {"pattern": "x y", "with": "  z  "}}]"#,
        "z",
    ),
    (
        "replace.all",
        r#""from": {"query": "a"}, "transform": [{"replace": {"pattern": ".", "with": " "}}]"#,
        "",
    ),
    (
        "allow",
        r#""from": {"query": "a"}, "transform": [{"allow": [" x y "]}]"#,
        "x y",
    ),
    (
        "default",
        r#""from": {"query": "a"}, "transform": [{"allow": ["z"]}], "default": " none ""#,
        "none",
    ),
    (
        "absent",
        r#""from": {"query": "absent"}, "default": "none ""#,
        "none",
    ),
    (
        "truncate",
        r#""from": {"query": "a"}, "transform": [{"truncate": 3}]"#,
        "x",
    ),
    ("cut", r#""from": {"query": "a"}, "max_length": 3"#, "x"),
    (
        "lower",
        r#""from": {"query": "a"}, "transform": ["lowercase"]"#,
        "x y",
    ),
    (
        "control",
        r#""from": {"query": "control"}"#,
        "x\u{fffd}\u{fffd}y: z\u{fffd}",
    ),
];

fn attributes() -> String {
    let attributes = ATTRIBUTES
        .iter()
        .map(|(key, rest, _)| format!(r#"{{"key": "{key}", {rest}}}"#));
    let attributes: Vec<_> = attributes.collect();
    format!(
        r#"{{"attributes": [{}], "emit": {{"request_header_prefix": "x-p-", "baggage": true}}}}"#,
        attributes.join(",")
    )
}

const FORMATS: &str = r#"["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray", "gcp", "datadog", "grpc-trace-bin"]"#;

/// A listener for every filter that writes headers, and one for all of them in one.
fn managers() -> Vec<(&'static str, HttpConnectionManager)> {
    let context = format!(
        r#"{{"extract": {FORMATS}, "inject": {FORMATS}, "baggage_from": ["jaeger", "ottrace"], "on_missing": "generate"}}"#
    );
    let log =
        r#"{"response_header": {"name": "x-trace-id", "traceresponse": true}, "tracer": "none"}"#;
    let sampling = WasmFilter::new("route_sampling", module("route_sampling"))
        .configuration(r#"{"default": "always"}"#);
    let mesh = format!(
        r#"{{"trace_context": {{"extract": {FORMATS}, "inject": {FORMATS}, "baggage_from": ["jaeger", "ottrace"]}},
            "sampling": {{"default": {{"ratio": 0.5}}, "parent": "ignore"}}, "span_attributes": {}, "access_log":
            {{"response_header": {{"name": "x-trace-id", "traceresponse": true}}}}, "report": {{"cluster": "collector"}}}}"#,
        attributes()
    );
    let mesh = WasmFilter::new("mesh_tracing", module("mesh_tracing"))
        .configuration(mesh)
        .env("SPACES", " x y ");
    vec![
        ("attributes", with_spaces(span_attributes(&attributes()))),
        ("context", with_spaces(trace_context(&context))),
        ("log", with_spaces(access_log_trace(log))),
        ("sampling", with_spaces(sampling)),
        ("mesh", with_spaces(mesh)),
    ]
}

const TRACE: &str = common::TRACE;
const SPAN: &str = common::SPAN;

/// Values that end, begin, or consist of white space, in every header that a filter reads.
fn requests() -> Vec<(String, Vec<(String, String)>)> {
    let token = {
        use base64::Engine as _;
        let part = |json: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(json);
        format!("Bearer {}.{}.", part("{}"), part(r#"{"sub": " x y "}"#))
    };
    let path = "/users/%20x%20y%20/?a=+x%20y+&blank=+%20&control=x%0d%0ay:%20z%00%20".to_owned();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let of_attributes = vec![
        header("cookie", "b=1; c= x y ;d=2"),
        header("authorization", &token),
        header("baggage", "m=%20x%20y%20 , n=1 ,"),
    ];
    let mut requests = vec![(path.clone(), of_attributes)];
    let members = [
        "a=1 ,",
        " , a=1",
        "a = 1 ; p = 2 ",
        ",",
        "junk",
        "a=1,\tb=2\t,",
    ];
    for member in members {
        let baggage = vec![
            header("baggage", member),
            header("uberctx-k", " v w "),
            header("ot-baggage-l", "\tv "),
        ];
        requests.push((path.clone(), baggage));
    }
    for (name, value) in [
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("b3", format!("{TRACE}-{SPAN}-1")),
        ("uber-trace-id", format!("{TRACE}:{SPAN}:0:1")),
        (
            "x-amzn-trace-id",
            format!(
                "Root=1-{}-{} ; Parent={SPAN} ;Sampled=1 ; x= ",
                &TRACE[..8],
                &TRACE[8..]
            ),
        ),
        ("x-cloud-trace-context", format!("{TRACE}/1;o=1")),
        ("x-datadog-trace-id", "1".to_owned()),
    ] {
        let lines = vec![
            header(name, &value),
            header("tracestate", "a=1 , b=2 ,,\tc=3 "),
            header("x-datadog-parent-id", "2"),
            header("x-datadog-tags", "_dd.p.dm=-1 , a=b ,\tc= d "),
            header("x-datadog-origin", "rum\t "),
        ];
        requests.push((path.clone(), lines));
    }
    requests
}

#[test]
fn a_strict_upstream_does_close_the_connection_of_everybody() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let lua = "function envoy_on_request(handle) handle:headers():replace('x-p-a', ' x') end";
    let mesh = StrictMesh::start_on(
        &envoy,
        vec![("lua", manager(HttpFilter::lua("lua", lua)))],
        Bootstrap::new(),
    );
    let held = mesh.hold_ten();
    let refused = Request::get("/")
        .send(mesh.address("lua"))
        .expect("a response");
    assert_eq!(refused.status, 503);
    let lost = mesh.release(held);
    assert!(lost.iter().all(|(status, _)| *status == 503), "{lost:?}");
}

#[test]
fn ten_requests_of_others_outlive_every_value_that_a_filter_writes() {
    let collector = ClosedPort::reserve().expect("a port");
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let bootstrap = Bootstrap::new().cluster(Cluster::http1("collector", collector.address()));
        let mesh = StrictMesh::start_on(envoy, managers(), bootstrap);
        let held = mesh.hold_ten();
        let mut through = Vec::new();
        for (listener, _) in managers() {
            let mut http1 = envoy_test_harness::client::Connection::open(mesh.address(listener))
                .expect("a connection");
            let mut http2 = http2::Client::new(mesh.address(listener));
            for (path, headers) in requests() {
                let request = headers
                    .iter()
                    .fold(Request::get(&path), |request, (name, value)| {
                        request.header(name, value)
                    });
                let first = http1.send(&request).expect("a response");
                let shown = format!("{listener} on {version}: {headers:?}");
                assert_eq!(first.status, 200, "{shown}");
                through.push(first.header_text("x-connection"));
                if listener == "attributes" || listener == "mesh" {
                    check_attributes(&first.body, &headers, &shown);
                }

                // Envoy passes such an end on by itself; `a_client_of_http2` holds what becomes of
                // that.
                let trimmed: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| {
                        let value = value.trim_matches([' ', '\t']);
                        (name.clone().into_bytes(), value.to_owned().into_bytes())
                    })
                    .collect();
                let (status, answer, _) = http2.send("GET", &path, &trimmed).expect("an answer");
                assert_eq!(status, 200, "HTTP/2, {shown}");
                let connection = answer.get("x-connection").expect("the connection");
                through.push(connection.to_str().ok().map(str::to_owned));
            }
        }
        let answers = mesh.release(held);
        let connection = &answers[0].1;
        assert!(
            answers
                .iter()
                .all(|(status, over)| *status == 200 && over == connection),
            "{version}: {answers:?}"
        );
        assert!(through.iter().all(|over| over == connection), "{version}");
        assert_eq!(mesh.connections(), (1, 0), "{version}");
        assert_eq!(
            mesh.envoy.stat("wasmcustom.meshtrace.host_errors").ok(),
            Some(0),
            "{version}"
        );
    });
    promises::held(
        "Headers and connections",
        "No value that a filter writes into a header ends the connection that other requests share.",
        "Hypercorn behind every filter that writes headers; 19 kinds of values with spaces and control characters, 13 \
         requests over HTTP/1.1 and HTTP/2, while ten requests of others wait on the same connection.",
        "10 of 10 answered 200, 1 connection, 4 versions",
    );
}

/// What of the first request's attributes is received.
fn check_attributes(body: &[u8], headers: &[(String, String)], shown: &str) {
    if !headers.iter().any(|(name, _)| name == "cookie") {
        return;
    }
    for (key, _, expected) in ATTRIBUTES {
        let name = format!("x-p-{}", key.replace('.', "-"));
        let received = seen(body, &name);
        let text: Vec<u8> = expected.bytes().collect();
        // The upstream tells bytes in Latin-1.
        let latin1: String = text.iter().map(|byte| char::from(*byte)).collect();
        let expected = match expected.is_empty() {
            true => vec![],
            false => vec![latin1],
        };
        assert_eq!(received, expected, "{name}, {shown}");
    }
}

/// What a client of HTTP/2 puts around a value, Envoy hands on by itself: only what a filter
/// writes, or reads as trace context, is put right.
#[test]
fn spaces_of_a_client_of_http2_are_envoys_to_refuse_but_in_trace_headers() {
    let spaced =
        |name: &str, value: &str| vec![(name.as_bytes().to_vec(), value.as_bytes().to_vec())];
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{TRACE}-{SPAN}-1");
    let jaeger = format!("{TRACE}:{SPAN}:0:1");
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let filter = trace_context(&format!(
            r#"{{"extract": {FORMATS}, "inject": "preserve"}}"#
        ));
        let managers = vec![("context", manager(filter))];
        let mesh = StrictMesh::start_on(envoy, managers, Bootstrap::new());
        let mut context = http2::Client::new(mesh.address("context"));
        for (name, value) in [
            ("traceparent", &w3c),
            ("b3", &b3),
            ("uber-trace-id", &jaeger),
        ] {
            for sent in [
                format!(" {value}"),
                format!("{value}\t"),
                format!("\t {value} "),
            ] {
                let answer = context
                    .send("GET", "/", &spaced(name, &sent))
                    .expect("an answer");
                assert_eq!(answer.0, 200, "{version}: {name}: {sent:?}");
                assert_eq!(
                    seen(&answer.2, name),
                    [value.as_str()],
                    "{version}: {sent:?}"
                );
            }
        }
        assert_eq!(mesh.connections(), (1, 0), "{version}");

        for listener in ["plain", "context"] {
            // Envoy joins the lines: "a=1; ".
            let cookies = Request::get("/")
                .header("cookie", "a=1")
                .header("cookie", "");
            let answer = cookies.send(mesh.address(listener)).expect("a response");
            assert_eq!(answer.status, 503, "{version}: {listener}");

            let mut client = http2::Client::new(mesh.address(listener));
            let before = mesh.connections().1;
            let answer = client
                .send("GET", "/", &spaced("x-other", "x "))
                .expect("an answer");
            assert_eq!(answer.0, 503, "{version}: {listener}");
            assert_eq!(mesh.connections().1, before + 1, "{version}: {listener}");
        }
    });
}

/// The filter's own calls, over OTLP/HTTP and gRPC.
#[test]
fn a_strict_collector_takes_the_headers_of_report() {
    let report = |protocol: &str| {
        let config = format!(
            r#"{{"sampling": {{"default": "always"}}, "report": {{"cluster": "upstream", "protocol": "{protocol}",
                "headers": {{"x-key": " v w\t ", "user-agent": "agent "}}}}}}"#
        );
        WasmFilter::new("mesh_tracing", module("mesh_tracing")).configuration(config)
    };
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let managers = vec![
        ("http", manager(report("http/protobuf"))),
        ("grpc", manager(report("grpc"))),
    ];
    let mesh = StrictMesh::start_on(&envoy, managers, Bootstrap::new());
    for listener in ["http", "grpc"] {
        let answer = Request::get("/")
            .send(mesh.address(listener))
            .expect("a response");
        assert_eq!(answer.status, 200);
    }
    // Two requests, and a call for each.
    let answered = "cluster.upstream.upstream_rq_200";
    mesh.envoy
        .wait_for_stat(answered, |count| count >= 4)
        .expect("calls that are answered");
    assert_eq!(mesh.connections(), (1, 0));
}
