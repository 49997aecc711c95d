//! The access log: its fields, where they are configured, and the step that tells the filter the
//! proxy's own ids.

use meshtrace_access_log::{AccessLogIds, IdsConfig};
use meshtrace_envoy::filter_state;
use serde_json::{Map, Value, json};

use crate::version::EnvoyVersion;
use crate::{cel, priority};

/// Who tells the access log the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdsFrom {
    /// `access_log_trace.wasm`, through filter state.
    Filter,
    /// Envoy, by `%TRACE_ID%` and `%SPAN_ID%`: with the OpenTelemetry tracer from Envoy 1.38 on.
    /// Right also where an answer was made before the filter; without a span there is no id.
    Envoy,
}

/// The fields of a log line and their formats, in their order.
const FIELDS: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("grpc_status", "%GRPC_STATUS%"),
    ("duration", "%DURATION%"),
    ("request_duration", "%REQUEST_DURATION%"),
    ("response_duration", "%RESPONSE_DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    (
        "upstream_request_attempt_count",
        "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    ),
    ("route_name", "%ROUTE_NAME%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
];

/// The fields of a log line: `json_format` of Envoy, `labels` of Istio.
///
/// `ids` adds a field for each filter state key that its configuration sets.
#[must_use]
pub fn access_log_fields(ids: &AccessLogIds, from: IdsFrom) -> Map<String, Value> {
    let of_the_filter = ids.keys().map(|key| {
        let format = match (key, from) {
            (filter_state::TRACE_ID, IdsFrom::Envoy) => "%TRACE_ID%".to_owned(),
            (filter_state::SPAN_ID, IdsFrom::Envoy) => "%SPAN_ID%".to_owned(),
            // Without PLAIN it is an object with the value in Base64.
            _ => cel::filter_state(key),
        };
        (key.to_owned(), Value::String(format))
    });
    FIELDS
        .iter()
        .map(|(name, format)| ((*name).to_owned(), json!(format)))
        .chain(of_the_filter)
        .collect()
}

/// One entry of the connection manager's `access_log`: a line of JSON each, to the file at `path`.
#[must_use]
pub fn access_log(path: &str, fields: &Map<String, Value>) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            // Heard from Envoy 1.40 on; before, an id that is not known is null.
            "log_format": {"omit_empty_values": true, "json_format": fields},
        },
    })
}

/// The HTTP filter that copies the proxy's own ids into the headers of `ids`; it belongs directly
/// before `access_log_trace`. `None` where `ids` names no header that this Envoy can write.
///
/// A client's headers of these names are removed first: where there is no span, nothing is written
/// over them. Zipkin's tracer does not tell its span id; its header is then absent.
#[must_use]
pub fn expose_ids(ids: &IdsConfig, envoy: EnvoyVersion) -> Option<Value> {
    let trace_id = ids.trace_id_header.as_deref()?;
    let span_id = ids
        .span_id_header
        .as_deref()
        .filter(|_| envoy.logs_span_ids());
    let remove = |name: &str| json!({"remove": name});
    let append = |name: &str, format: &str| {
        json!({"append": {
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            "header": {"key": name, "value": format},
        }})
    };
    let removed = [Some(trace_id), ids.span_id_header.as_deref()];
    let mut mutations: Vec<_> = removed.into_iter().flatten().map(remove).collect();
    mutations.push(append(trace_id, "%TRACE_ID%"));
    mutations.extend(span_id.map(|name| append(name, "%SPAN_ID%")));
    Some(json!({
        "name": "meshtrace.expose_ids",
        "typed_config": {
            "@type": concat!(
                "type.googleapis.com/envoy.extensions.filters.http.",
                "header_mutation.v3.HeaderMutation"
            ),
            "mutations": {"request_mutations": mutations},
        },
    }))
}

/// Istio: the provider to put into `meshConfig.extensionProviders`, under the name `name`.
#[must_use]
pub fn istio_provider(name: &str, fields: &Map<String, Value>) -> Value {
    json!({
        "name": name,
        "envoyFileAccessLog": {
            "path": "/dev/stdout",
            "omitEmptyValues": true,
            // These replace all of Istio's own fields.
            "logFormat": {"labels": fields},
        },
    })
}

/// Istio: the Telemetry resource that makes the provider `name` log for the namespace that it is
/// applied to, or for the whole mesh where that is the root namespace.
#[must_use]
pub fn istio_telemetry(name: &str) -> Value {
    json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "access-log-trace"},
        "spec": {"accessLogging": [{"providers": [{"name": name}]}]},
    })
}

/// Istio: the EnvoyFilter that puts [`expose_ids`] in front of every other HTTP filter of what
/// comes in, and with it `filter`, the entry of `access_log_trace`. It is for proxies with the
/// label `meshtrace-access-log: enabled`.
#[must_use]
pub fn istio_envoy_filter(name: &str, expose_ids: Option<&Value>, filter: &Value) -> Value {
    let first = |value: &Value| {
        json!({
            "applyTo": "HTTP_FILTER",
            "match": {
                "context": "SIDECAR_INBOUND",
                "listener": {"filterChain": {"filter": {
                    "name": "envoy.filters.network.http_connection_manager",
                }}},
            },
            "patch": {"operation": "INSERT_FIRST", "value": value},
        })
    };
    // Each goes in front of the one before.
    let patches: Vec<_> = [Some(filter), expose_ids]
        .into_iter()
        .flatten()
        .map(first)
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name},
        "spec": {
            "priority": priority::ACCESS_LOG,
            "workloadSelector": {"labels": {"meshtrace-access-log": "enabled"}},
            "configPatches": patches,
        },
    })
}
