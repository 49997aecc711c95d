//! Requests that Envoy's health check filter takes for health checks. Envoy 1.40 tells its tracer nothing
//! of their end.

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::Collected;
use serde_json::{Value, json};

const PREFIX: &str = "/health";

fn health_check(mode: Value) -> HttpFilter {
    let mut filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
        "headers": [{"name": ":path", "string_match": {"prefix": PREFIX}}],
    });
    if let (Some(filter), Value::Object(mode)) = (filter.as_object_mut(), mode) {
        filter.extend(mode);
    }
    HttpFilter::raw("envoy.filters.http.health_check", filter)
}

fn listener(name: &str, mode: Value, attempts: bool) -> Listener {
    let config = json!({"report": {"cluster": "collector", "envoy_attributes": true}});
    let follows = json!({"route": {"internal_redirect_policy": {
        "redirect_response_codes": [302],
        "allow_cross_scheme_redirect": true,
    }}});
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream").merge(follows))
        .filter(health_check(mode))
        .filter(export())
        .tracing(tracing(config).spawn_upstream_span(attempts));
    Listener::http(name, manager)
}

#[test]
fn a_health_check_is_no_error_where_envoy_tells_nothing_of_its_end() {
    for envoy in envoys() {
        let is_told = !envoy.is_at_least(1, 40);
        let cached = || json!({"pass_through_mode": true, "cache_time": "100s"});
        let own = || json!({"pass_through_mode": false});
        let bootstrap = Bootstrap::new()
            .listener(listener("own", own(), true))
            .listener(listener("passed", json!({"pass_through_mode": true}), true))
            .listener(listener("cached", cached(), true))
            .listener(listener("outbound", own(), false).direction(TrafficDirection::Outbound));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        mesh.upstream
            .respond_with(|request| match request.path.as_str() {
                "/health/fails" => Reply::status(503),
                "/health/moved" => Reply::status(302).header("location", "http://a.host/health"),
                _ => Reply::ok(),
            });
        for (name, path, calls, status) in [
            ("own", "/health", vec![], "200"),
            ("passed", "/health", vec!["200"], "200"),
            ("passed", "/health/fails", vec!["503"], "503"),
            ("passed", "/health/moved", vec!["302", "200"], "200"),
            // No check reaches the upstream but the first one.
            ("cached", "/health", vec!["200"], "200"),
            ("cached", "/health", vec![], "200"),
            ("outbound", "/health", vec![], "200"),
            // None of health.
            ("own", "/other", vec!["200"], "200"),
        ] {
            let at = format!("{} {name} {path} {calls:?}", envoy.reported_version());
            let address = mesh.envoy.address(name).expect("its address");
            let request = Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            let answer = request.send(address).expect("an answer");
            assert_eq!(answer.status.to_string(), status, "{at}");
            let passes = calls.len().max(1);
            let spans = mesh.sink.wait_for_spans(passes + calls.len()).expect(&at);
            mesh.sink.clear();
            let (of_calls, mut of_requests): (Vec<_>, Vec<_>) = spans
                .iter()
                .partition(|span| span.kind == SpanKind::Client && name != "outbound");
            of_requests.sort_by_key(|span| span.start_unix_nanos);
            let mut found: Vec<_> = of_calls
                .iter()
                .filter_map(|span| span.attribute("http.response.status_code"))
                .collect();
            found.sort_unstable_by(|one, other| other.cmp(one));
            assert_eq!(found, calls, "{at}: {spans:#?}");
            let last = of_requests.last().expect("a span of the request");
            let attribute = |key| last.attribute(key);
            let is_told = is_told || !path.starts_with(PREFIX);
            let is_error = is_told && status == "503";
            assert_eq!(last.status_error, is_error, "{at}: {last:#?}");
            assert_eq!(attribute("error.type").is_some(), is_error, "{at}");
            for key in ["http.response.status_code", "http.status_code"] {
                assert_eq!(attribute(key), is_told.then_some(status), "{at}: {key}");
            }
            for key in ["response_size", "http.protocol"] {
                assert_eq!(attribute(key).is_some(), is_told, "{at}: {last:#?}");
            }
            assert_eq!(attribute("url.path"), Some(path_of(path)), "{at}");
            let first = of_requests.first().expect("a span of the request");
            for span in &of_requests {
                assert!(!span.status_error || is_error, "{at}: {span:#?}");
                assert_eq!(span.trace_id, TRACE, "{at}");
                let is_first = span.span_id == first.span_id;
                let parent = span.parent_span_id.as_deref();
                assert_eq!(parent == Some(SPAN), is_first, "{at}: {spans:#?}");
            }
        }
        assert_eq!(mesh.counter("panics"), 0);
    }
    promises::held(
        "Spans",
        "The native tracer's span of a health check that Envoy answers or passes on is no error where it succeeds",
        "Envoy's health_check filter with and without pass_through_mode, with cache_time, and in an outbound listener; \
         200, 503 and an internal redirect",
        "7 health checks and another request a version, 3 versions",
    );
}

/// The path of the last pass.
fn path_of(path: &str) -> &str {
    match path {
        "/health/moved" => "/health",
        path => path,
    }
}
