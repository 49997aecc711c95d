//! The configuration of `report` as it is written.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// `report` of `mesh_tracing.wasm`; every key but `cluster` is optional.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["cluster"])))]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Required: the Envoy cluster of the collector.
    pub cluster: String,
    /// Default `http/protobuf`.
    pub protocol: Protocol,
    /// `http/protobuf` only: the path of the request. Default `/v1/traces`.
    pub path: Option<String>,
    /// The request's host. Default: the host in an Istio cluster's name, else the cluster's name.
    pub authority: Option<String>,
    /// Further headers of the request: at most 16, and 60 KiB with those of the protocol.
    pub headers: BTreeMap<String, String>,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u32,
    /// Which spans a request is reported as.
    pub role: RoleConfig,
    /// How spans are gathered before they are sent.
    pub batch: BatchConfig,
    /// Attributes of the resource; they win over what the node tells. At most 160 KiB, for they go
    /// with every batch.
    pub resource: BTreeMap<String, ResourceValue>,
    /// What is reported although the head decision was "no".
    pub keep: KeepConfig,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            protocol: Protocol::default(),
            path: None,
            authority: None,
            headers: BTreeMap::new(),
            timeout_ms: 5000,
            role: RoleConfig::default(),
            batch: BatchConfig::default(),
            resource: BTreeMap::new(),
            keep: KeepConfig::default(),
        }
    }
}

/// The protocol of the export (OTLP, "Protocol Details").
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// OTLP/HTTP with binary protobuf.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// OTLP/gRPC; the cluster must speak HTTP/2.
    #[serde(rename = "grpc")]
    Grpc,
}

/// Which spans a request is reported as.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RoleConfig {
    /// As the node's id and the listener's direction say.
    #[default]
    Auto,
    /// One SERVER span.
    Server,
    /// One CLIENT span.
    Client,
    /// A SERVER span, and one CLIENT span below it for the upstream.
    Gateway,
}

/// How spans are gathered before they are sent.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// The most spans of one call.
    pub max_spans: u32,
    /// The longest that a span waits for others, in milliseconds.
    pub interval_ms: u32,
    /// The most spans that wait or are in flight, on each worker.
    pub max_queue: u32,
    /// The most calls at a time, on each worker.
    pub max_in_flight: u32,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_spans: 512,
            interval_ms: 100,
            max_queue: 8192,
            max_in_flight: 2,
        }
    }
}

/// What is reported although the head decision was "no".
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// Requests that failed for a reason on the server's side.
    pub errors: bool,
    /// Requests that took longer, in milliseconds.
    pub slower_than_ms: Option<u32>,
    /// The most of both in a second, on each worker.
    pub per_second: u32,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            errors: true,
            slower_than_ms: None,
            per_second: 50,
        }
    }
}

/// The value of a resource attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum ResourceValue {
    /// Text.
    String(String),
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
}

impl<'de> Deserialize<'de> for ResourceValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl Visitor<'_> for ValueVisitor {
            type Value = ResourceValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ResourceValue, E> {
                Ok(ResourceValue::String(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<ResourceValue, E> {
                Ok(ResourceValue::Bool(value))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ResourceValue, E> {
                Ok(ResourceValue::Int(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ResourceValue, E> {
                i64::try_from(number)
                    .map(ResourceValue::Int)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<ResourceValue, E> {
                Ok(ResourceValue::Double(number))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}
