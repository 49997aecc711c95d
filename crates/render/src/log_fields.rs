//! The forms of a log line: which fields there are, and what they are called.

use meshtrace_envoy::filter_state;

/// The names of the fields in a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFields {
    /// Those of Envoy's documentation, in snake case.
    #[default]
    Plain,
    /// The fields that Istio writes where nothing is configured, under its names.
    Istio,
    /// The Elastic Common Schema. What it has no name for begins with `envoy.`.
    Ecs,
}

impl LogFields {
    /// The fields beside the ids and their formats, in their order.
    pub(crate) fn of_requests(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain => PLAIN,
            Self::Istio => ISTIO,
            Self::Ecs => ECS,
        }
    }

    /// The name of the field with the filter state `key`.
    pub(crate) fn of_id(self, key: &str) -> String {
        match (self, key) {
            (Self::Ecs, filter_state::TRACE_ID) => "trace.id".to_owned(),
            (Self::Ecs, filter_state::SPAN_ID) => "span.id".to_owned(),
            (Self::Ecs, filter_state::PARENT_SPAN_ID) => "parent.id".to_owned(),
            (Self::Ecs, _) => format!("envoy.{key}"),
            _ => key.to_owned(),
        }
    }
}

const PLAIN: &[(&str, &str)] = &[
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

/// `EnvoyJSONLogFormatIstio` of Istio, 1.28 to 1.31.
const ISTIO: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

const ECS: &[(&str, &str)] = &[
    ("@timestamp", "%START_TIME%"),
    ("ecs.version", "8.17.0"),
    ("http.request.method", "%REQ(:METHOD)%"),
    ("http.request.id", "%REQ(X-REQUEST-ID)%"),
    ("http.request.body.bytes", "%BYTES_RECEIVED%"),
    ("http.response.status_code", "%RESPONSE_CODE%"),
    ("http.response.body.bytes", "%BYTES_SENT%"),
    ("url.path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("url.domain", "%REQ(:AUTHORITY)%"),
    ("user_agent.original", "%REQ(USER-AGENT)%"),
    ("client.address", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("server.address", "%UPSTREAM_HOST%"),
    ("envoy.protocol", "%PROTOCOL%"),
    // Milliseconds; `event.duration` is nanoseconds, which Envoy does not write.
    ("envoy.duration", "%DURATION%"),
    ("envoy.response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("envoy.response_flags", "%RESPONSE_FLAGS%"),
    ("envoy.grpc_status", "%GRPC_STATUS%"),
    ("envoy.route_name", "%ROUTE_NAME%"),
    ("envoy.upstream_cluster", "%UPSTREAM_CLUSTER%"),
    (
        "envoy.upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    (
        "envoy.upstream_request_attempt_count",
        "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    ),
];
