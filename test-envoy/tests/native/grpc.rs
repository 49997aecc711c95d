//! Calls of gRPC.
//!
//! OpenTelemetry's semantic conventions for gRPC decide which codes are errors, of a server and of a
//! client.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

#[test]
fn a_call_has_the_names_of_rpc_and_fails_by_its_status() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({"report": {"cluster": "collector"}});
        let tracing = tracing(config).spawn_upstream_span(true);
        let upstream = Upstream::start().expect("an upstream");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("grpc"))
            .filter(export())
            .tracing(tracing);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http2("grpc", upstream.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc");
            let message = || reply.clone().body([0, 0, 0, 0, 0]);
            match request.path.split('?').next().unwrap_or_default() {
                "/shop.Cart/Works" => message().trailer("grpc-status", "0"),
                "/shop.Cart/Breaks" => message().trailer("grpc-status", "13"),
                _ => reply.header("grpc-status", "5"),
            }
        });
        for (method, status, of_server, of_client) in [
            ("Works", "OK", false, false),
            ("Breaks", "INTERNAL", true, true),
            ("Misses", "NOT_FOUND", false, true),
        ] {
            // Any client may send a query and a password.
            let target = format!("/shop.Cart/{method}?token=secret");
            let request = Request::post(&target, [0, 0, 0, 0, 0])
                .header("host", "user:secret@shop:81")
                .header("content-type", "application/grpc")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            mesh.send(&request);
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            for span in &spans {
                let what = format!("{version} {method}: {span:#?}");
                assert_eq!(span.name, format!("shop.Cart/{method}"), "{what}");
                assert!(!format!("{span:?}").contains("secret"), "{what}");
                let attribute = |key| span.attribute(key);
                assert_eq!(attribute("server.address"), Some("shop"), "{what}");
                let path = format!("/shop.Cart/{method}");
                let told = (span.kind == SpanKind::Server).then_some(&*path);
                assert_eq!(attribute("grpc.path"), told, "{what}");
                assert_eq!(attribute("rpc.system.name"), Some("grpc"), "{what}");
                let is_error = match span.kind {
                    SpanKind::Server => of_server,
                    _ => of_client,
                };
                let found = attribute("rpc.response.status_code");
                assert_eq!(
                    (found, span.status_error),
                    (Some(status), is_error),
                    "{what}"
                );
            }
        }
    }
}

/// A translator of gRPC-Web hides the status from the SERVER span's tags, wherever it stands. The last
/// attempt tells it, without which it is not known.
#[test]
fn a_call_of_grpc_web_has_the_status_of_its_last_attempt() {
    let web = || {
        let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"});
        HttpFilter::raw("envoy.filters.http.grpc_web", filter)
    };
    for envoy in envoys() {
        let upstream = Upstream::start().expect("an upstream");
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc+proto");
            let message = || reply.clone().body([0, 0, 0, 0, 0]);
            let is_first = request.header_text("x-envoy-attempt-count").as_deref() == Some("1");
            match &*request.path {
                "/shop.Cart/Works" => message().trailer("grpc-status", "0"),
                "/shop.Cart/Breaks" => message().trailer("grpc-status", "13"),
                "/shop.Cart/IsMissing" => message().trailer("grpc-status", "5"),
                "/shop.Cart/Recovers" if is_first => reply.header("grpc-status", "14"),
                "/shop.Cart/Recovers" => message().trailer("grpc-status", "0"),
                // No status at all.
                _ => message(),
            }
        });
        let config = json!({"report": {"cluster": "collector", "keep": {"errors": true}}});
        let manager = |filters: [HttpFilter; 2], spans: bool| {
            let route = Route::prefix("/").cluster("grpc").retry("unavailable", 1);
            let manager = HttpConnectionManager::new()
                .route(route)
                .virtual_host(json!({"include_request_attempt_count": true}))
                .tracing(tracing(config.clone()).spawn_upstream_span(spans));
            filters
                .into_iter()
                .fold(manager, HttpConnectionManager::filter)
        };
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("before", manager([web(), export()], true)))
            .listener(Listener::http("behind", manager([export(), web()], true)))
            .listener(Listener::http("alone", manager([web(), export()], false)))
            .cluster(Cluster::http2("grpc", upstream.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        for name in ["before", "behind", "alone"] {
            for (method, status, is_error, attempts) in [
                ("Works", Some("OK"), false, 1),
                ("Breaks", Some("INTERNAL"), true, 1),
                ("IsMissing", Some("NOT_FOUND"), false, 1),
                ("Recovers", Some("OK"), false, 2),
                ("IsSilent", None, false, 1),
            ] {
                for flags in ["01", "00"] {
                    let at = format!("{} {name} {method} {flags}", envoy.reported_version());
                    let (status, is_error, attempts) = match name {
                        "alone" => (None, false, 0),
                        _ => (status, is_error, attempts),
                    };
                    let before = mesh.counter("report.kept");
                    let request = Request::post(&format!("/shop.Cart/{method}"), [0, 0, 0, 0, 0])
                        .header("content-type", "application/grpc-web+proto")
                        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                    let address = mesh.envoy.address(name).expect("its address");
                    request.send(address).expect("an answer");
                    let is_reported = flags == "01" || is_error;
                    let count = if is_reported { attempts + 1 } else { 0 };
                    let spans = mesh.sink.wait_for_spans(count).expect(&at);
                    mesh.sink.clear();
                    let kept = u64::from(flags == "00" && is_error);
                    assert_eq!(mesh.counter("report.kept"), before + kept, "{at}");
                    let server = spans.iter().find(|span| span.kind == SpanKind::Server);
                    let Some(server) = server else {
                        assert!(!is_reported, "{at}: {spans:#?}");
                        continue;
                    };
                    let told = server.attribute("rpc.response.status_code");
                    assert_eq!(
                        (told, server.status_error),
                        (status, is_error),
                        "{at}: {server:#?}"
                    );
                }
            }
        }
    }
    promises::held(
        "Spans",
        "The native tracer's SERVER span of a gRPC-Web call has the status that the upstream sent",
        "5 outcomes, grpc_web before the filter and behind it, sampled and kept; without spans of attempts no status is \
         said",
        "30 calls a version, 3 versions",
    );
}

/// The ways in which a call gets no status of gRPC from its upstream, with the HTTP status.
fn without_status(path: &str) -> Reply {
    match path {
        "/shop.Cart/HasNoStatus" => Reply::ok()
            .header("content-type", "application/grpc")
            .body([0, 0, 0, 0, 0]),
        "/shop.Cart/HasHeadersAlone" => Reply::ok().header("content-type", "application/grpc"),
        "/shop.Cart/IsTooLarge" => Reply::status(413),
        _ => Reply::status(503).header("content-type", "text/html"),
    }
}

/// Envoy gives a tracer no status then. The Wasm filter makes one, of the HTTP status or `UNKNOWN`.
#[test]
fn a_call_without_a_status_has_none_and_fails_by_its_http_status() {
    for envoy in envoys() {
        let upstream = Upstream::start().expect("an upstream");
        upstream.respond_with(|request| without_status(&request.path));
        let manager = || HttpConnectionManager::new().route(Route::prefix("/").cluster("grpc"));
        let native = manager()
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        let mut bootstrap = Bootstrap::new()
            .listener(Listener::http("native", native))
            .cluster(Cluster::http2("grpc", upstream.address()));
        // The Wasm filter is not tested on 1.38.
        let has_both = envoy.is_at_least(1, 39);
        if has_both {
            let config = reporting("http/protobuf", r#"{"role": "gateway"}"#);
            let wasm = manager().filter(mesh_tracing(config));
            bootstrap = bootstrap.listener(Listener::http("wasm", wasm));
        }
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        for (method, of_http, of_grpc, of_server) in [
            ("HasNoStatus", "200", "UNKNOWN", false),
            ("HasHeadersAlone", "200", "UNKNOWN", false),
            ("IsTooLarge", "413", "UNKNOWN", false),
            ("IsNoGrpc", "503", "UNAVAILABLE", true),
        ] {
            for name in ["native", "wasm"] {
                if name == "wasm" && !has_both {
                    continue;
                }
                let request = Request::post(&format!("/shop.Cart/{method}"), [0, 0, 0, 0, 0])
                    .header("content-type", "application/grpc")
                    .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
                let address = mesh.envoy.address(name).expect("its address");
                request.send(address).expect("an answer");
                let spans = mesh.sink.wait_for_spans(2).expect("two spans");
                mesh.sink.clear();
                for span in &spans {
                    let at = format!("{} {name} {method}: {span:#?}", envoy.reported_version());
                    let attribute = |key| span.attribute(key);
                    assert_eq!(
                        attribute("rpc.method"),
                        Some(&*format!("shop.Cart/{method}"))
                    );
                    assert_eq!(
                        attribute("http.response.status_code"),
                        Some(of_http),
                        "{at}"
                    );
                    let is_wasm = name == "wasm";
                    let told = attribute("rpc.response.status_code");
                    assert_eq!(told, is_wasm.then_some(of_grpc), "{at}");
                    let is_error = match span.kind {
                        SpanKind::Server => of_server,
                        _ => of_http != "200",
                    };
                    assert_eq!(span.status_error, is_wasm || is_error, "{at}");
                }
            }
        }
    }
}

/// A status of gRPC in the answer to another request says nothing: neither of an error nor of a reason
/// to keep it.
#[test]
fn a_status_of_grpc_counts_for_a_request_of_grpc_alone() {
    for envoy in envoys() {
        let upstream = Upstream::start().expect("an upstream");
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc");
            match &*request.path {
                "/shop.Cart/InHeaders" => reply.header("grpc-status", "13"),
                _ => reply.body([0, 0, 0, 0, 0]).trailer("grpc-status", "13"),
            }
        });
        let config = json!({"report": {"cluster": "collector", "keep": {"errors": true}}});
        let listener = |name: &str, attempts| {
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("grpc"))
                .filter(export())
                .tracing(tracing(config.clone()).spawn_upstream_span(attempts));
            Listener::http(name, manager)
        };
        let bootstrap = Bootstrap::new()
            .listener(listener("each", true))
            .listener(listener("alone", false))
            .cluster(Cluster::http2("grpc", upstream.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        for (kind, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpcfoo", false),
            ("Application/GRPC", false),
            ("text/plain", false),
            ("", false),
        ] {
            for method in ["InHeaders", "InTrailers"] {
                for (name, count, flags) in
                    [("each", 2, "01"), ("alone", 1, "01"), ("each", 2, "00")]
                {
                    let at = format!(
                        "{} {kind} {method} {name} {flags}",
                        envoy.reported_version()
                    );
                    let before =
                        ["report.kept", "report.not_sampled"].map(|name| mesh.counter(name));
                    let mut request =
                        Request::post(&format!("/shop.Cart/{method}"), [0, 0, 0, 0, 0])
                            .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                    if !kind.is_empty() {
                        request = request.header("content-type", kind);
                    }
                    let address = mesh.envoy.address(name).expect("its address");
                    request.send(address).expect("an answer");
                    if flags == "00" && !is_grpc {
                        mesh.wait_for_counter("report.not_sampled", before[1] + 1);
                        assert_eq!(mesh.counter("report.kept"), before[0], "{at}");
                        continue;
                    }
                    let spans = mesh.sink.wait_for_spans(count).expect(&at);
                    mesh.sink.clear();
                    assert_eq!(spans.len(), count, "{at}: {spans:#?}");
                    for span in &spans {
                        let told = span.attribute("rpc.response.status_code");
                        assert_eq!(told, is_grpc.then_some("INTERNAL"), "{at}: {span:#?}");
                        assert_eq!(span.status_error, is_grpc, "{at}: {span:#?}");
                        let method = span.attribute("rpc.method");
                        assert_eq!(method.is_some(), is_grpc, "{at}: {span:#?}");
                    }
                }
            }
        }
    }
}
