//! Behind `mesh_tracing` as a gateway an authoriser is asked before the upstream is. Nobody is told
//! a span that is never reported, however the request ends.
//!
//! W3C Trace Context, section 3.2.2.4, decides: `parent-id` is the id of the span of the caller, so it
//! must be one that is reported.

use envoy_test_harness::client::{Request, Response};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, Upstream, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE, envoys};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting, traceparent};
use serde_json::{Value, json};

/// Who is asked, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    OverHttp,
    OverGrpc,
    /// By a script, which asks about requests without an upstream too.
    ByScript,
}

fn asking(asked: Asked) -> HttpFilter {
    if asked == Asked::ByScript {
        return script();
    }
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "allowed_headers": {"patterns": [{"prefix": "trace"}, {"prefix": "x-b3"}]},
    });
    match asked {
        Asked::OverHttp => {
            config["http_service"] = json!({"server_uri": {
                "uri": "http://authoriser", "cluster": "authoriser", "timeout": "5s",
            }});
        }
        Asked::OverGrpc => {
            config["grpc_service"] = json!({
                "envoy_grpc": {"cluster_name": "authoriser-grpc"}, "timeout": "5s",
            });
        }
        Asked::ByScript => {}
    }
    HttpFilter::raw("envoy.filters.http.ext_authz", config)
}

fn script() -> HttpFilter {
    let code = r#"function envoy_on_request(request)
        local headers = {[":method"] = "GET", [":path"] = "/", [":authority"] = "authoriser",
            ["traceparent"] = request:headers():get("traceparent")}
        local answer = request:httpCall("authoriser", headers, "", 5000)
        if answer[":status"] ~= "200" then request:respond({[":status"] = "403"}, "no") end
    end"#;
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code},
    });
    HttpFilter::raw("envoy.filters.http.lua", config)
}

fn fault() -> HttpFilter {
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "abort": {"http_status": 418, "percentage": {"numerator": 100}},
        "headers": [{"name": "x-fault", "present_match": true}],
    });
    HttpFilter::raw("envoy.filters.http.fault", config)
}

struct Gateway {
    mesh: Collected,
    authoriser: Upstream,
}

impl Gateway {
    fn start(envoy: &EnvoyBinary, asked: Asked) -> Self {
        let mut config = reporting("http/protobuf", r#"{"role": "gateway"}"#);
        config["access_log"] = json!({"response_header": {"name": "x-trace-id", "traceresponse": true,
            "server_timing": true}});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(200, "here"))
            .route(Route::prefix("/redirect").redirect("/elsewhere"))
            .route(Route::prefix("/empty").cluster("empty"))
            .route(
                Route::prefix("/retried")
                    .cluster("upstream")
                    .retry("5xx", 1),
            )
            .route(Route::prefix("/up").cluster("upstream"))
            .filter(mesh_tracing(config))
            .filter(asking(asked))
            .filter(fault())
            .access_log(json!({
                "span_id": "%FILTER_STATE(wasm.span_id:PLAIN)%",
                "parent": "%FILTER_STATE(wasm.parent_span_id:PLAIN)%",
            }));
        let authoriser = Upstream::start().expect("an authoriser");
        let none = json!({"load_assignment": {"endpoints": []}});
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("authoriser", authoriser.address()))
            .cluster(Cluster::http2("authoriser-grpc", authoriser.address()))
            .cluster(Cluster::http1("empty", authoriser.address()).merge(none));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        Self { mesh, authoriser }
    }

    /// Sends a sampled request; returns its response, its spans and what the authoriser was sent.
    fn send(&self, request: &Request, spans: usize) -> (Response, Vec<Span>, RecordedRequest) {
        let request = request
            .clone()
            .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
        let response = self.mesh.send(&request);
        let spans = self.mesh.sink.wait_for_spans(spans).expect("the spans");
        self.mesh.sink.clear();
        let mut asked = self.authoriser.take();
        assert_eq!(asked.len(), 1);
        (response, spans, asked.remove(0))
    }
}

/// The span id that the log line, `traceresponse` and `Server-Timing` name.
fn assert_told(gateway: &Gateway, response: &Response, server: &Span, lines: usize, at: &str) {
    let expected = format!("00-{TRACE}-{}-01", server.span_id);
    let text = |name: &str| {
        String::from_utf8_lossy(response.header(name).unwrap_or_default()).into_owned()
    };
    assert_eq!(text("traceresponse"), expected, "{at}");
    assert_eq!(
        text("server-timing"),
        format!("trace;desc={expected}"),
        "{at}"
    );
    assert_eq!(text("x-trace-id"), TRACE, "{at}");
    let log = gateway.mesh.envoy.access_log("ingress");
    let lines: Vec<Value> = log.wait_for_lines(lines).expect("a line");
    let last = lines.last().expect("a line");
    assert_eq!(last["span_id"], server.span_id.as_str(), "{at}");
    assert_eq!(last["parent"], SPAN, "{at}");
}

#[test]
fn an_authorisers_parent_is_reported_however_the_request_ends() {
    let mut tried = 0;
    for (envoy, asked) in envoys()
        .iter()
        .zip([Asked::OverHttp, Asked::ByScript].iter().cycle())
    {
        tried += ends(envoy, *asked);
    }
    let newest = EnvoyBinary::find().expect("an Envoy");
    for asked in [Asked::OverHttp, Asked::ByScript] {
        tried += ends(&newest, asked);
    }
    promises::held(
        "Spans",
        "Whoever is asked behind a gateway is told a span that is reported: the request's own where no upstream is called",
        "ext_authz and a script behind mesh_tracing as a gateway: denied, no route, direct response, redirect, fault, no \
         endpoint",
        &format!(
            "{tried} of {tried} parents reported, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

/// Requests that end without an upstream; returns how many.
fn ends(envoy: &EnvoyBinary, asked: Asked) -> usize {
    let gateway = Gateway::start(envoy, asked);
    let mut tried = 0;
    let cases = [
        ("denied", "/up", None, false, 403),
        (
            "answered by a filter behind it",
            "/up",
            Some("x-fault"),
            true,
            418,
        ),
        ("no route", "/nowhere", None, true, 404),
        ("answered by a route", "/direct", None, true, 200),
        ("redirected by a route", "/redirect", None, true, 301),
    ];
    // About what has no upstream `ext_authz` asks nobody.
    let count = if asked == Asked::ByScript { 5 } else { 2 };
    for (what, path, header, allows, status) in cases.into_iter().take(count) {
        let at = format!("{what} {asked:?} {}", envoy.reported_version());
        let verdict = if allows { 200 } else { 403 };
        gateway
            .authoriser
            .respond_with(move |_| Reply::status(verdict));
        let request = header
            .into_iter()
            .fold(Request::get(path), |request, name| {
                request.header(name, "1")
            });
        let (response, spans, asked) = gateway.send(&request, 1);
        assert_eq!(response.status, status, "{at}");
        let server = expect::span().of_kind(SpanKind::Server).at(&at);
        let server = server.child_of_ids(TRACE, SPAN).only_in(&spans);
        let told = traceparent(&asked);
        assert_eq!(told, [TRACE, &server.span_id, "01"], "{at}");
        tried += 1;
        assert_told(&gateway, &response, server, tried, &at);
    }
    // Tries without an endpoint.
    let at = envoy.reported_version();
    let (response, spans, asked) = gateway.send(&Request::get("/empty"), 1);
    assert_eq!(response.status, 503, "{at}");
    let told = traceparent(&asked);
    let is_reported = spans.iter().any(|span| span.span_id == told[1]);
    assert!(is_reported, "{at}: {spans:#?}");
    tried + 1
}

/// What remains: the authoriser is asked before it is known that there is a call, so its span is
/// the call's child.
#[test]
fn where_the_upstream_is_called_the_authoriser_is_told_the_call() {
    each_supported(|envoy| {
        let gateway = Gateway::start(envoy, Asked::OverHttp);
        for (i, path) in ["/up", "/retried"].into_iter().enumerate() {
            let at = format!("{path} {}", envoy.reported_version());
            let status = if path == "/up" { 200 } else { 503 };
            gateway
                .mesh
                .upstream
                .respond_with(move |_| Reply::status(status));
            let (response, spans, asked) = gateway.send(&Request::get(path), 2);
            assert_eq!(response.status, status, "{at}");
            let of_kind = |kind| expect::span().of_kind(kind).at(&at);
            let server = of_kind(SpanKind::Server).find_in(&spans);
            let client = of_kind(SpanKind::Client).child_of(server).find_in(&spans);
            assert_eq!(traceparent(&asked)[1], client.span_id, "{at}");
            for request in gateway.mesh.upstream.take() {
                assert_eq!(traceparent(&request)[1], client.span_id, "{at}");
            }
            assert_told(&gateway, &response, server, i + 1, &at);
        }
    });
}

/// Over gRPC the authoriser gets the headers in its message.
#[test]
fn an_authoriser_over_grpc_is_told_a_span_that_is_reported() {
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let gateway = Gateway::start(envoy, Asked::OverGrpc);
        gateway.authoriser.respond_with(|_| {
            Reply::ok()
                .header("content-type", "application/grpc")
                .header("grpc-status", "7")
        });
        let (response, spans, asked) = gateway.send(&Request::get("/up"), 1);
        assert_eq!(response.status, 403, "{at}");
        assert_eq!(spans.len(), 1, "{at}: {spans:#?}");
        let told = format!("00-{TRACE}-{}-01", spans[0].span_id);
        let message = String::from_utf8_lossy(&asked.body).into_owned();
        assert!(message.contains(&told), "{at}: {message}");
        assert_told(&gateway, &response, &spans[0], 1, at);
    });
}
