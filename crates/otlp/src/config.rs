//! The configuration of reporting: the JSON text, and what it compiles to.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use meshtrace_config::ConfigError;
use meshtrace_headers::{NameRefusal, field_value, is_token, written_name};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::resource::{self, Node};

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
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ResourceValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ResourceValue".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The value of a resource attribute.",
            "type": ["string", "number", "boolean"],
        })
    }
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

            fn visit_bool<E: Error>(self, truth: bool) -> Result<ResourceValue, E> {
                Ok(ResourceValue::Bool(truth))
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

/// Which spans a request is reported as, as far as the node decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One SERVER span.
    Server,
    /// One CLIENT span.
    Client,
    /// A SERVER span, and one CLIENT span below it for the upstream.
    Gateway,
    /// One span: CLIENT at an outbound listener, SERVER elsewhere.
    ByDirection,
}

impl RoleConfig {
    /// What it means at the node with this id: Istio's begin with the proxy's kind.
    #[must_use]
    pub fn at(self, node_id: &str) -> Role {
        match self {
            Self::Server => Role::Server,
            Self::Client => Role::Client,
            Self::Gateway => Role::Gateway,
            Self::Auto if node_id.starts_with("router~") => Role::Gateway,
            Self::Auto if node_id.starts_with("sidecar~") => Role::ByDirection,
            Self::Auto => Role::Server,
        }
    }
}

/// What is reported although the head decision was "no".
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Requests that failed for a reason on the server's side.
    pub errors: bool,
    /// Requests that took longer.
    pub slower_than: Option<Duration>,
    /// The most of both in a second.
    pub per_second: u32,
}

impl Keep {
    /// Whether anything is.
    #[must_use]
    pub fn any(&self) -> bool {
        (self.errors || self.slower_than.is_some()) && self.per_second > 0
    }
}

/// A compiled [`ReportConfig`].
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) cluster: String,
    pub(crate) protocol: Protocol,
    /// The request's headers, serialised as the host takes them.
    pub(crate) headers: Box<[u8]>,
    pub(crate) timeout: Duration,
    pub(crate) batch: BatchConfig,
    pub(crate) resource: BTreeMap<String, ResourceValue>,
    role: RoleConfig,
    keep: Keep,
}

/// gRPC's path of the one method (`opentelemetry.proto.collector.trace.v1.TraceService`).
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Most headers besides those of the protocol.
const MAX_HEADERS: usize = 16;
/// The most that the headers of an export call take together, names and values, in bytes: what Envoy
/// takes of a request by default (`max_request_headers_kb`). A collector that refuses the headers of
/// one call refuses those of all.
pub const MAX_HEADER_BYTES: usize = 60 * 1024;

impl Report {
    /// Compiles `config`.
    ///
    /// # Errors
    /// When a key is missing or a value is impossible, with the key's path.
    #[inline(never)]
    pub fn new(config: &ReportConfig) -> Result<Self, ConfigError> {
        if config.cluster.is_empty() {
            return Err(ConfigError::new(
                "cluster",
                "required: the name of the Envoy cluster of the collector",
            ));
        }
        let numbers = [
            ("timeout_ms", config.timeout_ms, 1, 600_000),
            ("batch.max_spans", config.batch.max_spans, 1, 8192),
            ("batch.interval_ms", config.batch.interval_ms, 10, 60_000),
            ("batch.max_queue", config.batch.max_queue, 1, 65_536),
            ("batch.max_in_flight", config.batch.max_in_flight, 1, 4),
        ];
        for (key, number, least, most) in numbers {
            if !(least..=most).contains(&number) {
                return Err(ConfigError::new(
                    key,
                    format!("invalid value: {number}, expected {least} to {most}"),
                ));
            }
        }
        if config.batch.max_queue < config.batch.max_spans {
            return Err(ConfigError::new(
                "batch.max_queue",
                format!(
                    "invalid value: {}, expected at least `max_spans` ({})",
                    config.batch.max_queue, config.batch.max_spans
                ),
            ));
        }
        if config.keep.slower_than_ms == Some(0) {
            return Err(ConfigError::new(
                "keep.slower_than_ms",
                "invalid value: 0, expected milliseconds, or null for never",
            ));
        }
        resource::refuse_too_large(&config.resource)?;
        Ok(Self {
            cluster: config.cluster.clone(),
            protocol: config.protocol,
            headers: headers(config)?,
            timeout: Duration::from_millis(config.timeout_ms.into()),
            batch: config.batch.clone(),
            resource: config.resource.clone(),
            role: config.role,
            keep: Keep {
                errors: config.keep.errors,
                slower_than: config
                    .keep
                    .slower_than_ms
                    .map(|limit| Duration::from_millis(limit.into())),
                per_second: config.keep.per_second,
            },
        })
    }

    /// What `keep` says.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// The role at this `node`.
    #[must_use]
    pub fn role_at(&self, node: Node<'_>) -> Role {
        self.role.at(&node(&["id"]).unwrap_or_default())
    }
}

fn headers(config: &ReportConfig) -> Result<Box<[u8]>, ConfigError> {
    let path = match (config.protocol, config.path.as_deref()) {
        (Protocol::Grpc, None) => GRPC_PATH,
        (Protocol::Grpc, Some(_)) => {
            return Err(ConfigError::new(
                "path",
                "not with protocol \"grpc\", whose path is fixed",
            ));
        }
        (Protocol::HttpProtobuf, None) => "/v1/traces",
        (Protocol::HttpProtobuf, Some(path)) if path.starts_with('/') && is_visible(path) => path,
        (Protocol::HttpProtobuf, Some(_)) => {
            return Err(ConfigError::new(
                "path",
                "invalid value (not repeated, it may be confidential), expected a path such as \"/v1/traces\"",
            ));
        }
    };
    let is_host = |text: &str| !text.is_empty() && is_visible(text);
    let authority = match config.authority.as_deref() {
        Some(authority) if is_host(authority) => authority,
        Some(_) => {
            return Err(ConfigError::new(
                "authority",
                "invalid value (not repeated, it may be confidential), expected a host",
            ));
        }
        // Istio: outbound|4318||otel-collector.observability.svc.cluster.local
        None => match config.cluster.rsplit('|').next() {
            Some(host) if is_host(host) => host,
            _ => {
                return Err(ConfigError::new(
                    "authority",
                    format!(
                        "missing, and the cluster's name, {:?}, has no host in it; expected a host",
                        config.cluster
                    ),
                ));
            }
        },
    };
    let mut lines = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", authority),
    ];
    match config.protocol {
        Protocol::HttpProtobuf => lines.push(("content-type", "application/x-protobuf")),
        Protocol::Grpc => lines.extend([("content-type", "application/grpc"), ("te", "trailers")]),
    }
    lines.push(("user-agent", USER_AGENT));
    let fixed: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    if config.headers.len() > MAX_HEADERS {
        return Err(ConfigError::new(
            "headers",
            format!("too many headers; expected at most {MAX_HEADERS}"),
        ));
    }
    let further: Vec<_> = config
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut values = Vec::new();
    for (i, (name, value)) in further.iter().enumerate() {
        let mut earlier = further.iter().take(i);
        if is_token(name.as_bytes()) && earlier.any(|(other, _)| other == name) {
            return Err(ConfigError::new(
                format!("headers.{name}"),
                "there twice, in another case; expected each header once",
            ));
        }
        // The exporter compresses nothing, and gRPC's headers are the protocol's.
        let is_encoding = name == "content-encoding" || name.starts_with("grpc-");
        if is_encoding || fixed.contains(&name.as_str()) && name != "user-agent" {
            return Err(ConfigError::new(
                format!("headers.{name}"),
                "the protocol decides it",
            ));
        }
        match written_name(name) {
            Ok(_) => {}
            // A whole line, with a secret in it, may have been written in the place of a name.
            Err(refusal @ NameRefusal::NotAToken) => {
                let message =
                    format!("invalid name (not repeated, it may be confidential), {refusal}");
                return Err(ConfigError::new("headers", message));
            }
            Err(refusal) => {
                let message = format!("invalid name: string {name:?}, {refusal}");
                return Err(ConfigError::new("headers", message));
            }
        }
        let text = field_value(value.as_bytes()).filter(|text| text.is_ascii());
        let text = text.and_then(|text| str::from_utf8(text).ok());
        let text = text.ok_or_else(|| {
            // The value may be a secret.
            ConfigError::new(
                format!("headers.{name}"),
                "invalid value, expected printable ASCII",
            )
        })?;
        values.push((name.as_str(), text));
    }
    lines.retain(|(name, _)| further.iter().all(|(other, _)| other != name));
    lines.extend(values);
    refuse_too_large(&lines)?;
    Ok(meshtrace_headers::encode(&lines).into_boxed_slice())
}

/// The values may be secrets: only the key and sizes are said.
fn refuse_too_large(lines: &[(&str, &str)]) -> Result<(), ConfigError> {
    let length = |(name, value): &(&str, &str)| name.len() + value.len();
    let size: usize = lines.iter().map(length).sum();
    if size <= MAX_HEADER_BYTES {
        return Ok(());
    }
    let largest = lines.iter().max_by_key(|line| length(line));
    let key = match largest.map(|(name, _)| *name) {
        Some(":path") => "path",
        Some(":authority") => "authority",
        _ => "headers",
    };
    Err(ConfigError::new(
        key,
        format!(
            "too large: the headers of an export call would take {size} bytes, expected at most \
             {MAX_HEADER_BYTES}"
        ),
    ))
}

const USER_AGENT: &str = concat!("meshtrace/", env!("CARGO_PKG_VERSION"));

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
