//! `route_sampling.wasm`: decides by rule which traces are recorded, as an Envoy filter.

meshtrace_host::filter!(meshtrace_pipeline::RouteSampling);
