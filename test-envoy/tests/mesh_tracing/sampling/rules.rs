//! Rules by path, route and cluster, for proxied requests and for those that Envoy answers itself.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{SpanKind, Upstream, each_supported, expect};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::reporting::{Collected, mesh_tracing, traceparent};
use meshtrace_test_support::tracers::Caller;
use serde_json::json;

use super::{config, exported, seen};

#[test]
fn a_never_rule_wins_over_keep() {
    each_host(|host, envoy, version| {
        let sampling = json!({"rules": [
            {"match": {"path": {"template": "/users/{id}/photo"}}, "sample": {"ratio": 0.000_001}},
            {"match": {"path": {"prefix": "/health"}}, "sample": "never"},
        ], "default": "never"});
        let mesh = host.start(envoy, config(sampling, json!({})));
        mesh.upstream.respond_with(|_| Reply::status(500));
        let dropped = |caller: &Caller, path: &str| {
            let value = format!("00-{}-{SPAN}-00", caller.trace_id);
            Request::get(path)
                .header("traceparent", value)
                .header("tracestate", "a=1,ot=th:c")
        };
        for path in ["/health", "/health/live"] {
            mesh.send(&Request::get(path));
            mesh.send(&dropped(&Caller::fresh(), path));
        }
        assert!(exported(&mesh, 1).is_empty(), "{version}");
        assert_eq!(mesh.counter("report.kept"), 0, "{version}");
        for path in ["/users/7/photo", "/else"] {
            for caller in [None, Some(Caller::fresh())] {
                mesh.upstream.take();
                match &caller {
                    None => mesh.send(&Request::get(path)),
                    Some(caller) => mesh.send(&dropped(caller, path)),
                };
                let what = format!("{path} on {version}");
                assert_eq!(traceparent(&seen(&mesh))[2], "00", "{what}");
                let spans = exported(&mesh, 1);
                let [span] = spans.as_slice() else {
                    panic!("{what}: {spans:#?}");
                };
                assert_eq!(span.attribute("meshtrace.kept"), Some("error"), "{what}");
                assert_eq!(span.trace_state, "", "{what}: no probability is claimed");
                let route = (path != "/else").then_some("/users/{id}/photo");
                assert_eq!(span.attribute("http.route"), route, "{what}");
                let name = route.map_or("GET".to_owned(), |route| format!("GET {route}"));
                assert_eq!(span.name, name, "{what}");
            }
        }
        mesh.assert_sound(version);
    });
}

#[test]
fn what_envoy_answers_itself_is_decided_by_the_same_rules() {
    let deny = HttpFilter::raw(
        "deny",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"denied": {
                "permissions": [{"url_path": {"path": {"prefix": "/denied"}}}],
                "principals": [{"any": true}],
            }}},
        }),
    );
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"rules": [
            {"name": "template", "match": {"path": {"template": "/denied/{id}"}}, "sample": "always"},
            {"name": "never", "match": {"path": {"prefix": "/denied/never"}}, "sample": "never"},
            {"name": "rate", "match": {"path": {"prefix": "/denied/rate"}}, "sample": {"per_second": 1}},
            {"name": "route", "match": {"route": "checkout"}, "sample": "always"},
            {"name": "cluster", "match": {"cluster": "ledger"}, "sample": "always"},
            {"name": "direct", "match": {"path": {"exact": "/direct"}}, "sample": "always"},
        ], "default": "never",
           "force": {"header": "x-force", "value_env": "FORCE"}});
        let filter = mesh_tracing(config(sampling, json!({})))
            .env("FORCE", "hunter2")
            .vm_id("with-key");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(
                Route::prefix("/denied/checkout/")
                    .cluster("upstream")
                    .name("checkout"),
            )
            .route(Route::prefix("/denied/ledger/").cluster("ledger"))
            .route(Route::prefix("/").cluster("upstream"))
            .filter(deny.clone())
            .filter(filter);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1(
                "ledger",
                "127.0.0.1:9".parse().expect("an address"),
            ));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (path, secret, status, rule, state) in [
            (
                "/denied/7",
                None,
                403,
                "rule.template.sampled",
                Some("ot=th:0"),
            ),
            ("/denied/never/x", None, 403, "rule.never.dropped", None),
            ("/denied/rate/x", None, 403, "rule.rate.sampled", Some("")),
            (
                "/denied/checkout/x",
                None,
                403,
                "rule.route.sampled",
                Some("ot=th:0"),
            ),
            (
                "/denied/ledger/x",
                None,
                403,
                "rule.cluster.sampled",
                Some("ot=th:0"),
            ),
            ("/denied/x/y", None, 403, "default.dropped", None),
            (
                "/denied/never/x",
                Some("hunter2"),
                403,
                "force.sampled",
                Some(""),
            ),
            ("/direct", None, 404, "rule.direct.sampled", Some("ot=th:0")),
        ] {
            let mut request = Request::get(path);
            if let Some(secret) = secret {
                request = request.header("x-force", secret);
            }
            let what = format!("{path} on {version}");
            let counter = format!("route_sampling.{rule}");
            let before = mesh.counter(&counter);
            assert_eq!(mesh.send(&request).status, status, "{what}");
            let spans = exported(&mesh, 1);
            mesh.wait_for_counter(&counter, before + 1);
            let states: Vec<_> = spans.iter().map(|span| span.trace_state.as_str()).collect();
            assert_eq!(states, Vec::from_iter(state), "{what}");
            for span in &spans {
                let status = status.to_string();
                let code = span.attribute("http.response.status_code");
                assert_eq!(code, Some(status.as_str()), "{what}");
                let route = (path == "/denied/7").then_some("/denied/{id}");
                assert_eq!(span.attribute("http.route"), route, "{what}");
            }
        }
        assert!(mesh.upstream.take().len() >= 8, "{version}: the last ones");
        mesh.assert_sound(version);
    });
}

#[test]
fn rules_may_name_envoys_route_and_cluster() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let sampling = json!({"rules": [
            {"match": {"route": "checkout"}, "sample": "always"},
            {"match": {"cluster": "ledger", "host": "*.example"}, "sample": "always"},
        ], "default": "never"});
        let upstream = Upstream::start().expect("an upstream");
        // Properties of attributes stand before those of the rules.
        let mut config = config(sampling, json!({}));
        config["span_attributes"] = json!({"attributes": [
            {"key": "shop.cluster", "from": {"property": ["xds", "cluster_name"]}},
        ]});
        let manager = HttpConnectionManager::new()
            .route(
                Route::prefix("/checkout")
                    .cluster("upstream")
                    .name("checkout"),
            )
            .route(Route::prefix("/ledger").cluster("ledger"))
            .route(Route::prefix("/").cluster("upstream"))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("ledger", upstream.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (path, host, cluster) in [
            ("/checkout", "shop.test", Some("upstream")),
            ("/ledger", "Pay.Example:8080", Some("ledger")),
            ("/ledger", "pay.test", None),
            ("/", "pay.example", None),
        ] {
            mesh.send(&Request::get(path).header("host", host));
            let spans = exported(&mesh, 1);
            let clusters: Vec<_> = spans
                .iter()
                .map(|span| span.attribute("shop.cluster"))
                .collect();
            let expected: Vec<_> = cluster.map(Some).into_iter().collect();
            assert_eq!(clusters, expected, "{path} {host} on {version}");
        }
        mesh.assert_sound(version);
    });
}

#[test]
fn the_route_is_the_template_on_the_server_and_on_the_client_span() {
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut config = config(
            json!({"rules": [
                {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
            ], "default": "always"}),
            json!({"role": "gateway"}),
        );
        config["span_attributes"] = json!({"attributes": [
            {"key": "order.id", "from": {"path": "/orders/{id}/**", "capture": "id"}},
        ]});
        let mesh = Host::Wasm.start(envoy, config);
        for (path, route) in [
            ("/users/7?token=1", Some("/users/{id}")),
            ("/orders/7/items", Some("/orders/{id}/**")),
            ("/else", None),
        ] {
            mesh.send(&Request::get(path));
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            let what = format!("{path} on {version}");
            assert_eq!(spans.len(), 2, "{what}: {spans:#?}");
            let name = route.map_or("GET".to_owned(), |route| format!("GET {route}"));
            let named = |kind, other: &str| {
                let span = expect::span().of_kind(kind).named(&name);
                span.without(other).at(&what)
            };
            let server = named(SpanKind::Server, "url.template").find_in(&spans);
            let client = named(SpanKind::Client, "http.route").child_of(server);
            let client = client.find_in(&spans);
            assert_eq!(server.attribute("http.route"), route, "{what}");
            assert_eq!(client.attribute("url.template"), route, "{what}");
            for span in &spans {
                assert_eq!(span.trace_state, "ot=th:0", "{what}");
            }
        }
        mesh.assert_sound(version);
    });
}
