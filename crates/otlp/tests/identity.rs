//! The names by which a proxy's spans are found, at nodes as Istio's agent writes them.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

mod common;

use common::{Collector, decode, span};
use meshtrace_otlp::conventions::{End, EndValue, EndValues, Request, Seen};
use meshtrace_otlp::{
    Attributes, Exporter, Kind, Report, ReportConfig, ResourceValue, ServiceName,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde_json::{Value as Json, json};

fn report(json: &Json) -> Report {
    let config: ReportConfig =
        meshtrace_config::read(json.to_string().as_bytes()).expect("a configuration");
    Report::new(&config).expect("a report")
}

/// Reads `node` as both hosts do.
fn reading(node: &Json) -> impl Fn(&[&str]) -> Option<String> {
    move |path| {
        let mut place = node;
        for name in path {
            place = place.get(name)?;
        }
        place.as_str().map(str::to_owned)
    }
}

fn name(written: Option<&str>, node: &Json) -> String {
    let name = ServiceName::new(written).expect("a name");
    let attributes = meshtrace_otlp::resource(&name, &[].into(), &reading(node));
    match attributes.get("service.name") {
        Some(ResourceValue::String(name)) => name.clone(),
        other => panic!("{other:?}"),
    }
}

fn sidecar(labels: &Json) -> Json {
    json!({
        "id": "sidecar~10.0.0.7~reviews-v1-6d8996bff-ztg6z.shop~shop.svc.cluster.local",
        "cluster": "cluster.of-node",
        "metadata": {
            "LABELS": labels,
            "NAMESPACE": "shop",
            "NAME": "reviews-v1-6d8996bff-ztg6z",
            "WORKLOAD_NAME": "reviews-v1",
        },
    })
}

/// The names that `getServiceCluster` of Istio 1.32's agent gives to the same nodes.
#[test]
fn at_a_node_of_istio_the_service_has_the_name_of_istios_own_tracers() {
    let all = json!({
        "app": "reviews",
        "app.kubernetes.io/name": "k8s",
        "service.istio.io/canonical-name": "canonical",
    });
    for (labels, istio, canonical) in [
        (all, "reviews.shop", "canonical"),
        (json!({"app.kubernetes.io/name": "k8s"}), "k8s.shop", "k8s"),
        (
            json!({"service.istio.io/canonical-name": "c"}),
            "c.shop",
            "c",
        ),
        (json!({}), "reviews-v1.shop", "reviews-v1"),
    ] {
        let node = sidecar(&labels);
        assert_eq!(name(None, &node), istio, "{labels}");
        assert_eq!(name(Some("istio"), &node), istio, "{labels}");
        assert_eq!(name(Some("canonical"), &node), canonical, "{labels}");
        assert_eq!(name(Some("till"), &node), "till", "{labels}");
    }
}

#[test]
fn a_node_is_istios_by_its_id_or_by_its_version() {
    let metadata = json!({"LABELS": {"app": "a"}, "NAMESPACE": "n"});
    for (id, expected) in [
        ("sidecar~10.0.0.1~pod.n~n.svc.cluster.local", "a.n"),
        ("router~10.0.0.1~pod.n~n.svc.cluster.local", "a.n"),
        ("waypoint~10.0.0.1~pod.n~n.svc.cluster.local", "a.n"),
        ("envoy-1", "a"),
        ("", "a"),
    ] {
        let node = json!({"id": id, "metadata": metadata});
        assert_eq!(name(None, &node), expected, "{id}");
        assert_eq!(name(Some("istio"), &node), "a.n", "{id}");
    }
    let node = json!({"metadata": {
        "LABELS": {"app": "a"}, "NAMESPACE": "n", "ISTIO_VERSION": "1.30.3",
    }});
    assert_eq!(name(None, &node), "a.n");
}

#[test]
fn another_name_that_the_mesh_gives_its_tracers_is_the_services_too() {
    for (key, value, expected) in [
        (
            "tracingServiceName",
            "CANONICAL_NAME_ONLY",
            "cluster.of-node",
        ),
        (
            "tracingServiceName",
            "APP_LABEL_AND_NAMESPACE",
            "reviews.shop",
        ),
        ("serviceCluster", "mine", "cluster.of-node"),
        ("serviceCluster", "istio-proxy", "reviews.shop"),
    ] {
        let mut node = sidecar(&json!({"app": "reviews"}));
        node["metadata"]["PROXY_CONFIG"] = json!({key: value});
        assert_eq!(name(None, &node), expected, "{key} {value}");
    }
}

#[test]
fn a_node_without_labels_has_the_name_that_is_left() {
    for (node, expected) in [
        (json!({}), "unknown_service"),
        (json!({"id": "sidecar~"}), "unknown_service"),
        (json!({"id": "sidecar~", "cluster": "a.n"}), "a.n"),
        (
            json!({"id": "sidecar~", "metadata": {"NAMESPACE": "n"}}),
            "istio-proxy.n",
        ),
        (
            json!({"id": "sidecar~", "metadata": {"LABELS": {"app": "a"}}}),
            "a",
        ),
        (json!({"id": "envoy-1", "cluster": "edge"}), "edge"),
    ] {
        assert_eq!(name(None, &node), expected, "{node}");
    }
}

#[test]
fn what_resource_says_wins_over_service_name() {
    let report = report(&json!({
        "cluster": "c", "service_name": "istio", "resource": {"service.name": "mine"},
    }));
    let node = sidecar(&json!({"app": "reviews"}));
    let mut exporter = Exporter::new(report, &reading(&node));
    let mut collector = Collector::default();
    exporter.push(&span(1, &Attributes::new()), 0);
    exporter.on_tick(1_000_000_000, &mut |call| collector.take(call));
    let request = decode(&collector.calls[0], false);
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let mut names = resource.attributes.iter();
    let name = names.find(|attribute| attribute.key == "service.name");
    let name = name.unwrap().value.as_ref().unwrap().value.clone();
    assert_eq!(name, Some(Value::StringValue("mine".to_owned())));
}

/// The keys and texts of what a span exports.
fn exported(attributes: &[&Attributes]) -> Vec<(String, String)> {
    let mut exporter = Exporter::new(report(&json!({"cluster": "c"})), &|_| None);
    let mut collector = Collector::default();
    let span = meshtrace_otlp::Span {
        attributes,
        ..span(1, &Attributes::new())
    };
    exporter.push(&span, 0);
    exporter.on_tick(1_000_000_000, &mut |call| collector.take(call));
    let request = decode(&collector.calls[0], false);
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    let texts = span.attributes.iter().map(|attribute| {
        let value = attribute.value.clone().unwrap().value;
        match value {
            Some(Value::StringValue(text)) => (attribute.key.clone(), text),
            other => panic!("{other:?}"),
        }
    });
    texts.collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

#[test]
fn every_span_has_the_node_and_what_istio_adds_where_that_is_asked_for() {
    let mut node = sidecar(&json!({
        "service.istio.io/canonical-name": "reviews",
        "service.istio.io/canonical-revision": "v1",
    }));
    node["metadata"]["MESH_ID"] = json!("mesh");
    node["metadata"]["CLUSTER_ID"] = json!("east");
    node["locality"] = json!({"zone": "z1"});
    let id = node["id"].as_str().unwrap().to_owned();
    let node = reading(&node);

    let few = report(&json!({"cluster": "c"})).node_attributes(&node, &|_| false);
    assert_eq!(exported(&[few.attributes()]), pairs(&[("node_id", &id)]));
    assert!(few.has("node_id") && !few.has("component"));

    let asking = report(&json!({"cluster": "c", "envoy_attributes": true}));
    let all = asking.node_attributes(&node, &|key| key == "istio.mesh_id");
    let expected = pairs(&[
        ("node_id", &id),
        ("component", "proxy"),
        ("zone", "z1"),
        ("istio.canonical_service", "reviews"),
        ("istio.canonical_revision", "v1"),
        ("istio.namespace", "shop"),
        ("istio.cluster_id", "east"),
    ]);
    assert_eq!(exported(&[all.attributes()]), expected);
}

#[test]
fn the_operation_is_that_of_the_cluster_as_istio_names_it() {
    for (cluster, expected) in [
        (
            "outbound|9080||reviews.shop.svc.cluster.local",
            Some("reviews.shop.svc.cluster.local:9080/*"),
        ),
        (
            "outbound|80|v2|reviews.shop.svc.cluster.local",
            Some("reviews.shop.svc.cluster.local:80/*"),
        ),
        (
            "inbound-vip|80|http|reviews.shop.svc.cluster.local",
            Some("reviews.shop.svc.cluster.local:80/*"),
        ),
        ("inbound|9080||", None),
        ("PassthroughCluster", None),
        ("outbound|http||a.b", None),
        ("outbound|80||a.b|c", None),
        ("", None),
    ] {
        let mut values = EndValues::default();
        values.set(EndValue::Cluster, Some(cluster.as_bytes()));
        let operation = End::new(&values, Seen::default()).operation();
        let operation = operation.as_ref().map(|name| name.as_bytes());
        assert_eq!(operation, expected.map(str::as_bytes), "{cluster}");
    }
}

#[test]
fn the_attributes_of_envoys_tracers_have_their_names_and_are_texts() {
    let request = Request::of_lines([
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/a?secret=1"),
        (b":scheme", b"http"),
        (b":authority", b"shop"),
        (b"user-agent", b"curl"),
        (b"x-request-id", b"r1"),
    ]);
    let mut attributes = Attributes::new();
    request.describe_as_envoy(&mut attributes);
    request.describe_url_as_envoy(&mut attributes);
    let mut values = EndValues::default();
    let (code, size) = (404_u64.to_le_bytes(), 7_u64.to_le_bytes());
    for (value, bytes) in [
        (EndValue::Code, &code[..]),
        (EndValue::Protocol, b"HTTP/1.1"),
        (EndValue::Source, b"10.0.0.1:5000"),
        (EndValue::Upstream, b"10.0.0.2:80"),
        (EndValue::RequestSize, &size[..]),
        (EndValue::Cluster, b"outbound|80||a.b"),
    ] {
        values.set(value, Some(bytes));
    }
    let end = End::new(&values, Seen::default());
    let mut of_client = attributes.clone();
    end.describe_as_envoy(Kind::Server, &mut attributes);
    end.describe_as_envoy(Kind::Client, &mut of_client);
    let expected = |peer| {
        pairs(&[
            ("http.method", "GET"),
            ("user_agent", "curl"),
            ("guid:x-request-id", "r1"),
            ("http.url", "http://shop/a"),
            ("http.protocol", "HTTP/1.1"),
            ("peer.address", peer),
            ("upstream_cluster", "outbound|80||a.b"),
            ("http.status_code", "404"),
            ("request_size", "7"),
        ])
    };
    assert_eq!(exported(&[&attributes]), expected("10.0.0.1"));
    assert_eq!(exported(&[&of_client]), expected("10.0.0.2:80"));
}
