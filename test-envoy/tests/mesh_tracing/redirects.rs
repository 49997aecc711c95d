//! What is told of a request that the upstream redirects, where Envoy follows the redirect itself
//! ("internal redirect") and where it cannot. Envoy changes the request's headers in both.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::{Value, json};

const SLOW: Duration = Duration::from_millis(150);

/// Led elsewhere, slowly: by the last parts of the path to a place that has a route, or to none.
fn answer(request: &RecordedRequest) -> Reply {
    let led = |code, to: &str| Reply::status(code).header("location", to).delay(SLOW);
    let mut parts = request.path.rsplit('/').map(str::to_owned);
    let code = parts.next().and_then(|code| code.parse().ok());
    match (parts.next().as_deref(), code) {
        (Some("followed"), Some(code)) => led(code, "http://other.example:81/second?token=b"),
        (Some("lost"), Some(code)) => led(code, "http://other.example:81/nowhere"),
        _ => Reply::ok(),
    }
}

fn filter(role: &str) -> Value {
    let report = json!({"role": role, "keep": {"slower_than_ms": 100}}).to_string();
    let mut config = reporting("http/protobuf", &report);
    config["span_attributes"] = json!({"attributes": [
        {"key": "asked", "from": {"path": "/{mode}/{kind}/{code}", "capture": "kind"}},
        {"key": "token", "from": {"query": "token"}},
        {"key": "user", "from": {"header": "x-user"}},
    ]});
    config
}

fn start(envoy: &EnvoyBinary) -> Collected {
    let redirected = |to: Option<&str>| {
        let policy = json!({"redirect_response_codes": [302, 303, 307]});
        let mut route = json!({"route": {"internal_redirect_policy": policy}});
        if let Some(to) = to {
            route["route"]["prefix_rewrite"] = json!(to);
        }
        route
    };
    let listener = |role: &str| {
        let rewritten = Route::prefix("/rewritten/").cluster("upstream");
        let plain = Route::prefix("/plain/").cluster("upstream");
        let manager = HttpConnectionManager::new()
            .route(plain.merge(redirected(None)))
            .route(rewritten.merge(redirected(Some("/inside/"))))
            .route(Route::prefix("/second").cluster("upstream"))
            .filter(mesh_tracing(filter(role)));
        Listener::http(role, manager)
    };
    let bootstrap = ["server", "client", "gateway"]
        .into_iter()
        .fold(Bootstrap::new(), |bootstrap, role| {
            bootstrap.listener(listener(role))
        });
    let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
    mesh.upstream.respond_with(answer);
    mesh
}

fn send(mesh: &Collected, role: &str, request: Request, flags: &str) -> u16 {
    let address = mesh.envoy.address(role).expect("its address");
    request
        .header("host", "shop.example")
        .header("x-user", "alice")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
        .send(address)
        .expect("a response")
        .status
}

/// The first pass of those `spans`, as which kind it is told.
fn first(spans: &[Span], kind: SpanKind, code: &str) -> Span {
    let of_code = expect::span()
        .of_kind(kind)
        .with("http.response.status_code", code);
    of_code.find_in(spans).clone()
}

fn told<'s>(span: &'s Span, keys: &[&str]) -> Vec<&'s str> {
    let of = |key: &&str| span.attribute(key).unwrap_or("-");
    keys.iter().map(of).collect()
}

/// The keys by which the two passes differ.
const KEYS: [&str; 7] = [
    "http.request.method",
    "url.path",
    "server.address",
    "server.port",
    "asked",
    "token",
    "user",
];

#[test]
fn a_kept_request_that_was_redirected_is_told_by_its_own_headers() {
    let mut tried = 0;
    each_supported(|envoy| {
        let mesh = start(envoy);
        for role in ["server", "client", "gateway"] {
            for (mode, sent) in [("plain", "plain"), ("rewritten", "inside")] {
                for (method, code) in [("POST", 303), ("GET", 302), ("POST", 307)] {
                    for flags in ["01", "00"] {
                        let version = envoy.reported_version();
                        let at = format!("{version} {role} {mode} {method} {code} {flags}");
                        let path = format!("/{mode}/followed/{code}");
                        let request = match method {
                            "POST" => Request::post(&path, "body"),
                            _ => Request::get(&path),
                        };
                        assert_eq!(send(&mesh, role, request, flags), 200, "{at}");
                        tried += 1;
                        let per_pass = if role == "gateway" { 2 } else { 1 };
                        let passes = if flags == "01" { 2 } else { 1 };
                        let count = per_pass * passes;
                        let spans = mesh.sink.wait_for_spans(count).expect("the spans");
                        mesh.sink.clear();
                        let code = code.to_string();
                        let came = format!("/{mode}/followed/{code}");
                        let left = format!("/{sent}/followed/{code}");
                        if role != "client" {
                            let span = first(&spans, SpanKind::Server, &code);
                            let expected = [
                                method,
                                &came,
                                "shop.example",
                                "80",
                                "followed",
                                "-",
                                "alice",
                            ];
                            assert_eq!(told(&span, &KEYS), expected, "{at}: {span:#?}");
                        }
                        if role != "server" {
                            let span = first(&spans, SpanKind::Client, &code);
                            let expected = [method, &left, "shop.example", "80"];
                            assert_eq!(told(&span, &KEYS)[..4], expected, "{at}: {span:#?}");
                            let url = span.attribute("url.full");
                            let expected = format!("http://shop.example{left}");
                            assert_eq!(url, Some(expected.as_str()), "{at}");
                        }
                    }
                }
            }
        }
        mesh.assert_sound(envoy.reported_version());
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A request that is redirected internally is told by its own method and target, not by those of the request that \
         follows",
        "302, 303 and 307 of GET and POST, with and without a rewrite by the route, three roles, sampled and kept",
        &format!(
            "{} requests a version, {versions} versions",
            tried / versions
        ),
    );
}

/// Envoy tries, finds no route, and puts the headers back.
#[test]
fn a_redirect_that_envoy_cannot_follow_leaves_a_whole_url() {
    each_supported(|envoy| {
        let mesh = start(envoy);
        for role in ["server", "client", "gateway"] {
            for flags in ["01", "00"] {
                let at = format!("{} {role} {flags}", envoy.reported_version());
                let request = Request::get("/plain/lost/302");
                assert_eq!(send(&mesh, role, request, flags), 302, "{at}");
                let count = if role == "gateway" { 2 } else { 1 };
                let spans = mesh.sink.wait_for_spans(count).expect("the spans");
                mesh.sink.clear();
                for span in &spans {
                    let keys = ["url.scheme", "url.path", "server.address", "server.port"];
                    let expected = ["http", "/plain/lost/302", "shop.example", "80"];
                    assert_eq!(told(span, &keys), expected, "{at}: {span:#?}");
                    if span.kind == SpanKind::Client {
                        let url = span.attribute("url.full");
                        assert_eq!(url, Some("http://shop.example/plain/lost/302"), "{at}");
                    }
                }
            }
        }
    });
}

/// Envoy's own `custom_response`: 503 is replaced by the answer of another place.
fn custom_response() -> HttpFilter {
    let input = json!({
        "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput",
    });
    let policy = json!({
        "@type": "type.googleapis.com/envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy",
        "uri": "http://sorry.example:81/second?token=b",
    });
    let matcher = json!({
        "predicate": {"single_predicate": {
            "input": {"name": "code", "typed_config": input}, "value_match": {"exact": "503"}}},
        "on_match": {"action": {"name": "elsewhere", "typed_config": policy}},
    });
    HttpFilter::raw(
        "envoy.filters.http.custom_response",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.custom_response.v3.CustomResponse",
            "custom_response_matcher": {"matcher_list": {"matchers": [matcher]}},
        }),
    )
}

/// The URL of each of `spans` of `kind`, by the parts that tell it.
fn urls(spans: &[Span], kind: SpanKind) -> Vec<Vec<&str>> {
    let of_kind = expect::span().of_kind(kind).all_in(spans);
    let keys = ["url.full", "url.path", "server.address", "token"];
    let mut urls: Vec<_> = of_kind.iter().map(|span| told(span, &keys)).collect();
    urls.sort_unstable();
    urls
}

/// At its end the request that was sent has the headers of the next one. Nothing has a copy of its
/// URL then, and its spans tell none rather than that of the next one.
#[test]
fn a_response_that_another_filter_replaces_leaves_no_url_of_another_request() {
    let mut tried = 0;
    each_supported(|envoy| {
        let listener = |role: &str, place: &str| {
            let own = mesh_tracing(filter(role)).into();
            let filters = match place {
                "in front" => [custom_response(), own],
                _ => [own, custom_response()],
            };
            let route = Route::prefix("/").cluster("upstream");
            let manager = HttpConnectionManager::new().route(route);
            let manager = filters
                .into_iter()
                .fold(manager, HttpConnectionManager::filter);
            Listener::http(&format!("{role} {place}"), manager)
        };
        let all: Vec<_> = ["client", "server", "gateway"]
            .into_iter()
            .flat_map(|role| ["in front", "behind"].map(|place| (role, place)))
            .collect();
        let bootstrap = all
            .iter()
            .fold(Bootstrap::new(), |bootstrap, (role, place)| {
                bootstrap.listener(listener(role, place))
            });
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        mesh.upstream
            .respond_with(|request| match request.path.as_str() {
                "/first/sent" => Reply::status(503),
                _ => Reply::ok(),
            });
        for (role, place) in all {
            for flags in ["01", "00"] {
                let at = format!("{} {role} {place} {flags}", envoy.reported_version());
                let name = format!("{role} {place}");
                send(&mesh, &name, Request::get("/first/sent"), flags);
                let paths = mesh.upstream.take().into_iter();
                let paths: Vec<_> = paths.map(|request| request.path).collect();
                assert_eq!(paths, ["/first/sent", "/second?token=b"], "{at}");
                let count = if role == "gateway" { 4 } else { 2 };
                let spans = mesh.sink.wait_for_spans(count).expect(&at);
                mesh.sink.clear();

                let second = ["/second", "sorry.example", "b"];
                let next = [&["http://sorry.example:81/second"][..], &second].concat();
                let expected = [vec!["-"; 4], next];
                if role != "server" {
                    assert_eq!(urls(&spans, SpanKind::Client), expected, "{at}: {spans:#?}");
                }
                if role != "client" {
                    // Of a sampled request the URL was written down when it came.
                    let first = match flags {
                        "01" => vec!["-", "/first/sent", "shop.example", "-"],
                        _ => vec!["-"; 4],
                    };
                    let expected = [first, [&["-"][..], &second].concat()];
                    assert_eq!(urls(&spans, SpanKind::Server), expected, "{at}: {spans:#?}");
                }
                tried += 1;
            }
        }
        mesh.assert_sound(envoy.reported_version());
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A request whose response Envoy's `custom_response` replaces by that of another request is not told by the other \
         one's URL",
        "mesh_tracing in front of it and behind it, three roles, sampled and kept",
        &format!(
            "{} requests a version, {versions} versions",
            tried / versions
        ),
    );
}
