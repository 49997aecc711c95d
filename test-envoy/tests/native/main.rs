//! `libmeshtrace.so`: `mesh_tracing` as Envoy's own tracer.

mod abi;
mod access_log;
mod calls;
mod custom_tags;
mod ends;
mod export;
mod grpc;
mod health_checks;
mod hot_restart;
mod identity;
mod keep;
mod overruled;
mod panics;
mod race;
mod redirects;
mod refusals;
mod retried;
mod sent;
mod shutdown;
mod spans;
mod threads;
mod tunnels;
mod without_filter;
