//! What a client sends is what the upstream records, byte for byte, through a real Envoy.

use std::time::Duration;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::{Protocol, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream};
use serde_json::json;

fn proxy(upstream: &Upstream, manager: HttpConnectionManager) -> Envoy {
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("ingress", manager))
        .cluster(Cluster::http1("upstream", upstream.address()))
        .cluster(Cluster::http2("upstream-http2", upstream.address()));
    Envoy::start(&EnvoyBinary::find().unwrap(), bootstrap).unwrap()
}

fn to_upstream() -> HttpConnectionManager {
    HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"))
}

#[test]
fn header_bytes_arrive_as_they_were_sent() {
    let upstream = Upstream::start().unwrap();
    let envoy = proxy(&upstream, to_upstream());

    let response = Request::get("/a?b=%20c")
        .header("X-Bin", b"\xff\xfe\x80")
        .header("x-twice", "1")
        .header("x-other", "")
        .header("x-twice", "2, 3")
        .send(envoy.address("ingress").unwrap())
        .unwrap();

    assert_eq!(response.status, 200);
    let [request] = upstream.requests().try_into().unwrap();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", "/a?b=%20c")
    );
    assert_eq!(request.header("x-bin"), Some(&b"\xff\xfe\x80"[..]));
    assert_eq!(request.header_values("x-twice"), [&b"1"[..], b"2, 3"]);
    assert_eq!(request.header("x-other"), Some(&b""[..]));
}

#[test]
fn large_and_many_headers_arrive() {
    let upstream = Upstream::start().unwrap();
    let manager = to_upstream().merge(json!({
        "max_request_headers_kb": 512,
        "common_http_protocol_options": {"max_headers_count": 5000},
    }));
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("ingress", manager))
        .cluster(Cluster::http1("upstream", upstream.address()));
    let envoy = Envoy::start(&EnvoyBinary::find().unwrap(), bootstrap).unwrap();
    let address = envoy.address("ingress").unwrap();

    let large = vec![b'x'; 60 * 1024];
    Request::get("/")
        .header("x-large", &large)
        .send(address)
        .unwrap();
    let many = (0..1000).fold(Request::get("/"), |request, number| {
        request.header("x-many", number.to_string())
    });
    assert_eq!(many.send(address).unwrap().status, 200);

    let requests = upstream.requests();
    assert_eq!(requests[0].header("x-large"), Some(large.as_slice()));
    let values = requests[1].header_values("x-many");
    assert_eq!(
        (values.len(), values[0], values[999]),
        (1000, &b"0"[..], &b"999"[..])
    );
}

#[test]
fn one_connection_carries_many_requests_with_bodies() {
    let upstream = Upstream::start().unwrap();
    upstream.respond_with(|request| {
        Reply::status(201)
            .header("x-echo", request.header("x-number").unwrap())
            .body(request.body.clone())
    });
    let envoy = proxy(&upstream, to_upstream());

    let mut connection = Connection::open(envoy.address("ingress").unwrap()).unwrap();
    for number in 0..100 {
        let number = number.to_string();
        let response = connection
            .send(&Request::post("/", number.as_str()).header("x-number", &number))
            .unwrap();
        assert_eq!((response.status, response.text()), (201, number.clone()));
        assert_eq!(response.header_text("x-echo"), Some(number));
    }
    assert_eq!(upstream.take().len(), 100);
    assert!(upstream.requests().is_empty());
    assert_eq!(envoy.stat("http.ingress.downstream_cx_total").unwrap(), 1);
}

#[test]
fn bodies_without_a_length_and_answers_to_head_end_where_they_should() {
    let upstream = Upstream::start().unwrap();
    upstream.respond_with(|_| Reply::ok().body("four"));
    let envoy = proxy(&upstream, to_upstream());

    let mut connection = Connection::open(envoy.address("ingress").unwrap()).unwrap();
    let chunked = connection
        .send_bytes(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .unwrap();
    let head = connection.send(&Request::new("HEAD", "/")).unwrap();
    let get = connection.send(&Request::get("/")).unwrap();

    assert_eq!(chunked.text(), "four");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(get.text(), "four");
    assert_eq!(upstream.requests()[0].body, b"abc");
}

#[test]
fn a_reset_and_an_error_are_retried_and_a_delay_times_out() {
    let upstream = Upstream::start().unwrap();
    upstream.respond_with(|request| match request.header("x-envoy-attempt-count") {
        _ if request.path == "/slow" => Reply::ok().delay(Duration::from_secs(3600)),
        Some(b"1") => Reply::reset(),
        Some(b"2") => Reply::status(503).close(),
        _ => Reply::ok(),
    });
    let manager = HttpConnectionManager::new()
        .route(
            Route::path("/slow")
                .cluster("upstream")
                .timeout(Duration::from_millis(50)),
        )
        .route(Route::prefix("/").cluster("upstream").retry("5xx", 3))
        .virtual_host(json!({"include_request_attempt_count": true}));
    let envoy = proxy(&upstream, manager);
    let address = envoy.address("ingress").unwrap();

    assert_eq!(Request::get("/slow").send(address).unwrap().status, 504);
    assert_eq!(Request::get("/").send(address).unwrap().status, 200);
}

#[test]
fn http2_requests_are_recorded_too() {
    let upstream = Upstream::start().unwrap();
    upstream.respond_with(|request| match request.path.as_str() {
        "/reset" => Reply::reset(),
        _ => Reply::status(202).header("x-a", b"\xfe").body("hi"),
    });
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream-http2"));
    let envoy = proxy(&upstream, manager);
    let address = envoy.address("ingress").unwrap();

    let response = Request::get("/x")
        .header("host", "shop.test")
        .header("x-bin", b"\xff")
        .send(address)
        .unwrap();
    assert_eq!(
        (response.status, response.header("x-a"), response.text()),
        (202, Some(&b"\xfe"[..]), "hi".to_owned())
    );
    let [request] = upstream.wait_for_requests(1).unwrap().try_into().unwrap();
    assert_eq!(
        (request.protocol, request.path.as_str()),
        (Protocol::Http2, "/x")
    );
    assert_eq!(request.header("x-bin"), Some(&b"\xff"[..]));
    assert_eq!(request.header_text("host").as_deref(), Some("shop.test"));

    assert_eq!(Request::get("/reset").send(address).unwrap().status, 503);
}

#[test]
fn routes_filters_and_the_access_log_do_as_configured() {
    let upstream = Upstream::start().unwrap();
    let manager = HttpConnectionManager::new()
        .filter(HttpFilter::header_mutation(
            "mark",
            json!([{"append": {"header": {"key": "x-mark", "value": "by-mutation"}}}]),
        ))
        .filter(HttpFilter::lua(
            "count",
            "function envoy_on_request(handle) handle:headers():add('x-lua', 'yes') end",
        ))
        .upstream_filter(HttpFilter::header_mutation(
            "mark-upstream",
            json!([{"append": {"header": {"key": "x-late", "value": "by-upstream-filter"}}}]),
        ))
        .route(
            Route::path("/direct")
                .direct_response(418, "tea")
                .name("direct"),
        )
        .route(Route::matching(json!({"safe_regex": {"regex": "/mov[e]d"}})).redirect("/new"))
        .route(
            Route::prefix("/")
                .header("x-version", "2")
                .cluster("upstream")
                .disable_filter("count"),
        )
        .route(
            Route::prefix("/")
                .cluster("upstream")
                .name("rest")
                .remove_request_header("x-secret")
                .remove_request_header("x-mark"),
        )
        .access_log(
            json!({"path": "%REQ(:path)%", "status": "%RESPONSE_CODE%", "route": "%ROUTE_NAME%"}),
        );
    let envoy = proxy(&upstream, manager);
    let address = envoy.address("ingress").unwrap();

    let direct = Request::get("/direct").send(address).unwrap();
    assert_eq!((direct.status, direct.text()), (418, "tea".to_owned()));
    let moved = Request::get("/moved").send(address).unwrap();
    assert_eq!(moved.status, 301);
    assert!(moved.header_text("location").unwrap().ends_with("/new"));
    Request::get("/1")
        .header("x-secret", "s")
        .send(address)
        .unwrap();
    Request::get("/2")
        .header("x-version", "2")
        .send(address)
        .unwrap();

    let requests = upstream.requests();
    assert_eq!(requests[0].header("x-secret"), None);
    assert_eq!(requests[0].header("x-mark"), None);
    assert_eq!(requests[0].header_text("x-lua").as_deref(), Some("yes"));
    assert_eq!(
        requests[0].header_text("x-late").as_deref(),
        Some("by-upstream-filter")
    );
    assert_eq!(
        requests[1].header_text("x-mark").as_deref(),
        Some("by-mutation")
    );
    assert_eq!(requests[1].header("x-lua"), None);

    let lines = envoy.access_log("ingress").wait_for_lines(4).unwrap();
    assert_eq!(
        lines[0],
        json!({"path": "/direct", "status": 418, "route": "direct"})
    );
    assert_eq!(lines[2]["route"], "rest");
}
