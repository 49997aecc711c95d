//! The paths of Envoy's attributes (Envoy, "Attributes":
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes>).

/// The path of one attribute, in both forms that Envoy reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributePath {
    /// For a property look-up of proxy-wasm: the elements are separated by NUL.
    pub property: &'static [u8],
    /// For an expression in CEL: the elements are separated by dots.
    pub expression: &'static str,
}

macro_rules! paths {
    ($(
        $(#[$list_doc:meta])*
        $list:ident {
            $($(#[$doc:meta])* $name:ident = $first:literal, $second:literal;)*
        }
    )*) => {
        $($(
            $(#[$doc])*
            pub const $name: AttributePath = AttributePath {
                property: concat!($first, "\0", $second).as_bytes(),
                expression: concat!($first, ".", $second),
            };
        )*)*
        $(
            $(#[$list_doc])*
            pub const $list: &[AttributePath] = &[$($name),*];
        )*
    };
}

paths! {
    /// The attributes that are integers: eight little-endian bytes as a property. Times and
    /// durations are nanoseconds.
    INTEGERS {
        /// The id of the downstream connection.
        CONNECTION_ID = "connection", "id";
        /// The local port of the downstream connection.
        DESTINATION_PORT = "destination", "port";
        /// How long the request took.
        REQUEST_DURATION = "request", "duration";
        /// The size of the request's headers.
        REQUEST_HEADERS_BYTES = "request", "headers_bytes";
        /// The size of the request's body.
        REQUEST_SIZE = "request", "size";
        /// When the first byte of the request came.
        REQUEST_TIME = "request", "time";
        /// The size of the request with its headers.
        REQUEST_TOTAL_SIZE = "request", "total_size";
        /// How long the upstream took.
        RESPONSE_BACKEND_LATENCY = "response", "backend_latency";
        /// The status code of the response.
        RESPONSE_CODE = "response", "code";
        /// The response flags, one bit each: see [`response_flag`](crate::response_flag).
        RESPONSE_FLAGS = "response", "flags";
        /// The status code of gRPC: see [`grpc_status`](crate::grpc_status).
        RESPONSE_GRPC_STATUS = "response", "grpc_status";
        /// The size of the response's body.
        RESPONSE_SIZE = "response", "size";
        /// The size of the response with its headers.
        RESPONSE_TOTAL_SIZE = "response", "total_size";
        /// The remote port of the downstream connection.
        SOURCE_PORT = "source", "port";
        /// The remote port of the upstream connection.
        UPSTREAM_PORT = "upstream", "port";
        /// How many times the request was sent to an upstream.
        UPSTREAM_REQUEST_ATTEMPT_COUNT = "upstream", "request_attempt_count";
        /// The direction of the listener: see [`traffic_direction`](crate::traffic_direction).
        LISTENER_DIRECTION = "xds", "listener_direction";
    }
    /// The attributes that are booleans: one byte as a property.
    BOOLEANS {
        /// Whether the downstream connection has a client certificate that was checked.
        CONNECTION_MTLS = "connection", "mtls";
    }
    /// The attributes that are text, or a map of texts, as far as they are used here.
    TEXTS {
        /// The local address of the downstream connection, with its port.
        DESTINATION_ADDRESS = "destination", "address";
        /// The headers of the request, a map.
        REQUEST_HEADERS = "request", "headers";
        /// The host of the request, with its port.
        REQUEST_HOST = "request", "host";
        /// The method of the request.
        REQUEST_METHOD = "request", "method";
        /// The protocol of the request: `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `HTTP/3`.
        REQUEST_PROTOCOL = "request", "protocol";
        /// The path of the request without its query.
        REQUEST_URL_PATH = "request", "url_path";
        /// Who made the response: see [`response_code_details`](crate::response_code_details).
        RESPONSE_CODE_DETAILS = "response", "code_details";
        /// The remote address of the downstream connection, with its port.
        SOURCE_ADDRESS = "source", "address";
        /// The remote address of the upstream connection, with its port.
        UPSTREAM_ADDRESS = "upstream", "address";
        /// The name of the upstream cluster.
        CLUSTER_NAME = "xds", "cluster_name";
        /// The name of the filter chain.
        FILTER_CHAIN_NAME = "xds", "filter_chain_name";
        /// The name of the route.
        ROUTE_NAME = "xds", "route_name";
    }
}

/// The `envoy.config.core.v3.Node` of the proxy: elements of its fields follow.
pub const NODE: [&str; 2] = ["xds", "node"];

/// Headers of the response, as properties of proxy-wasm.
pub mod response_header {
    /// `content-type`.
    pub const CONTENT_TYPE: &[u8] = b"response\0headers\0content-type";
    /// `grpc-status`.
    pub const GRPC_STATUS: &[u8] = b"response\0headers\0grpc-status";
}
