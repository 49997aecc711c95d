//! Values of the attribute `response.code_details` (Envoy, "Response Code Details":
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details>).

/// The response came from the upstream.
pub const VIA_UPSTREAM: &[u8] = b"via_upstream";
/// The response is an internal redirect: Envoy sends the request to another place.
pub const INTERNAL_REDIRECT: &[u8] = b"internal_redirect";
/// The upstream answered a request for a WebSocket with a code of 2xx, and not with 101.
pub const WEBSOCKET_HANDSHAKE_UNSUCCESSFUL: &[u8] = b"websocket_handshake_unsuccessful";
/// A circuit breaker stopped the attempt.
pub const OVERFLOW: &[u8] = b"upstream_reset_before_response_started{overflow}";
