//! `mesh_tracing.wasm`: a complete tracer for Envoy in one filter.

meshtrace_host::filter!(meshtrace_pipeline::MeshTracing);
