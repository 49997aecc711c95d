//! The clusters that a set-up calls.

use serde_json::{Value, json};

use super::module::Remote;
use super::plan::Collector;

/// The cluster of a collector, which is without TLS.
pub(super) fn collector(collector: &Collector, address: Option<&(String, u16)>) -> Value {
    let usual = match collector.is_grpc {
        true => 4317,
        false => 4318,
    };
    let (host, port) = match address {
        Some((host, port)) => (host.as_str(), *port),
        None => ("127.0.0.1", usual),
    };
    let mut cluster = cluster(&collector.cluster, host, port);
    if collector.is_grpc
        && let Some(fields) = cluster.as_object_mut()
    {
        fields.insert(
            "typed_extension_protocol_options".to_owned(),
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": concat!(
                    "type.googleapis.com/",
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
                ),
                "explicit_http_config": {"http2_protocol_options": {}},
            }}),
        );
    }
    cluster
}

/// The cluster from which Envoy fetches a module.
pub(super) fn modules(remote: &Remote) -> Value {
    let mut cluster = cluster(&remote.cluster(), &remote.host, remote.port);
    if remote.is_tls
        && let Some(fields) = cluster.as_object_mut()
    {
        fields.insert(
            "transport_socket".to_owned(),
            json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": concat!(
                        "type.googleapis.com/",
                        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
                    ),
                    "sni": remote.host,
                    "common_tls_context": {"validation_context": {
                        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": remote.host}},
                        ],
                    }},
                },
            }),
        );
    }
    cluster
}

fn cluster(name: &str, host: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": host, "port_value": port}},
        }}]}]},
    })
}
