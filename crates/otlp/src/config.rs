//! The configuration of `report` as it is written.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The key `report` of `mesh_tracing.wasm`. Every key except `cluster` is optional.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["cluster"])))]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Required: the name of the Envoy cluster of the collector.
    pub cluster: String,
    /// The protocol of the export. Default `http/protobuf`.
    pub protocol: Protocol,
    /// `http/protobuf` only: the path of the request. Default `/v1/traces`.
    pub path: Option<String>,
    /// The host of the request. Default: the host in the name of an Istio cluster; of any other
    /// cluster, its name.
    pub authority: Option<String>,
    /// Additional headers of the request: at most 16, and 60 KiB with the headers of the protocol.
    pub headers: BTreeMap<String, String>,
    /// The timeout of a call, in milliseconds.
    pub timeout_ms: u32,
    /// The kinds of span that a request is reported as.
    pub role: RoleConfig,
    /// How spans are batched.
    pub batch: BatchConfig,
    /// Attributes of the resource, which override those from the node. At most 160 KiB: they are
    /// sent with every batch.
    pub resource: BTreeMap<String, ResourceValue>,
    /// Which requests are reported although the trace is not sampled.
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

/// The kinds of span that a request is reported as.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RoleConfig {
    /// By the id of the node and the direction of the listener.
    #[default]
    Auto,
    /// One SERVER span.
    Server,
    /// One CLIENT span.
    Client,
    /// A SERVER span, and one CLIENT span for the upstream as its child.
    Gateway,
}

/// How spans are batched.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// The most spans in one call.
    pub max_spans: u32,
    /// The longest time that a span waits for a full batch, in milliseconds.
    pub interval_ms: u32,
    /// The most spans that wait or are in flight, for each worker.
    pub max_queue: u32,
    /// The most calls in flight, for each worker.
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

/// Which requests are reported although the trace is not sampled.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// Whether requests are reported that failed on the server's side.
    pub errors: bool,
    /// Requests are reported that took longer than this, in milliseconds.
    pub slower_than_ms: Option<u32>,
    /// The most such requests that are reported in a second, for each worker.
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
