use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{HttpFilter, Layout, merge};

/// A static cluster with one endpoint, no TLS and no health checks.
#[derive(Debug, Clone)]
pub struct Cluster {
    name: String,
    address: SocketAddr,
    http2: bool,
    connect_timeout: Duration,
    filters: Vec<HttpFilter>,
    extra: Value,
}

impl Cluster {
    /// A cluster with HTTP/1.1 to the address.
    pub fn http1(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            http2: false,
            connect_timeout: Duration::from_secs(5),
            filters: Vec::new(),
            extra: json!({}),
        }
    }

    /// A cluster with HTTP/2 with prior knowledge to the address, as gRPC needs it.
    pub fn http2(name: &str, address: SocketAddr) -> Self {
        Self {
            http2: true,
            ..Self::http1(name, address)
        }
    }

    /// Sets how long a connection attempt may take. The default is 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Adds an upstream HTTP filter for requests to this cluster; the codec filter follows the last
    /// one.
    ///
    /// A cluster with filters of its own leaves out those of the router.
    pub fn filter(mut self, filter: impl Into<HttpFilter>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Merges into the finished cluster.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &HttpFilter> {
        self.filters.iter()
    }

    pub(crate) fn render(&self, layout: &Layout) -> Value {
        let address = json!({
            "socket_address": {"address": self.address.ip(), "port_value": self.address.port()}
        });
        let protocol = match self.http2 {
            true => "http2_protocol_options",
            false => "http_protocol_options",
        };
        let mut options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        });
        if !self.filters.is_empty() {
            options["http_filters"] = HttpFilter::render_upstream(&self.filters, layout);
        }
        let mut cluster = json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": super::duration(self.connect_timeout),
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
            },
        });
        merge(&mut cluster, self.extra.clone());
        cluster
    }
}
