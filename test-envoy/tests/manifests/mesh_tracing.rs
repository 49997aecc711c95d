//! The manifests of `mesh_tracing`: written by a program, one configuration a place, in every way
//! of loading it; and what each configuration does in real Envoys. `UPDATE_EXAMPLES=1` writes them;
//! without it they must be what would be written.

use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::{Envoy, EnvoyBinary, OtlpSink, SpanKind, Upstream};
use meshtrace_test_support::common::{self, envoys};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::reporting::{Collected, mesh_tracing};
use serde_json::{Value, json};

use crate::plugins::{KINDS, Kind, NO_DIGEST, check_files, image, indented};
use crate::reported::{sampled_request, spans_of};

const UPDATE: &str =
    "UPDATE_EXAMPLES=1 cargo test -p envoy-test-harness --test manifests mesh_tracing::";
const COLLECTOR: &str = "otel-collector.observability.svc.cluster.local";

/// Where a plugin runs.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Behind `mesh-tracing` in the names of files and resources.
    suffix: &'static str,
    title: &'static str,
    /// The namespace to apply it to.
    where_to: &'static str,
    /// Lines of the spec of both resources, before everything else.
    attachment: &'static str,
    /// How often a request passes it.
    passes: &'static str,
    trace_context: &'static str,
    /// Of a proxy there.
    node: &'static str,
    /// What the collector's cluster needs there beside the Service.
    cluster: &'static str,
}

const PLACES: [Place; 3] = [
    Place {
        suffix: "",
        title: "of every sidecar and gateway of a namespace",
        where_to: "In the mesh's root namespace it is for the whole mesh, gateways included, and waypoints not.",
        attachment: "",
        passes: "\
# Without `match` it is on the way in and on the way out: a span each.
",
        trace_context: "\
# W3C and both shapes of B3 are read and written. In the root namespace, where gateways have it too, this keeps
# clients from saying what is traced (the networks are the mesh's own):
#   incoming: {mode: restart, when: {not_from_cidrs: [\"10.0.0.0/8\"]}}
trace_context: {}
",
        node: "sidecar",
        cluster: "\
# A namespace with a Sidecar resource must import the service: a proxy that does not know it drops the spans
# and counts them.
",
    },
    Place {
        suffix: "-gateway",
        title: "of ingress gateways",
        where_to: "For the gateway's namespace. Where mesh-tracing.yaml is in the root namespace, gateways have it already: apply one.",
        attachment: "\
selector:
  matchLabels:
    # The label of Istio's own ingress gateway.
    istio: ingressgateway
",
        passes: "",
        trace_context: "\
# Clients do not say what is traced: a new trace for each request. For callers that are to be believed:
# `continue`, or a `when` that names the others.
trace_context:
  incoming: restart
",
        node: "router",
        cluster: "",
    },
    Place {
        suffix: "-waypoint",
        title: "of a waypoint",
        where_to: "For the waypoint's namespace.",
        attachment: "\
targetRefs:
# A waypoint takes what names its Gateway, and no selector.
- group: gateway.networking.k8s.io
  kind: Gateway
  name: waypoint
",
        passes: "",
        trace_context: "\
# W3C and both shapes of B3 are read and written.
trace_context: {}
",
        node: "waypoint",
        cluster: "\
# A waypoint knows only the services behind it and those of the mesh configuration's extensionProviders: one of
# those must name the collector, see docs/istio.md.
",
    },
];

/// What the plugin is told, as YAML.
fn configuration(place: Place) -> String {
    format!(
        "{}\
         # The ids of the span for the access log, as filter state; ../access-log/mesh-config.yaml has the fields.\n\
         access_log: {{}}\n\
         report:\n  \
           # Port and service of the collector, as Istio names its clusters.\n{}  \
           cluster: outbound|4318||{COLLECTOR}\n  \
           # Or grpc, with 4317 above; the Service's port is then named grpc-…, so that Istio speaks HTTP/2 to it.\n  \
           protocol: http/protobuf\n  \
           # A sidecar reports a SERVER or a CLIENT span, a gateway both, a waypoint a SERVER span.\n  \
           role: auto\n  \
           # Reported although the trace is not sampled.\n  \
           keep:\n    errors: true\n    slower_than_ms: 1000\n",
        place.trace_context,
        indented(place.cluster, 2),
    )
}

fn metadata(place: Place) -> String {
    format!("metadata:\n  name: mesh-tracing{}\nspec:\n", place.suffix)
}

/// The plugin, and the proxy's own tracer turned off.
fn resource(kind: Kind, place: Place) -> String {
    let mut spec = place.attachment.to_owned();
    spec.push_str(place.passes);
    spec.push_str(
        "# The earliest place of a plugin, before authentication and authorisation: what those refuse is a span too.\n\
         phase: AUTHN\n\
         # Before other plugins of this phase, which then see the hop's own context.\n\
         priority: 1000\n",
    );
    spec.push_str(&kind.module("mesh_tracing", &configuration(place)));
    format!(
        "# Istio: {}\n\
         # Tracer: any\n\
         # mesh_tracing as the tracer {}, with the proxies' own tracer off, whichever that is.\n\
         # {}\n\
         # A fetch that fails: requests pass as they are (failStrategy), and are not traced.\n\
         # Resources: about 60 MB for a proxy's first Wasm plugin, and 1.3 MB of the agent's disk for the module.\n\
         # Generated: {UPDATE}\n\
         apiVersion: extensions.istio.io/v1alpha1\n\
         kind: {}\n{}{}\
         ---\n\
         # A tracer of the proxy's would write its own span over the filter's when the request leaves.\n{}\
         apiVersion: telemetry.istio.io/v1\n\
         kind: Telemetry\n{}{}",
        kind.versions,
        place.title,
        place.where_to,
        kind.name,
        metadata(place),
        indented(&spec, 2),
        if place.attachment.is_empty() {
            "# Istio takes one Telemetry without a selector a namespace: put this into yours where you have one. It is for the\n\
             # namespace's waypoints too, which the plugin above does not reach: they are mesh-tracing-waypoint.yaml's.\n"
        } else {
            ""
        },
        metadata(place),
        indented(
            &format!(
                "{}tracing:\n- disableSpanReporting: true\n",
                place.attachment
            ),
            2
        ),
    )
}

fn envoy_gateway() -> String {
    format!(
        "# Envoy Gateway: 1.9\n\
         # Tracer: none\n\
         # mesh_tracing as the tracer of Envoy Gateway's proxies. Their own is off unless an EnvoyProxy has `telemetry.tracing`.\n\
         # The filter edits request headers, and stands behind header mutation, external authorisation and JWT: read\n\
         # docs/request-headers.md first where one of them adds a header that a route asks for.\n\
         # Envoy Gateway itself fetches the image and serves it to its proxies. A fetch that fails: the policy's status\n\
         # says so, and with failOpen requests pass as they are; without it they are answered 500.\n\
         # Generated: {UPDATE}\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyExtensionPolicy\n\
         metadata:\n  name: mesh-tracing\n\
         spec:\n  targetRefs:\n  # A Gateway is all of its routes; an HTTPRoute here is that route alone.\n  \
         - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: eg\n  \
         wasm:\n  - name: mesh_tracing\n    rootID: mesh_tracing\n    \
         # A module that cannot be fetched or crashes must not fail requests; the default is false.\n    failOpen: true\n    \
         code:\n      type: Image\n      \
         # A pinned module never changes: it is fetched once.\n      pullPolicy: IfNotPresent\n      \
         image:\n        # A registry that wants credentials: `pullSecretRef` with a dockerconfigjson Secret of this namespace.\n        \
         url: {}\n        # The digest that `make push` prints, without `sha256:`.\n        sha256: \"{NO_DIGEST}\"\n    \
         config:\n      \
         # Clients do not say what is traced. For callers that are to be believed: `continue`.\n      \
         trace_context:\n        incoming: restart\n      \
         access_log: {{}}\n      \
         report:\n        # The cluster below.\n        cluster: meshtrace-collector\n        \
         authority: {COLLECTOR}\n        \
         # SERVER and CLIENT spans: the proxies' names do not say that they are gateways, as Istio's do.\n        \
         role: gateway\n        \
         resource: {{service.name: eg}}\n        \
         keep: {{errors: true, slower_than_ms: 1000}}\n\
         ---\n\
         # Envoy Gateway makes clusters of routes alone, so the collector's stands in the bootstrap. Name this resource in\n\
         # `infrastructure.parametersRef` of the Gateway, or in `parametersRef` of the GatewayClass.\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyProxy\n\
         metadata:\n  name: mesh-tracing\n\
         spec:\n  bootstrap:\n    \
         # Adds to Envoy Gateway's own.\n    type: Merge\n    value: |\n      \
         static_resources:\n        clusters:\n        - name: meshtrace-collector\n          \
         type: STRICT_DNS\n          connect_timeout: 5s\n          \
         load_assignment:\n            cluster_name: meshtrace-collector\n            endpoints:\n            - lb_endpoints:\n              \
         - endpoint:\n                  address:\n                    socket_address: {{address: {COLLECTOR}, port_value: 4318}}\n",
        image("mesh_tracing")
    )
}

/// Every generated file by its path.
fn files() -> Vec<(String, String)> {
    let of_kind = |kind: Kind| {
        PLACES.map(|place| {
            let path = format!("{}/mesh-tracing{}.yaml", kind.folder, place.suffix);
            (path, resource(kind, place))
        })
    };
    let mut files: Vec<_> = KINDS.into_iter().flat_map(of_kind).collect();
    files.push((
        "envoy-gateway/mesh-tracing.yaml".to_owned(),
        envoy_gateway(),
    ));
    files
}

fn documents(text: &str) -> [Value; 2] {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("documents");
    documents.try_into().expect("two of them")
}

#[test]
fn the_files_are_what_is_written() {
    check_files(&files(), UPDATE);
}

#[test]
fn both_kinds_say_the_same_and_each_turns_the_proxys_tracer_off() {
    for place in PLACES {
        let [plugin, extension] = KINDS.map(|kind| documents(&resource(kind, place)));
        let expected: Value = serde_saphyr::from_str(&configuration(place)).expect("YAML");
        assert_eq!(plugin[0]["spec"]["pluginConfig"], expected);
        assert_eq!(extension[0]["spec"]["wasm"]["pluginConfig"], expected);
        assert_eq!(plugin[0]["spec"]["failStrategy"], "FAIL_OPEN");
        assert_eq!(extension[0]["spec"]["wasm"]["failStrategy"], "FAIL_OPEN");
        assert_eq!(plugin[1], extension[1]);
        // For the same proxies, and for all that the plugin is for.
        for key in ["selector", "targetRefs"] {
            for [plugin, telemetry] in [&plugin, &extension] {
                assert_eq!(plugin["spec"][key], telemetry["spec"][key], "{place:?}");
                assert_eq!(plugin["metadata"], telemetry["metadata"], "{place:?}");
            }
        }
        let off = json!([{"disableSpanReporting": true}]);
        assert_eq!(plugin[1]["spec"]["tracing"], off, "{place:?}");
    }
}

/// The oldest and the newest; `make test-mesh` runs what Istio renders on all of them.
fn ends() -> impl Iterator<Item = EnvoyBinary> {
    let mut all = envoys();
    let newest = all.pop();
    all.into_iter().take(1).chain(newest)
}

/// The format of the access log's own manifest.
fn log_fields() -> Value {
    let mesh = common::yaml("istio-manifests/access-log/mesh-config.yaml");
    mesh["extensionProviders"][0]["envoyFileAccessLog"]["logFormat"]["labels"].clone()
}

fn start(
    envoy: &EnvoyBinary,
    config: &Value,
    node: &str,
    direction: TrafficDirection,
    collector: impl FnOnce(&OtlpSink) -> Cluster,
) -> Collected {
    let filter = mesh_tracing(config).failure_policy(FailurePolicy::FailOpen);
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter)
        .access_log(log_fields());
    let upstream = Upstream::start().expect("an upstream");
    let sink = OtlpSink::start().expect("a collector");
    let bootstrap = Bootstrap::new()
        .node(node, "shop.default")
        .listener(Listener::http("ingress", manager).direction(direction))
        .cluster(Cluster::http1("upstream", upstream.address()))
        .cluster(collector(&sink));
    let envoy = Envoy::start(envoy, bootstrap).expect("an Envoy that starts");
    Collected {
        envoy,
        upstream,
        sink,
        host: Host::Wasm,
    }
}

/// What the spans of one trace are, and to whom they were sent.
fn check(mesh: &Collected, kinds: &[SpanKind], restarts: bool, at: &str) {
    let [trace_id, ..] = sampled_request(mesh, at);
    let spans = spans_of(mesh, &trace_id, kinds, restarts, at);
    let exports = mesh.sink.exports();
    let host = exports
        .first()
        .and_then(|export| export.header_text("host"));
    assert_eq!(host.as_deref(), Some(COLLECTOR), "{at}");
    let requests = mesh.envoy.stat("http.ingress.downstream_rq_total");
    let requests = usize::try_from(requests.expect("the counter")).expect("a number");
    let lines = mesh.envoy.access_log("ingress").wait_for_lines(requests);
    let lines = lines.expect("a line a request");
    let ids = json!([spans[0].trace_id, spans[0].span_id]);
    let logged = |line: &Value| json!([line["trace_id"], line["span_id"]]) == ids;
    assert!(lines.iter().any(logged), "{at}: {lines:?}");
    assert_eq!(mesh.counter("config_invalid"), 0, "{at}");
    assert_eq!(mesh.counter("host_errors"), 0, "{at}");
}

#[test]
fn each_place_reports_the_spans_of_its_kind_to_the_cluster_that_istio_names() {
    use SpanKind::{Client, Server};
    use TrafficDirection::{Inbound, Outbound};
    for envoy in ends() {
        for place in PLACES {
            let [plugin, _] = documents(&resource(KINDS[0], place));
            let config = &plugin["spec"]["pluginConfig"];
            let cluster = config["report"]["cluster"].as_str().expect("a cluster");
            let node = format!("{}~10.0.0.1~shop-1.default~svc", place.node);
            let ways: &[(TrafficDirection, &[SpanKind])] = match place.node {
                "sidecar" => &[(Inbound, &[Server]), (Outbound, &[Client])],
                "router" => &[(Outbound, &[Server, Client])],
                _ => &[(Inbound, &[Server])],
            };
            for (direction, kinds) in ways {
                let at = format!("{} {} {direction:?}", envoy.reported_version(), place.node);
                let mesh = start(&envoy, config, &node, *direction, |sink| {
                    Cluster::http1(cluster, sink.http_addr())
                });
                check(&mesh, kinds, place.node == "router", &at);
            }
        }
    }
}

/// What the file for a whole mesh says in a comment, at the mesh's gateway.
#[test]
fn callers_from_elsewhere_are_not_believed_where_the_networks_are_named() {
    let [plugin, _] = documents(&resource(KINDS[0], PLACES[0]));
    let mut config = plugin["spec"]["pluginConfig"].clone();
    let comment = PLACES[0].trace_context.lines();
    let comment = comment.filter_map(|line| line.strip_prefix("#   "));
    let comment: Value = serde_saphyr::from_str(&comment.collect::<String>()).expect("YAML");
    assert!(comment["incoming"]["when"].is_object(), "{comment}");
    config["trace_context"] = comment;
    let cluster = config["report"]["cluster"].as_str().expect("a cluster");
    let node = "router~10.0.0.1~gateway-1.istio-system~svc";
    for envoy in ends() {
        let mesh = start(&envoy, &config, node, TrafficDirection::Outbound, |sink| {
            Cluster::http1(cluster, sink.http_addr())
        });
        let kinds = [SpanKind::Server, SpanKind::Client];
        check(&mesh, &kinds, true, envoy.reported_version());
    }
}

#[test]
fn envoy_gateways_policy_reports_to_the_cluster_of_its_bootstrap() {
    let [policy, proxy] = documents(&envoy_gateway());
    let config = &policy["spec"]["wasm"][0]["config"];
    let bootstrap = proxy["spec"]["bootstrap"]["value"].as_str().expect("text");
    let bootstrap: Value = serde_saphyr::from_str(bootstrap).expect("YAML");
    let cluster = &bootstrap["static_resources"]["clusters"][0];
    assert_eq!(cluster["name"], config["report"]["cluster"]);
    let socket =
        "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    assert_eq!(
        cluster.pointer(socket),
        Some(&config["report"]["authority"])
    );
    for envoy in ends() {
        // As its pods are named, and with the listeners' direction that it sets: none.
        let node = "envoy-default-eg-e41e7b31-7b9f8c9c5-x2x2x";
        let mesh = start(
            &envoy,
            config,
            node,
            TrafficDirection::Unspecified,
            |sink| {
                let name = cluster["name"].as_str().expect("a name");
                let mut patch = cluster.clone();
                // Here it is on this machine.
                let address = sink.http_addr();
                patch["load_assignment"]["endpoints"] = json!([{"lb_endpoints": [{"endpoint": {"address": {
                    "socket_address": {"address": address.ip().to_string(), "port_value": address.port()},
                }}}]}]);
                Cluster::http1(name, address).merge(patch)
            },
        );
        let at = envoy.reported_version();
        check(&mesh, &[SpanKind::Server, SpanKind::Client], true, at);
        let span = mesh.sink.spans().pop().expect("a span");
        assert_eq!(span.service, "eg");
    }
}
