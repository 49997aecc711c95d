//! The access log: its fields, where they are configured, and the step that copies the proxy's own
//! ids for the filter.

use meshtrace_access_log::{AccessLogIds, IdsConfig};
use meshtrace_envoy::filter_state;
use serde_json::{Map, Value, json};

use crate::log_fields::LogFields;
use crate::version::EnvoyVersion;
use crate::{cel, priority};

/// The source of the ids in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdsFrom {
    /// `access_log_trace.wasm` sets them as filter state.
    Filter,
    /// Envoy writes them with `%TRACE_ID%` and `%SPAN_ID%`: with the OpenTelemetry tracer, from
    /// Envoy 1.38 on. They are right also where a response was made before the filter. Without a
    /// span there is no id.
    Envoy,
}

/// The fields of a log line: `json_format` of Envoy, `labels` of Istio.
///
/// `ids` adds a field for each key of filter state that its configuration sets.
#[must_use]
pub fn access_log_fields(ids: &AccessLogIds, from: IdsFrom) -> Map<String, Value> {
    access_log_fields_as(LogFields::Plain, ids, from)
}

/// As [`access_log_fields`], with the fields and the names of `form`.
#[must_use]
pub fn access_log_fields_as(
    form: LogFields,
    ids: &AccessLogIds,
    from: IdsFrom,
) -> Map<String, Value> {
    let of_the_filter = ids.keys().map(|key| {
        let format = match (key, from) {
            (filter_state::TRACE_ID, IdsFrom::Envoy) => "%TRACE_ID%".to_owned(),
            (filter_state::SPAN_ID, IdsFrom::Envoy) => "%SPAN_ID%".to_owned(),
            // Without PLAIN the field is an object with the value in Base64.
            _ => cel::filter_state(key),
        };
        (form.of_id(key), Value::String(format))
    });
    form.of_requests()
        .iter()
        .map(|(name, format)| ((*name).to_owned(), json!(format)))
        .chain(of_the_filter)
        .collect()
}

/// One entry of the connection manager's `access_log`: one line of JSON for each request, to the
/// file at `path`.
#[must_use]
pub fn access_log(path: &str, fields: &Map<String, Value>) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            // Envoy follows this from 1.40 on. Earlier versions write null for an unknown id.
            "log_format": {"omit_empty_values": true, "json_format": fields},
        },
    })
}

/// The HTTP filter that copies the proxy's own ids into the headers of `ids`; it belongs directly
/// before `access_log_trace`. `None` where `ids` names no header that this Envoy can write.
///
/// A client's headers of these names are removed first, because without a span no value replaces
/// them. Zipkin's tracer does not give its span id, so that header is then absent.
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

/// Istio: the provider for `meshConfig.extensionProviders`, with the name `name`.
#[must_use]
pub fn istio_provider(name: &str, fields: &Map<String, Value>) -> Value {
    json!({
        "name": name,
        "envoyFileAccessLog": {
            "path": "/dev/stdout",
            "omitEmptyValues": true,
            // These fields replace all of Istio's own.
            "logFormat": {"labels": fields},
        },
    })
}

/// Istio: the Telemetry resource that makes the provider `name` log for one namespace: the one to
/// which the resource is applied. In the root namespace it is for the whole mesh.
#[must_use]
pub fn istio_telemetry(name: &str) -> Value {
    json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "access-log-trace"},
        "spec": {"accessLogging": [{"providers": [{"name": name}]}]},
    })
}

/// Istio: the EnvoyFilter that puts [`expose_ids`] in front of every other inbound HTTP filter,
/// together with `filter`, the entry of `access_log_trace`. It is for proxies with the label
/// `meshtrace-access-log: enabled`.
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
    // Each patch puts its filter in front of the filters of earlier patches.
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
