use serde_json::{Value, json};

use super::{merge, percent};

/// The `tracing` block of an HTTP connection manager. Every request is sampled by default.
#[derive(Debug, Clone)]
pub struct Tracing {
    provider_name: String,
    provider: Value,
    custom_tags: Vec<Value>,
    extra: Value,
}

impl Tracing {
    /// The OpenTelemetry tracer, exporting over gRPC to a cluster made by
    /// [`Cluster::http2`](super::Cluster::http2).
    pub fn opentelemetry_grpc(cluster: &str, service: &str) -> Self {
        Self::opentelemetry(
            service,
            json!({"grpc_service": {
                "envoy_grpc": {"cluster_name": cluster},
                "timeout": "5s",
            }}),
        )
    }

    /// The OpenTelemetry tracer, exporting over HTTP to the path `/v1/traces` of a cluster.
    pub fn opentelemetry_http(cluster: &str, service: &str) -> Self {
        Self::opentelemetry(
            service,
            json!({"http_service": {"http_uri": {
                "uri": "http://otlp.test/v1/traces",
                "cluster": cluster,
                "timeout": "5s",
            }}}),
        )
    }

    /// The Zipkin tracer, exporting JSON to the path `/api/v2/spans` of a cluster.
    ///
    /// Its service name is the node's cluster, see [`Bootstrap::node`](super::Bootstrap::node).
    pub fn zipkin(cluster: &str) -> Self {
        Self::raw(
            "envoy.tracers.zipkin",
            json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                "collector_cluster": cluster,
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": true,
            }),
        )
    }

    /// Any tracer; `typed_config` is Envoy's JSON with its `@type`.
    pub fn raw(name: &str, typed_config: Value) -> Self {
        Self {
            provider_name: name.to_owned(),
            provider: typed_config,
            custom_tags: Vec::new(),
            extra: json!({}),
        }
    }

    /// Zipkin: sets whether the span of a server has the id of the caller's span. Envoy's default
    /// is true.
    pub fn shared_span_context(self, shared: bool) -> Self {
        self.provider(json!({ "shared_span_context": shared }))
    }

    /// Zipkin: sets the formats that are read and written.
    pub fn trace_context_option(self, option: TraceContextOption) -> Self {
        let name = match option {
            TraceContextOption::B3 => "USE_B3",
            TraceContextOption::B3WithW3c => "USE_B3_WITH_W3C_PROPAGATION",
        };
        self.provider(json!({ "trace_context_option": name }))
    }

    /// Starts a span of its own for each attempt to the upstream.
    pub fn spawn_upstream_span(self, spawn: bool) -> Self {
        self.merge(json!({ "spawn_upstream_span": spawn }))
    }

    /// Sets the percentage (0 to 100) of requests without a decision that are sampled. The default
    /// is 100.
    pub fn random_sampling(self, percentage: f64) -> Self {
        self.merge(json!({"random_sampling": percent(percentage)}))
    }

    /// Sets the percentage (0 to 100) of requests with `x-client-trace-id` that are sampled. The
    /// default is 100.
    pub fn client_sampling(self, percentage: f64) -> Self {
        self.merge(json!({"client_sampling": percent(percentage)}))
    }

    /// Sets the upper limit over all other decisions as a percentage (0 to 100). The default is
    /// 100.
    pub fn overall_sampling(self, percentage: f64) -> Self {
        self.merge(json!({"overall_sampling": percent(percentage)}))
    }

    /// Tags spans with a request header.
    pub fn request_header_tag(self, tag: &str, header: &str) -> Self {
        self.custom_tag(json!({"tag": tag, "request_header": {"name": header}}))
    }

    /// Tags spans with a substitution format such as `%FILTER_STATE(wasm.user.id:PLAIN)%`; Envoy
    /// 1.37 and later.
    pub fn value_tag(self, tag: &str, format: &str) -> Self {
        self.custom_tag(json!({"tag": tag, "value": format}))
    }

    /// Adds any `CustomTag`.
    pub fn custom_tag(mut self, tag: Value) -> Self {
        self.custom_tags.push(tag);
        self
    }

    /// Merges into the tracer's own configuration.
    pub fn provider(mut self, patch: Value) -> Self {
        merge(&mut self.provider, patch);
        self
    }

    /// Merges into the finished `tracing` block.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    pub(crate) fn render(&self) -> Value {
        let mut tracing = json!({
            "provider": {"name": self.provider_name, "typed_config": self.provider},
            "custom_tags": self.custom_tags,
        });
        merge(&mut tracing, self.extra.clone());
        tracing
    }

    fn opentelemetry(service: &str, exporter: Value) -> Self {
        Self::raw(
            "envoy.tracers.opentelemetry",
            json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": service,
            }),
        )
        .provider(exporter)
    }
}

/// The formats of the Zipkin tracer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceContextOption {
    /// B3 alone.
    B3,
    /// B3, and W3C's `traceparent` where there is no B3. Both are written.
    B3WithW3c,
}
