//! Normalises trace context between B3 and W3C, as an Envoy proxy-wasm filter.
