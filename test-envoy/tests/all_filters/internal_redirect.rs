//! An internal redirect makes two passes of one request: Envoy runs its filters anew, with the
//! headers that they wrote. The request stays one trace, whoever sent it.
//!
//! Envoy's own OpenTelemetry tracer decides: its second pass continues the headers of the first.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, Tracing,
};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE, trace_context};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting, traceparent};
use serde_json::{Value, json};

/// A caller's headers in every shape that the tests send.
const CALLER: [(&str, &str); 2] = [
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
];

fn manager(filters: Vec<HttpFilter>) -> HttpConnectionManager {
    let redirected = Route::prefix("/")
        .cluster("upstream")
        .merge(json!({"route": {
            "internal_redirect_policy": {
                "redirect_response_codes": [302], "max_internal_redirects": 2,
            },
        }}));
    let manager = HttpConnectionManager::new()
        .route(redirected)
        .access_log(json!({
            "path": "%REQ(:path)%",
            "trace_id": "%FILTER_STATE(wasm.trace_id:PLAIN)%",
            "parent": "%FILTER_STATE(wasm.parent_span_id:PLAIN)%",
            "previous": "%FILTER_STATE(wasm.previous_trace_id:PLAIN)%",
        }));
    filters
        .into_iter()
        .fold(manager, HttpConnectionManager::filter)
}

/// One listener for each manager, by its place.
fn start(envoy: &EnvoyBinary, managers: Vec<HttpConnectionManager>) -> Collected {
    let listeners = managers.into_iter().enumerate();
    let listeners = listeners.map(|(i, manager)| Listener::http(&i.to_string(), manager));
    let bootstrap = listeners.fold(Bootstrap::new(), Bootstrap::listener);
    let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
    mesh.upstream
        .respond_with(|request| match request.path.as_str() {
            "/first" => Reply::status(302).header("location", "http://localhost/second"),
            _ => Reply::ok(),
        });
    mesh
}

/// Both passes as the upstream saw them.
fn redirect(mesh: &Collected, listener: usize, headers: &[(&str, &str)]) -> [RecordedRequest; 2] {
    let request = headers
        .iter()
        .fold(Request::get("/first"), |request, (name, value)| {
            request.header(name, value)
        });
    let address = mesh.envoy.address(&listener.to_string());
    let response = request.send(address.expect("its address"));
    assert_eq!(response.expect("a response").status, 200);
    let requests = mesh.upstream.take();
    requests.try_into().expect("two passes")
}

fn log(mesh: &Collected, listener: usize, lines: usize) -> Vec<Value> {
    let log = mesh.envoy.access_log(&listener.to_string());
    log.wait_for_lines(lines).expect("its lines")
}

/// The spans of both passes: the second one's parent is what the first one told.
fn passes(mesh: &Collected, count: usize) -> Vec<Span> {
    let spans = mesh.sink.wait_for_spans(count).expect("the spans");
    mesh.sink.clear();
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

/// With what a caller who is not believed sends, and with nothing.
#[test]
fn a_request_that_is_redirected_is_one_trace_of_mesh_tracing() {
    let not_believed = [
        json!({"incoming": "restart"}),
        json!({"incoming": "ignore"}),
        json!({"incoming": {"mode": "restart", "when": {"header_absent": "x-known"}}}),
        json!({"incoming": "restart", "extract": ["b3"], "inject": ["tracecontext"]}),
        json!({"incoming": "restart", "extract": ["tracecontext"], "inject": ["jaeger"]}),
    ];
    let policies = ["server", "gateway"]
        .into_iter()
        .flat_map(|role| not_believed.iter().map(move |context| (role, context)));
    let policies: Vec<_> = policies.collect();
    let mut tried = 0;
    each_supported(|envoy| {
        let filter = |(role, context): &(&str, &Value)| {
            let mut config = reporting("http/protobuf", &json!({"role": role}).to_string());
            config["trace_context"] = (*context).clone();
            config["sampling"] = json!({"default": "always"});
            config["access_log"] = json!({});
            manager(vec![mesh_tracing(config).into()])
        };
        let mesh = start(envoy, policies.iter().map(filter).collect());
        for (listener, (role, context)) in policies.iter().enumerate() {
            for (i, headers) in [&CALLER[..], &[]].into_iter().enumerate() {
                let at = format!("{} {role} {context}", envoy.reported_version());
                redirect(&mesh, listener, headers);
                let count = if *role == "gateway" { 4 } else { 2 };
                let spans = passes(&mesh, count);
                let trace = &spans[0].trace_id;
                assert_ne!(trace, TRACE, "{at}");
                assert!(
                    spans.iter().all(|span| &span.trace_id == trace),
                    "{at}: {spans:#?}"
                );
                let of_server = |span: &&Span| span.kind == SpanKind::Server;
                let servers: Vec<_> = spans.iter().filter(of_server).collect();
                let is_root = |span: &&&Span| span.parent_span_id.is_none();
                assert_eq!(servers.iter().filter(is_root).count(), 1, "{at}");
                let second = servers.iter().find(|span| span.parent_span_id.is_some());
                let parent = second.and_then(|span| span.parent_span_id.clone());
                let is_parent = |span: &Span| Some(&span.span_id) == parent.as_ref();
                assert!(spans.iter().any(is_parent), "{at}: {spans:#?}");
                for line in &log(&mesh, listener, 2 * (i + 1))[2 * i..] {
                    assert_eq!(line["trace_id"], trace.as_str(), "{at}: {line:?}");
                }
                tried += 1;
            }
        }
    });
    promises::held(
        "Spans",
        "A request that is redirected internally stays one trace, where its caller is not believed too, and the second \
         pass is a child of the first",
        "mesh_tracing, 5 policies, both roles, with and without a caller's context",
        &format!(
            "{tried} of {tried} requests one trace, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

#[test]
fn a_trace_that_trace_context_starts_is_not_started_twice() {
    let cases = [
        (json!({"incoming": "restart"}), &CALLER[..]),
        (
            json!({"incoming": "ignore", "on_missing": "generate"}),
            &CALLER,
        ),
        (
            json!({"incoming": "restart", "on_missing": "generate"}),
            &[],
        ),
        (json!({"on_missing": "generate"}), &[]),
        (
            json!({"extract": ["b3"], "inject": ["tracecontext"], "on_missing": "generate"}),
            &[],
        ),
        (
            json!({"extract": ["xray"], "inject": ["tracecontext"], "incoming": "ignore",
                "on_missing": "generate"}),
            &CALLER,
        ),
    ];
    each_supported(|envoy| {
        let filter =
            |(config, _): &(Value, _)| manager(vec![trace_context(&config.to_string()).into()]);
        let mesh = start(envoy, cases.iter().map(filter).collect());
        for (listener, (config, headers)) in cases.iter().enumerate() {
            let at = format!("{} {config}", envoy.reported_version());
            let passes = || redirect(&mesh, listener, headers).map(|request| traceparent(&request));
            let [first, second] = passes();
            assert_ne!(first[0], TRACE, "{at}");
            assert_eq!(first, second, "{at}");
            let [again, _] = passes();
            assert_ne!(again[0], first[0], "{at}: another request is another trace");
            if config["incoming"] == "restart" && !headers.is_empty() {
                for line in log(&mesh, listener, 4) {
                    assert_eq!(line["previous"], TRACE, "{at}: {line:?}");
                }
            }
        }
    });
}

/// What a caller sends is never what this proxy remembers, and what one filter remembers is not
/// another one's.
#[test]
fn a_second_request_and_a_second_filter_are_not_believed() {
    let envoy = EnvoyBinary::find().expect("an Envoy");
    let config = r#"{"incoming": "restart", "inject": ["tracecontext"]}"#;
    let both = vec![trace_context(config).into(), trace_context(config).into()];
    let mesh = start(&envoy, vec![manager(both)]);
    let [first, second] = redirect(&mesh, 0, &CALLER).map(|request| traceparent(&request));
    assert_eq!(first, second, "the second filter's trace, twice");
    let header = format!("00-{}-{}-01", first[0], first[1]);
    let [other, _] = redirect(&mesh, 0, &[("traceparent", &header)]);
    assert_ne!(
        traceparent(&other)[0],
        first[0],
        "a caller who sends what it was told"
    );
}

/// What a caller who is believed sends is continued by both passes, as by Envoy's own tracer.
#[test]
fn a_believed_callers_trace_is_continued_as_envoys_own_tracer_does() {
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let own = Tracing::opentelemetry_http("collector", "test");
        let traced = start(envoy, vec![manager(Vec::new()).tracing(own)]);
        let [_, second] = redirect(&traced, 0, &CALLER[..1]);
        assert_eq!(traceparent(&second)[0], TRACE, "{at}");
        // Of the two spans some versions report one.
        let spans = traced.sink.wait_for_spans(1).expect("a span");
        assert!(spans.iter().all(|span| span.trace_id == TRACE), "{at}");

        let ours = mesh_tracing(reporting("http/protobuf", "{}"));
        let mesh = start(envoy, vec![manager(vec![ours.into()])]);
        let [_, second] = redirect(&mesh, 0, &CALLER[..1]);
        let spans = passes(&mesh, 2);
        assert!(spans.iter().all(|span| span.trace_id == TRACE), "{at}");
        let first = spans
            .iter()
            .find(|span| span.parent_span_id.as_deref() == Some(SPAN));
        let first = first.unwrap_or_else(|| panic!("{at}: {spans:#?}"));
        let last = spans.iter().find(|span| span.is_child_of(first));
        let last = last.unwrap_or_else(|| panic!("{at}: {spans:#?}"));
        assert_eq!(traceparent(&second)[1], last.span_id, "{at}");
    });
}

/// Answers `/second` in front of the filter, which then sees the end of the second pass alone.
fn denies() -> HttpFilter {
    let second = json!({"url_path": {"path": {"exact": "/second"}}});
    HttpFilter::raw(
        "rbac",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [second], "principals": [{"any": true}],
            }}},
        }),
    )
}

#[test]
fn a_second_pass_that_is_answered_before_the_filter_is_the_same_trace() {
    let modes = ["continue", "restart", "ignore"];
    let roles = ["server", "client", "gateway"];
    let policies = modes
        .iter()
        .flat_map(|mode| roles.map(|role| (*mode, role)));
    let policies: Vec<_> = policies.collect();
    each_supported(|envoy| {
        let filter = |(mode, role): &(&str, &str)| {
            let mut config = reporting("http/protobuf", &json!({"role": role}).to_string());
            config["trace_context"] = json!({"incoming": mode});
            config["sampling"] = json!({"default": "always"});
            config["access_log"] = json!({});
            manager(vec![denies(), mesh_tracing(config).into()])
        };
        let mesh = start(envoy, policies.iter().map(filter).collect());
        for (listener, (mode, role)) in policies.iter().enumerate() {
            for (i, headers) in [&CALLER[..], &[]].into_iter().enumerate() {
                let at = format!("{} {mode} {role} {i}", envoy.reported_version());
                let request = headers
                    .iter()
                    .fold(Request::get("/first"), |request, (name, value)| {
                        request.header(name, value)
                    });
                let address = mesh.envoy.address(&listener.to_string());
                let response = request.send(address.expect("its address"));
                assert_eq!(response.expect("a response").status, 403, "{at}");
                let told = traceparent(&mesh.upstream.take()[0]);
                let spans = passes(&mesh, if *role == "gateway" { 3 } else { 2 });
                for span in &spans {
                    assert_eq!(span.trace_id, told[0], "{at}: {spans:#?}");
                }
                let is_second = |span: &&Span| span.attribute("url.path") == Some("/second");
                let second = spans.iter().find(is_second).expect("the second pass");
                let parent = second.parent_span_id.as_deref();
                assert_eq!(parent, Some(told[1].as_str()), "{at}: {spans:#?}");
                for line in &log(&mesh, listener, 2 * (i + 1))[2 * i..] {
                    assert_eq!(line["trace_id"], told[0].as_str(), "{at}: {line:?}");
                }
            }
        }
        mesh.assert_sound(envoy.reported_version());
    });
}

/// The stage `sampling` that decides otherwise about the second pass, if it is asked about that.
fn rules() -> Vec<(&'static str, Value)> {
    let of =
        |path: &str, sample: Value| json!({"match": {"path": {"exact": path}}, "sample": sample});
    let force = json!({"header": "x-force", "value_env": "FORCE"});
    vec![
        ("rate", json!({"default": {"per_second": 0.01}})),
        (
            "first kept",
            json!({"rules": [of("/second", json!("never"))], "default": "always"}),
        ),
        (
            "second kept",
            json!({"rules": [of("/second", json!("always"))], "default": "never"}),
        ),
        ("forced", json!({"default": "never", "force": force})),
        (
            "ratio",
            json!({"rules": [of("/second", json!({"ratio": 1}))], "default": {"ratio": 0}}),
        ),
    ]
}

#[test]
fn a_request_that_is_redirected_is_decided_once() {
    let policies = ["respect", "ignore", "respect_sampled", "respect_dropped"];
    let cases = policies.iter().flat_map(|parent| {
        let with_parent = move |(name, mut sampling): (&'static str, Value)| {
            sampling["parent"] = json!(parent);
            (*parent, name, sampling)
        };
        rules().into_iter().map(with_parent)
    });
    let cases: Vec<_> = cases.collect();
    let callers = [None, Some("01"), Some("00")];
    each_supported(|envoy| {
        let filter = |(_, _, sampling): &(&str, &str, Value)| {
            // Of each request alone, so that no `keep` reports one that is not sampled.
            let report = json!({"keep": {"errors": false}}).to_string();
            let mut config = reporting("http/protobuf", &report);
            config["sampling"] = sampling.clone();
            let filter = mesh_tracing(config)
                .vm_id("with-key")
                .env("FORCE", "hunter2");
            manager(vec![filter.into()])
        };
        let mesh = start(envoy, cases.iter().map(filter).collect());
        for (listener, (parent, name, _)) in cases.iter().enumerate() {
            for flags in callers {
                let at = format!("{} {parent} {name} {flags:?}", envoy.reported_version());
                let sent = flags.map(|flags| format!("00-{TRACE}-{SPAN}-{flags}"));
                let mut headers = vec![("x-force", "hunter2")];
                headers.extend(sent.iter().map(|value| ("traceparent", value.as_str())));
                let [first, second] = redirect(&mesh, listener, &headers).map(|request| {
                    let [trace_id, _, flags] = traceparent(&request);
                    let state = request.header_text("tracestate");
                    (trace_id, flags, state)
                });
                assert_eq!(first, second, "{at}");
                // Some of the policies and rules must have kept it.
                let stands = match flags {
                    Some("01") => ["respect", "respect_sampled"].contains(parent),
                    Some(_) => ["respect", "respect_dropped"].contains(parent),
                    None => false,
                };
                let expected = match flags {
                    _ if *name == "forced" => Some("01"),
                    Some(flags) if stands => Some(flags),
                    _ if *name == "first kept" => Some("01"),
                    _ if ["second kept", "ratio"].contains(name) => Some("00"),
                    _ => None,
                };
                if let Some(expected) = expected {
                    assert_eq!(first.1, expected, "{at}");
                }
                if first.1 == "01" {
                    let spans = passes(&mesh, 2);
                    assert!(spans.iter().all(|span| span.trace_id == first.0), "{at}");
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(mesh.sink.spans().is_empty(), "{}", envoy.reported_version());
        mesh.assert_sound(envoy.reported_version());
    });
    promises::held(
        "Sampling",
        "A request that is redirected internally is decided once: both passes are sampled, or none, and one token is \
         taken",
        "mesh_tracing, rates, ratios, rules by path and `force`; four policies about the caller, three callers",
        "60 requests a version, 4 versions",
    );
}

/// One token is taken for a request, and the third pass has the decision of the first.
#[test]
fn three_passes_take_one_token() {
    each_supported(|envoy| {
        let at = envoy.reported_version();
        let mut config = reporting("http/protobuf", "{}");
        config["sampling"] = json!({"parent": "ignore", "rules": [
            {"name": "all", "match": {"path": {"prefix": "/"}}, "sample": {"per_second": 2}},
        ]});
        let mesh = start(envoy, vec![manager(vec![mesh_tracing(config).into()])]);
        mesh.upstream
            .respond_with(|request| match request.path.as_str() {
                "/first" => Reply::status(302).header("location", "http://localhost/next"),
                "/next" => Reply::status(302).header("location", "http://localhost/second"),
                _ => Reply::ok(),
            });
        let address = mesh.envoy.address("0").expect("its address");
        let send = || {
            let response = Request::get("/first").send(address).expect("a response");
            assert_eq!(response.status, 200, "{at}");
            let passes = mesh.upstream.take();
            let flags = passes.iter().map(|request| traceparent(request)[2].clone());
            flags.collect::<Vec<_>>()
        };
        // Both tokens, and none is left.
        for flags in ["01", "01", "00"] {
            assert_eq!(send(), [flags; 3], "{at}");
        }
        for (counter, count) in [("sampled", 2), ("dropped", 1)] {
            let name = format!("route_sampling.rule.all.{counter}");
            assert_eq!(mesh.counter(&name), count, "{at} {counter}");
        }
    });
}
