//! `mesh_tracing`: which spans a collector gets, and what the other stages do in this filter.

mod backoff;
mod chain;
mod client_span;
mod clock;
mod collector;
mod configuration;
mod conformance;
mod context;
mod export;
mod gateway_parent;
mod gone;
mod grpc_web;
mod hosts;
mod identity;
mod late;
mod limits;
mod many_rules;
mod moving_cluster;
mod redirects;
mod sampling;
mod spans;
mod stages;
mod throughput;
mod tunnels;
mod unfinished;
mod wall_clock;
