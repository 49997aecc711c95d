//! `trace_context.wasm`: normalises trace context between B3 and W3C, as an Envoy filter.

meshtrace_host::filter!(meshtrace_pipeline::TraceContext);
