//! `access_log_trace.wasm`: leads every line of the access log to its trace, as an Envoy filter.

meshtrace_host::filter!(meshtrace_pipeline::AccessLogTrace);
