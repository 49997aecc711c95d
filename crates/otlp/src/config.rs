//! The configuration of `report` as it is written.

use std::collections::BTreeMap;

use meshtrace_config::{Kind, Read, Value, object, words};

/// The key `report` of `mesh_tracing.wasm`. Every key except `cluster` is optional.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("required" = ["cluster"])))]
#[cfg_attr(feature = "schema", schemars(default, deny_unknown_fields))]
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
    /// Additional headers of the request: at most 16, and 59 KiB with the headers of the protocol.
    pub headers: BTreeMap<String, String>,
    /// The timeout of a call, in milliseconds.
    pub timeout_ms: u32,
    /// How the body of a call is compressed. Default null: not at all.
    pub compression: Option<Compression>,
    /// The kinds of span that a request is reported as.
    pub role: RoleConfig,
    /// The name of the service: `istio` for `APP.NAMESPACE`, which is the name that Istio's own
    /// tracers use; `canonical` for Istio's canonical service; any other text is the name itself.
    /// Default: `istio` at a node of Istio, and `canonical` elsewhere. `resource` wins with its key
    /// `service.name`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 512)))]
    pub service_name: Option<String>,
    /// The name of a span that has no path template. Default `method`.
    pub span_name: SpanName,
    /// Whether the spans also have the attributes of Envoy's own tracers, by their names there,
    /// such as `http.status_code` and `upstream_cluster`. Default false.
    pub envoy_attributes: bool,
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
            compression: None,
            role: RoleConfig::default(),
            service_name: None,
            span_name: SpanName::default(),
            envoy_attributes: false,
            batch: BatchConfig::default(),
            resource: BTreeMap::new(),
            keep: KeepConfig::default(),
        }
    }
}

/// The protocol of the export (OTLP, "Protocol Details").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// OTLP/HTTP with binary protobuf.
    #[default]
    #[cfg_attr(feature = "schema", schemars(rename = "http/protobuf"))]
    HttpProtobuf,
    /// OTLP/gRPC; the cluster must speak HTTP/2.
    #[cfg_attr(feature = "schema", schemars(rename = "grpc"))]
    Grpc,
}

/// The kinds of span that a request is reported as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
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

/// How the body of a call is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum Compression {
    /// By gzip (RFC 1952).
    Gzip,
}

/// The name of a span that has no path template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum SpanName {
    /// The method of the request, as OpenTelemetry defines it.
    #[default]
    Method,
    /// The name that Istio gives to the spans of Envoy's own tracers, `HOST:PORT/*`, where the
    /// cluster of the request is one of Istio and names a host.
    Operation,
}

/// How spans are batched.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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

object!(ReportConfig {
    cluster,
    protocol,
    path,
    authority,
    headers,
    timeout_ms,
    compression,
    role,
    service_name,
    span_name,
    envoy_attributes,
    batch,
    resource,
    keep,
});

words!(Protocol {
    HttpProtobuf = "http/protobuf",
    Grpc = "grpc",
});

words!(RoleConfig {
    Auto = "auto",
    Server = "server",
    Client = "client",
    Gateway = "gateway",
});

words!(Compression { Gzip = "gzip" });

words!(SpanName {
    Method = "method",
    Operation = "operation",
});

object!(BatchConfig {
    max_spans,
    interval_ms,
    max_queue,
    max_in_flight,
});

object!(KeepConfig {
    errors,
    slower_than_ms,
    per_second,
});

impl Read for ResourceValue {
    fn read(value: Value<'_>) -> Self {
        const EXPECTED: &str = "a string, a number or a boolean";
        match value.kind() {
            Kind::String => Self::String(Read::read(value)),
            Kind::Bool => Self::Bool(Read::read(value)),
            Kind::Number => {
                let text = value.as_written();
                if let Ok(number) = text.parse() {
                    return Self::Int(number);
                }
                if text.parse::<u64>().is_ok() {
                    value.refuse_value(EXPECTED);
                }
                Self::Double(Read::read(value))
            }
            Kind::Null | Kind::List | Kind::Object => {
                value.refuse_kind(EXPECTED);
                Self::Bool(false)
            }
        }
    }
}
