//! The resource of the spans: the proxy that reports them.

use std::collections::BTreeMap;

use prost::Message;

use meshtrace_config::ConfigError;

use crate::config::ResourceValue;
use crate::identity::{self, ServiceName, UNKNOWN_SERVICE};
use crate::limits::BATCH_BYTES;
use crate::span::MAX_SPAN_BYTES;

/// The most that the attributes of `report.resource` take, in bytes of their encoding. They are
/// sent with every batch, and must leave room for the largest span.
pub const MAX_RESOURCE_BYTES: usize = 160 * 1024;
/// The longest value from the node, in bytes. A longer value is cut.
pub(crate) const MAX_NODE_VALUE: usize = 512;
/// The most bytes of the values from the node ([`resource`]), of the scope, and of the bytes around
/// them: twenty attributes with their keys.
const MAX_OTHER_BYTES: usize = 20 * (MAX_NODE_VALUE + 64);

const _: () = assert!(MAX_RESOURCE_BYTES + MAX_OTHER_BYTES + MAX_SPAN_BYTES <= BATCH_BYTES);

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

/// Reads a value of the proxy's own node: a path below `xds.node`, such as `["metadata", "NAME"]`.
pub type Node<'n> = &'n dyn Fn(&[&str]) -> Option<String>;

/// The attributes of the resource: those of the configuration, and those from the node that the
/// configuration does not set.
#[must_use]
pub fn resource(
    name: &ServiceName,
    configured: &BTreeMap<String, ResourceValue>,
    node: Node<'_>,
) -> BTreeMap<String, ResourceValue> {
    let node = |path: &[&str]| identity::text_of(node, path, MAX_NODE_VALUE);
    let label = |name| node(&["metadata", "LABELS", name]);
    let metadata = |name| node(&["metadata", name]);
    let canonical = label("service.istio.io/canonical-name");
    let revision = label("service.istio.io/canonical-revision");
    let namespace = metadata("NAMESPACE");
    let service = name.at(&node);
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
    // Not collected: to build a map at once takes a sort, which is code for nothing else.
    let mut attributes = BTreeMap::new();
    for (key, value) in known {
        if let Some(value) = value {
            attributes.insert(key.to_owned(), ResourceValue::String(value));
        }
    }
    // A service must have a name, also where the configuration removes the name from the node.
    let is_empty = |(key, value): &(&String, &ResourceValue)| {
        key.as_str() == "service.name" && **value == ResourceValue::String(String::new())
    };
    for (key, value) in configured {
        let value = match is_empty(&(key, value)) {
            true => ResourceValue::String(UNKNOWN_SERVICE.to_owned()),
            false => value.clone(),
        };
        attributes.insert(key.clone(), value);
    }
    attributes
}

fn encode(attributes: &BTreeMap<String, ResourceValue>) -> Vec<u8> {
    let attributes = attributes
        .iter()
        .map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue {
                value: Some(match value {
                    ResourceValue::String(text) => Value::String(text.clone()),
                    ResourceValue::Bool(truth) => Value::Bool(*truth),
                    ResourceValue::Int(number) => Value::Int(*number),
                    ResourceValue::Double(number) => Value::Double(*number),
                }),
            }),
        })
        .collect();
    Resource { attributes }.encode_to_vec()
}

/// Refuses a resource that leaves no room for spans in a batch.
pub(crate) fn refuse_too_large(
    configured: &BTreeMap<String, ResourceValue>,
) -> Result<(), ConfigError> {
    let size = encode(configured).len();
    if size <= MAX_RESOURCE_BYTES {
        return Ok(());
    }
    Err(ConfigError::new(
        "resource",
        format!(
            "too large: {size} bytes, expected at most {MAX_RESOURCE_BYTES}, for it goes with every \
             batch"
        ),
    ))
}

/// `ResourceSpans.resource` and `ScopeSpans.scope`, encoded: the same before every batch.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) resource: Vec<u8>,
    pub(crate) scope: Vec<u8>,
}

impl Head {
    #[inline(never)]
    pub(crate) fn new(attributes: &BTreeMap<String, ResourceValue>) -> Self {
        let scope = Scope {
            name: "meshtrace".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self {
            resource: encode(attributes),
            scope: scope.encode_to_vec(),
        }
    }
}
