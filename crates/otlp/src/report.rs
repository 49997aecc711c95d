//! A compiled [`ReportConfig`]: where spans are sent, which requests are reported, and as which
//! kinds.

use core::time::Duration;
use std::collections::BTreeMap;

use meshtrace_config::{ConfigError, Mistakes};

use crate::call_headers;
use crate::config::{
    BatchConfig, Compression, Protocol, ReportConfig, ResourceValue, RoleConfig, SpanName,
};
use crate::identity::{self, NodeAttributes, ServiceName};
use crate::resource::{self, Node};

/// The kinds of span that a request is reported as, as far as the node decides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One SERVER span.
    Server,
    /// One CLIENT span.
    Client,
    /// A SERVER span, and one CLIENT span for the upstream as its child.
    Gateway,
    /// One span: CLIENT at an outbound listener, SERVER elsewhere.
    ByDirection,
}

impl RoleConfig {
    /// The role at the node with this id. The ids of Istio's nodes begin with the kind of the
    /// proxy.
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

/// Which requests are reported although the trace is not sampled.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Whether requests are reported that failed on the server's side.
    pub errors: bool,
    /// Requests are reported that took longer than this.
    pub slower_than: Option<Duration>,
    /// The most such requests that are reported in a second.
    pub per_second: u32,
}

impl Keep {
    /// Whether any request is reported although its trace is not sampled.
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
    pub(crate) compression: Option<Compression>,
    pub(crate) service_name: ServiceName,
    pub(crate) batch: BatchConfig,
    pub(crate) resource: BTreeMap<String, ResourceValue>,
    role: RoleConfig,
    span_name: SpanName,
    envoy_attributes: bool,
    keep: Keep,
}

impl Report {
    /// Compiles `config`.
    ///
    /// # Errors
    /// When a key is missing or a value is impossible, with the key's path.
    #[inline(never)]
    pub fn new(config: &ReportConfig) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        mistakes.require(
            !config.cluster.is_empty(),
            "cluster",
            "required: the name of the Envoy cluster of the collector",
        );
        let numbers = [
            ("timeout_ms", config.timeout_ms, 1, 600_000),
            ("batch.max_spans", config.batch.max_spans, 1, 8192),
            ("batch.interval_ms", config.batch.interval_ms, 10, 60_000),
            ("batch.max_queue", config.batch.max_queue, 1, 65_536),
            ("batch.max_in_flight", config.batch.max_in_flight, 1, 4),
        ];
        for (key, number, least, most) in numbers {
            if !(least..=most).contains(&number) {
                mistakes.add(ConfigError::new(
                    key,
                    format!("invalid value: {number}, expected {least} to {most}"),
                ));
            }
        }
        if config.batch.max_queue < config.batch.max_spans {
            let refusal = ConfigError::new(
                "batch.max_queue",
                format!(
                    "invalid value: {}, expected at least `max_spans` ({})",
                    config.batch.max_queue, config.batch.max_spans
                ),
            );
            mistakes.add(refusal.judged_by("batch.max_spans"));
        }
        mistakes.require(
            config.keep.slower_than_ms != Some(0),
            "keep.slower_than_ms",
            "invalid value: 0, expected milliseconds, or null for never",
        );
        mistakes.keep(resource::refuse_too_large(&config.resource));
        let service_name = mistakes.keep(ServiceName::new(config.service_name.as_deref()));
        let headers = mistakes.keep(call_headers::compile(config));
        let (headers, service_name) = mistakes.finish(headers.zip(service_name))?;
        Ok(Self {
            cluster: config.cluster.clone(),
            protocol: config.protocol,
            headers,
            timeout: Duration::from_millis(config.timeout_ms.into()),
            compression: config.compression,
            service_name,
            batch: config.batch.clone(),
            resource: config.resource.clone(),
            role: config.role,
            span_name: config.span_name,
            envoy_attributes: config.envoy_attributes,
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

    /// What is reported and where it goes, in words. They follow "the filter".
    #[must_use]
    #[inline(never)]
    pub fn summary(&self) -> String {
        let protocol = match self.protocol {
            Protocol::HttpProtobuf => "OTLP/HTTP",
            Protocol::Grpc => "OTLP/gRPC",
        };
        let kept = match (self.keep.any(), self.keep.errors, self.keep.slower_than) {
            (false, ..) => String::new(),
            (true, true, None) => " and of requests that fail".to_owned(),
            (true, true, Some(limit)) => format!(
                " and of requests that fail or take more than {} ms",
                limit.as_millis()
            ),
            (true, false, limit) => format!(
                " and of requests that take more than {} ms",
                limit.unwrap_or_default().as_millis()
            ),
        };
        let cluster = &self.cluster;
        format!(
            "exports to the cluster {cluster:?} over {protocol} the spans of sampled requests{kept}"
        )
    }

    /// The requests that are reported although the trace is not sampled.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// The role at this `node`.
    #[must_use]
    pub fn role_at(&self, node: Node<'_>) -> Role {
        self.role.at(&node(&["id"]).unwrap_or_default())
    }

    /// Whether a span without a path template is named by the cluster of its request.
    #[must_use]
    pub fn names_operation(&self) -> bool {
        self.span_name == SpanName::Operation
    }

    /// Whether the spans have the attributes of Envoy's own tracers too.
    #[must_use]
    pub fn has_envoy_attributes(&self) -> bool {
        self.envoy_attributes
    }

    /// The attributes that every span has of this `node`. A key for which `is_taken` holds is left
    /// out: "The keys of attributes … MUST be unique" (OTLP).
    #[must_use]
    pub fn node_attributes(
        &self,
        node: Node<'_>,
        is_taken: &dyn Fn(&str) -> bool,
    ) -> NodeAttributes {
        identity::node_attributes(node, self.envoy_attributes, is_taken)
    }
}
