//! Names of request headers that Envoy sets
//! (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers>).

/// The URL of a request as it was sent, where Envoy has redirected the request ("internal
/// redirect").
pub const ORIGINAL_URL: &[u8] = b"x-envoy-original-url";
