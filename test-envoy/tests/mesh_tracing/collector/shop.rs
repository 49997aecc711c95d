//! A gateway, two sidecars and two applications that report to the Collector.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{Envoy, EnvoyBinary, SpanKind};
use meshtrace_test_support::reporting::{attributes, mesh_tracing};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::STATIONS;
use super::apps::{App, Python, Running};
use super::process::Collector;

pub(super) const TRACE_STATE: &str = "ot=th:8,vendor=1";
pub(super) const REQUEST_ID: &str = "7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c";

/// Where a listener of a proxy sends what it takes.
pub(super) type Way<'a> = (&'a str, TrafficDirection, SocketAddr);

/// A proxy of an Istio mesh that is the tracer of all its ways, and knows where nobody listens:
/// `/down`.
pub(super) fn proxy(
    binary: &EnvoyBinary,
    (collector, protocol): (&Collector, &str),
    (kind, service): (&str, &str),
    ways: &[Way<'_>],
    down: &ClosedPort,
    report: &Value,
) -> Envoy {
    let (name, cluster) = collector.cluster(protocol);
    let mut config = json!({
        "trace_context": {},
        "span_attributes": {},
        "access_log": {},
        "report": {
            "cluster": name,
            "protocol": protocol,
            "resource": {"deployment.environment.name": "test", "shard": 7, "canary": true},
        },
    });
    for (key, value) in report.as_object().expect("an object") {
        config["report"][key] = value.clone();
    }
    let node = json!({"node": {"metadata": {
        "NAME": format!("{service}-1"),
        "NAMESPACE": "shop",
        "MESH_ID": "mesh",
        "CLUSTER_ID": "c1",
        "LABELS": {
            "service.istio.io/canonical-name": service,
            "service.istio.io/canonical-revision": "v2",
        },
    }}});
    let bootstrap = Bootstrap::new()
        .node(&node_id(kind, service), service)
        .merge(node)
        .cluster(cluster)
        .cluster(Cluster::http1("down", down.address()));
    let bootstrap = ways
        .iter()
        .fold(bootstrap, |bootstrap, (name, direction, next)| {
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/down").cluster("down"))
                .route(Route::prefix("/").cluster(name))
                .filter(mesh_tracing(&config))
                .access_log(json!({
                    "trace_id": "%FILTER_STATE(wasm.trace_id:PLAIN)%",
                    "span_id": "%FILTER_STATE(wasm.span_id:PLAIN)%",
                    "parent_span_id": "%FILTER_STATE(wasm.parent_span_id:PLAIN)%",
                    "path": "%REQ(:PATH)%",
                }));
            bootstrap
                .listener(Listener::http(name, manager).direction(*direction))
                .cluster(Cluster::http1(name, *next))
        });
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

/// As Istio's agent makes it.
pub(super) fn node_id(kind: &str, service: &str) -> String {
    format!("{kind}~10.0.0.1~{service}-1.shop~shop.svc.cluster.local")
}

pub(super) fn address(proxy: &Envoy, listener: &str) -> SocketAddr {
    proxy.address(listener).expect("its address")
}

/// A counter of the filter; 0 when it has not moved.
pub(super) fn counter(envoy: &Envoy, name: &str) -> u64 {
    let stats = envoy.stats().expect("the counters");
    let name = format!("wasmcustom.meshtrace.{name}");
    stats.get(&name).copied().unwrap_or(0)
}

/// Everything that was dropped, whatever for.
pub(super) fn dropped(envoy: &Envoy) -> u64 {
    let stats = envoy.stats().expect("the counters");
    let prefix = "wasmcustom.meshtrace.report.dropped.";
    let counters = stats.iter().filter(|(name, _)| name.starts_with(prefix));
    counters.map(|(_, value)| value).sum()
}

/// Gateway, both sidecars and both applications.
#[derive(Debug)]
pub(super) struct Shop {
    // The applications end first.
    pub(super) _apps: [Running; 2],
    pub(super) gateway: Envoy,
    pub(super) storefront: Envoy,
    pub(super) payments: Envoy,
    /// Where the applications listen.
    pub(super) sockets: [SocketAddr; 2],
}

impl Shop {
    pub(super) fn open(
        binary: &EnvoyBinary,
        collector: &Collector,
        protocol: &str,
        propagator: &'static str,
        logs: &TempDir,
    ) -> Self {
        let python = Python::from_env().expect("a Python");
        let socket = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let (storefront_socket, payments_socket) = (socket(), socket());
        let of = |socket: &TcpListener| socket.local_addr().expect("its address");
        let sockets = [of(&storefront_socket), of(&payments_socket)];
        let (inbound, outbound) = (TrafficDirection::Inbound, TrafficDirection::Outbound);
        let down = ClosedPort::reserve().expect("a closed port");
        let proxy = |kind, service, ways: &[Way<'_>]| {
            let node = (kind, service);
            proxy(binary, (collector, protocol), node, ways, &down, &json!({}))
        };
        let payments = proxy(
            "sidecar",
            "payments",
            &[("in", inbound, sockets[1]), ("out", outbound, sockets[0])],
        );
        let storefront = proxy(
            "sidecar",
            "storefront",
            &[
                ("in", inbound, sockets[0]),
                ("out", outbound, address(&payments, "in")),
            ],
        );
        let gateway = proxy(
            "router",
            "gateway",
            &[("front", outbound, address(&storefront, "in"))],
        );
        let run = |name, next, socket, proxy| {
            let app = App {
                name,
                propagator,
                next,
            };
            let http = collector.http.address();
            let next = address(proxy, "out");
            Running::start(&app, &python, socket, http, next, logs.path()).expect("an application")
        };
        let mut apps = [
            run("storefront", "PAYMENTS_URL", storefront_socket, &storefront),
            run("payments", "STOREFRONT_URL", payments_socket, &payments),
        ];
        for app in &mut apps {
            app.wait_until_ready().expect("one that serves");
        }
        Self {
            _apps: apps,
            gateway,
            storefront,
            payments,
            sockets,
        }
    }

    /// What a proxy's span says beside what only a look at it tells.
    pub(super) fn expected(&self, at: usize, path: &str) -> BTreeMap<String, String> {
        let inside = |envoy: &Envoy, listener: &str| address(envoy, listener).to_string();
        let (kind, host, cluster, upstream, agent) = match at {
            0 | 1 => (
                STATIONS[at].2,
                "shop.example.com:8443".to_owned(),
                "front",
                inside(&self.storefront, "in"),
                "test/1.0",
            ),
            2 => (
                SpanKind::Server,
                "shop.example.com:8443".to_owned(),
                "in",
                self.sockets[0].to_string(),
                "test/1.0",
            ),
            5 => (
                SpanKind::Client,
                inside(&self.storefront, "out"),
                "out",
                inside(&self.payments, "in"),
                PYTHON,
            ),
            6 => (
                SpanKind::Server,
                inside(&self.storefront, "out"),
                "in",
                self.sockets[1].to_string(),
                PYTHON,
            ),
            _ => (
                SpanKind::Client,
                inside(&self.payments, "out"),
                "out",
                self.sockets[0].to_string(),
                PYTHON,
            ),
        };
        let node = STATIONS[at].1.strip_suffix(".shop").expect("a proxy");
        let node = node_id(if at <= 1 { "router" } else { "sidecar" }, node);
        let (server, port) = host.split_once(':').expect("a port");
        let (peer, peer_port) = upstream.split_once(':').expect("a port");
        let mut expected = attributes(&[
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("node_id", &node),
            ("server.address", server),
            ("server.port", port),
            ("upstream_cluster.name", cluster),
            ("url.path", path),
            ("url.scheme", "http"),
            ("user_agent.original", agent),
        ]);
        if at <= 2 {
            expected.extend(attributes(&[
                ("tenant.id", "acme"),
                ("user.id", "zo\u{eb}"),
            ]));
        }
        expected.extend(match kind {
            SpanKind::Client => attributes(&[
                ("network.peer.address", peer),
                ("network.peer.port", peer_port),
                ("url.full", &format!("http://{host}{path}")),
            ]),
            _ => attributes(&[
                ("client.address", "127.0.0.1"),
                ("http.request.body.size", "0"),
                ("network.protocol.version", "1.1"),
                ("upstream_address", &upstream),
            ]),
        });
        expected
    }
}

/// In the place of whatever version the applications' HTTP client has.
pub(super) const PYTHON: &str = "python-requests";

/// The resource of a proxy's spans. Istio's own tracers name its service in this way.
pub(super) fn resource(name: &str) -> BTreeMap<String, String> {
    let service = name.strip_suffix(".shop").expect("the namespace");
    let kind = if service == "gateway" {
        "router"
    } else {
        "sidecar"
    };
    attributes(&[
        ("canary", "true"),
        ("deployment.environment.name", "test"),
        ("istio.canonical_revision", "v2"),
        ("istio.canonical_service", service),
        ("istio.cluster_id", "c1"),
        ("istio.mesh_id", "mesh"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", &format!("{service}-1")),
        ("service.instance.id", &node_id(kind, service)),
        ("service.name", name),
        ("service.namespace", "shop"),
        ("service.version", "v2"),
        ("shard", "7"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "meshtrace"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ])
}
