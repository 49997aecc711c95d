use serde_json::{Value, json};

use super::{HttpFilter, Layout, Route, Tracing, loopback, merge};

/// A listener on a free port of 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Listener {
    name: String,
    manager: HttpConnectionManager,
    direction: TrafficDirection,
    extra: Value,
}

impl Listener {
    /// A listener for HTTP/1.1 and HTTP/2. [`Envoy::address`](crate::Envoy::address) finds its port
    /// by the name.
    pub fn http(name: &str, manager: HttpConnectionManager) -> Self {
        Self {
            name: name.to_owned(),
            manager,
            direction: TrafficDirection::Unspecified,
            extra: json!({}),
        }
    }

    /// Sets the side of the service on which the listener is. The default is unspecified.
    pub fn direction(mut self, direction: TrafficDirection) -> Self {
        self.direction = direction;
        self
    }

    /// Merges into the finished listener.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &HttpFilter> {
        self.manager
            .filters
            .iter()
            .chain(&self.manager.upstream_filters)
    }

    pub(crate) fn render(&self, layout: &Layout) -> Value {
        let mut listener = json!({
            "name": self.name,
            "address": loopback(0),
            "traffic_direction": self.direction.as_str(),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": self.manager.render(&self.name, layout),
            }]}],
        });
        merge(&mut listener, self.extra.clone());
        listener
    }

    pub(crate) fn render_resource(&self, layout: &Layout) -> Value {
        let mut resource = self.render(layout);
        resource["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        resource
    }
}

/// The side of a service that a listener is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficDirection {
    /// Unspecified, as for a standalone proxy.
    Unspecified,
    /// Requests to the service.
    Inbound,
    /// Requests from the service; also Istio's gateways.
    Outbound,
}

impl TrafficDirection {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Inbound => "INBOUND",
            Self::Outbound => "OUTBOUND",
        }
    }
}

/// What a listener does with HTTP: the filters run in order, then the router with the routes.
#[derive(Debug, Clone)]
pub struct HttpConnectionManager {
    filters: Vec<HttpFilter>,
    upstream_filters: Vec<HttpFilter>,
    routes: Vec<Route>,
    tracing: Option<Tracing>,
    early_header_mutations: Vec<Value>,
    access_log: Option<Value>,
    virtual_host: Value,
    router: Value,
    extra: Value,
}

impl HttpConnectionManager {
    /// A connection manager with the router filter and without routes.
    pub fn new() -> Self {
        Self {
            filters: Vec::new(),
            upstream_filters: Vec::new(),
            routes: Vec::new(),
            tracing: None,
            early_header_mutations: Vec::new(),
            access_log: None,
            virtual_host: json!({"name": "all", "domains": ["*"]}),
            router: json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}),
            extra: json!({}),
        }
    }

    /// Adds a route to the only virtual host, which has every domain. The first route that matches
    /// is used.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds a filter after the filters that are present. The router is added as the last one.
    pub fn filter(mut self, filter: impl Into<HttpFilter>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Adds an upstream filter of the router. It runs after the tracer's injection. The codec is
    /// added as the last one.
    pub fn upstream_filter(mut self, filter: impl Into<HttpFilter>) -> Self {
        self.upstream_filters.push(filter.into());
        self
    }

    /// Turns tracing on.
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = Some(tracing);
        self
    }

    /// Adds an early header mutation extension (`{"name": …, "typed_config": …}`), which runs
    /// before tracing.
    pub fn early_header_mutation(mut self, extension: Value) -> Self {
        self.early_header_mutations.push(extension);
        self
    }

    /// Writes an access log of JSON lines with these fields.
    /// [`Envoy::access_log`](crate::Envoy::access_log) reads it.
    pub fn access_log(mut self, json_format: Value) -> Self {
        self.access_log = Some(json_format);
        self
    }

    /// Sets whether the peer's address counts as the client's. Envoy's default is false.
    pub fn use_remote_address(self, on: bool) -> Self {
        self.merge(json!({ "use_remote_address": on }))
    }

    /// Sets whether `x-request-id` is made. Envoy's default is true.
    pub fn generate_request_id(self, on: bool) -> Self {
        self.merge(json!({ "generate_request_id": on }))
    }

    /// Merges into the virtual host; the routes follow.
    pub fn virtual_host(mut self, patch: Value) -> Self {
        merge(&mut self.virtual_host, patch);
        self
    }

    /// Merges into the router's configuration.
    pub fn router(mut self, patch: Value) -> Self {
        merge(&mut self.router, patch);
        self
    }

    /// Merges into the finished connection manager.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    fn render(&self, listener: &str, layout: &Layout) -> Value {
        let mut router = self.router.clone();
        if !self.upstream_filters.is_empty() {
            router["upstream_http_filters"] =
                HttpFilter::render_upstream(&self.upstream_filters, layout);
        }
        let router = HttpFilter::raw("envoy.filters.http.router", router);
        let filters: Vec<_> = self
            .filters
            .iter()
            .chain([&router])
            .map(|filter| filter.render(layout))
            .collect();

        let mut virtual_host = self.virtual_host.clone();
        virtual_host["routes"] = self.routes.iter().map(Route::render).collect();
        let mut manager = json!({
            "@type": concat!(
                "type.googleapis.com/envoy.extensions.filters.network.",
                "http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": listener,
            "codec_type": "AUTO",
            "http_filters": filters,
            "route_config": {
                "name": listener,
                "virtual_hosts": [virtual_host],
            },
        });
        if let Some(tracing) = &self.tracing {
            manager["tracing"] = tracing.render();
        }
        if !self.early_header_mutations.is_empty() {
            manager["early_header_mutation_extensions"] = json!(self.early_header_mutations);
        }
        if let Some(format) = &self.access_log {
            manager["access_log"] = json!([{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": layout.access_log(listener),
                    "log_format": {"json_format": format},
                },
            }]);
        }
        merge(&mut manager, self.extra.clone());
        manager
    }
}

impl Default for HttpConnectionManager {
    fn default() -> Self {
        Self::new()
    }
}
