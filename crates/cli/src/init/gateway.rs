//! The resources of Envoy Gateway.

use meshtrace_render::Filter;
use serde_json::{Value, json};

use super::answers::{Answers, TracerName};
use super::files::{File, Options, merge, url_of};
use super::plan;
use crate::output::yaml;

const CLUSTER: &str = "meshtrace-collector";
const PLACEHOLDER: &str = "registry.example.com/meshtrace/{filter}:0.1.0";

/// The filter, and the collector's cluster.
pub(super) fn files(answers: &Answers, options: &Options) -> Result<Vec<File>, String> {
    if answers.tracer != TracerName::None {
        return Err(
            "Envoy Gateway gives a filter no place behind its own tracer, and takes no tracer from a dynamic module: \
             take --tracer none, and leave `telemetry.tracing` out of its EnvoyProxy"
                .to_owned(),
        );
    }
    let (host, port) = options.collector(answers);
    let filters = plan::filters(answers, CLUSTER)?;
    let config = filters.into_iter().map(|(_, config)| config).next();
    let mut config = config.unwrap_or_default();
    let authority = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    let own = json!({"report": {
        "authority": authority,
        // Its proxies' names do not say that they are gateways.
        "role": "gateway",
        "resource": {"service.name": "envoy-gateway"},
    }});
    merge(&mut config, own);
    let url = options.url.as_deref().unwrap_or(PLACEHOLDER);
    let url = url_of(url, Filter::MeshTracing);
    // Envoy Gateway takes names of images without a scheme.
    let url = url.strip_prefix("oci://").unwrap_or(&url);
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyExtensionPolicy",
        "metadata": metadata(options),
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg"}],
            "wasm": [{
                "name": "mesh_tracing",
                "rootID": "mesh_tracing",
                "failOpen": true,
                "code": {"type": "Image", "pullPolicy": "IfNotPresent", "image": {"url": url}},
                "config": config,
            }],
        },
    });
    let cluster = json!({"static_resources": {"clusters": [{
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": host, "port_value": port},
            }}}]}],
        },
    }]}});
    let mut proxy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": metadata(options),
        "spec": {"bootstrap": {"type": "Merge", "value": yaml(&cluster, &[])?}},
    });
    if answers.logs {
        merge(
            &mut proxy,
            json!({"spec": {"telemetry": {"accessLog": access_log()}}}),
        );
    }
    let policy_comment =
        "mesh_tracing as the tracer of the Gateway eg: put your Gateway's name there.";
    let proxy_comment = match answers.logs {
        true => {
            "The collector's cluster, and the access log: Envoy Gateway's own fields, and the ids of the trace. Name this resource in infrastructure.parametersRef of the Gateway, or in parametersRef of \
             the GatewayClass."
        }
        false => {
            "The collector's cluster. Name this resource in infrastructure.parametersRef of the Gateway, or in \
             parametersRef of the GatewayClass."
        }
    };
    let head = |comment: &str| {
        vec![
            "Envoy Gateway: 1.9".to_owned(),
            "Tracer: none".to_owned(),
            comment.to_owned(),
        ]
    };
    Ok(vec![
        File::new(
            "apply/mesh-tracing.yaml",
            yaml(&policy, &head(policy_comment))?,
        ),
        File::new(
            "apply/envoy-proxy.yaml",
            yaml(&proxy, &head(proxy_comment))?,
        ),
    ])
}

/// The fields of Envoy Gateway's own access log, which this one replaces, and the ids of the trace.
fn access_log() -> Value {
    json!({"settings": [{
        "format": {"type": "JSON", "json": {
            "start_time": "%START_TIME%",
            "method": "%REQ(:METHOD)%",
            "x-envoy-origin-path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
            "protocol": "%PROTOCOL%",
            "response_code": "%RESPONSE_CODE%",
            "response_flags": "%RESPONSE_FLAGS%",
            "response_code_details": "%RESPONSE_CODE_DETAILS%",
            "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
            "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
            "bytes_received": "%BYTES_RECEIVED%",
            "bytes_sent": "%BYTES_SENT%",
            "duration": "%DURATION%",
            "x-envoy-upstream-service-time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
            "x-forwarded-for": "%REQ(X-FORWARDED-FOR)%",
            "user-agent": "%REQ(USER-AGENT)%",
            "x-request-id": "%REQ(X-REQUEST-ID)%",
            ":authority": "%REQ(:AUTHORITY)%",
            "upstream_host": "%UPSTREAM_HOST%",
            "upstream_cluster": "%UPSTREAM_CLUSTER%",
            "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
            "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
            "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
            "requested_server_name": "%REQUESTED_SERVER_NAME%",
            "route_name": "%ROUTE_NAME%",
            "trace_id": "%FILTER_STATE(wasm.trace_id:PLAIN)%",
            "span_id": "%FILTER_STATE(wasm.span_id:PLAIN)%",
        }},
        "sinks": [{"type": "File", "file": {"path": "/dev/stdout"}}],
    }]})
}

fn metadata(options: &Options) -> Value {
    match &options.namespace {
        Some(namespace) => json!({"name": "mesh-tracing", "namespace": namespace}),
        None => json!({"name": "mesh-tracing"}),
    }
}
