//! The resource of the spans: who reports them.

use std::collections::BTreeMap;

use prost::Message;

use crate::config::ResourceValue;

/// `opentelemetry.proto.resource.v1.Resource`.
#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// `opentelemetry.proto.common.v1.KeyValue`.
#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// `opentelemetry.proto.common.v1.AnyValue`.
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

/// `opentelemetry.proto.common.v1.InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// What is asked of the proxy's own node: a path below `xds.node`, such as `["metadata", "NAME"]`.
pub type Node<'n> = &'n dyn Fn(&[&str]) -> Option<String>;

/// The attributes of the resource: those of the configuration, and what the node tells where they
/// say nothing.
#[must_use]
pub fn resource(
    configured: &BTreeMap<String, ResourceValue>,
    node: Node<'_>,
) -> BTreeMap<String, ResourceValue> {
    let label = |name| node(&["metadata", "LABELS", name]);
    let metadata = |name| node(&["metadata", name]);
    let canonical = label("service.istio.io/canonical-name");
    let revision = label("service.istio.io/canonical-revision");
    let namespace = metadata("NAMESPACE");
    let service = canonical
        .clone()
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| label("app"))
        .or_else(|| metadata("WORKLOAD_NAME"))
        .or_else(|| node(&["cluster"]))
        .unwrap_or_else(|| "unknown_service:envoy".to_owned());
    let version = label("app.kubernetes.io/version")
        .or_else(|| label("version"))
        .or_else(|| revision.clone().filter(|revision| revision != "latest"));

    let known = [
        ("service.name", Some(service)),
        ("service.namespace", namespace.clone()),
        ("service.version", version),
        ("service.instance.id", node(&["id"])),
        ("k8s.namespace.name", namespace),
        (
            "k8s.pod.name",
            canonical.is_some().then(|| metadata("NAME")).flatten(),
        ),
        ("istio.canonical_service", canonical),
        ("istio.canonical_revision", revision),
        ("istio.mesh_id", metadata("MESH_ID")),
        ("istio.cluster_id", metadata("CLUSTER_ID")),
        ("telemetry.sdk.name", Some("meshtrace".to_owned())),
        ("telemetry.sdk.language", Some("rust".to_owned())),
        (
            "telemetry.sdk.version",
            Some(env!("CARGO_PKG_VERSION").to_owned()),
        ),
    ];
    let mut attributes: BTreeMap<_, _> = known
        .into_iter()
        .filter_map(|(key, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some((key.to_owned(), ResourceValue::String(value)))
        })
        .collect();
    attributes.extend(configured.clone());
    attributes
}

/// `ResourceSpans.resource` and `ScopeSpans.scope`, encoded: the same before every batch.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) resource: Vec<u8>,
    pub(crate) scope: Vec<u8>,
}

impl Head {
    #[inline(never)]
    pub(crate) fn new(attributes: BTreeMap<String, ResourceValue>) -> Self {
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| KeyValue {
                key,
                value: Some(AnyValue {
                    value: Some(match value {
                        ResourceValue::String(text) => Value::String(text),
                        ResourceValue::Bool(truth) => Value::Bool(truth),
                        ResourceValue::Int(number) => Value::Int(number),
                        ResourceValue::Double(number) => Value::Double(number),
                    }),
                }),
            })
            .collect();
        let scope = Scope {
            name: "meshtrace".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self {
            resource: Resource { attributes }.encode_to_vec(),
            scope: scope.encode_to_vec(),
        }
    }
}
