//! `libmeshtrace.so`: `mesh_tracing` as Envoy's own tracer.

mod access_log;
mod calls;
mod context;
mod export;
mod grpc;
mod identity;
mod race;
mod refusals;
mod sampling;
mod shutdown;
mod spans;
mod tunnels;
