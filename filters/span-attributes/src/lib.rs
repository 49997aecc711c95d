//! `span_attributes.wasm`: business attributes for the proxy's own spans, as an Envoy filter.

meshtrace_host::filter!(meshtrace_pipeline::SpanAttributes);
