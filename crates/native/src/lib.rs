//! Envoy's own tracer: `mesh_tracing` as a dynamic module, `libmeshtrace.so`.
//!
//! The second host of the pipeline. Envoy says when a span begins, which call it makes, and when it
//! ends; this crate asks the pipeline what that means, keeps the span meanwhile, and sends what is
//! finished over Envoy's own clusters. Three extensions of Envoy's are one module here: the tracer
//! `mesh_tracing`, the HTTP filter `mesh_tracing_export`, whose configuration makes the calls of
//! the export, and the bootstrap extension `mesh_tracing_flush`, which empties the queues at
//! shutdown.
//!
//! Threads: configurations are made on Envoy's main thread, spans live and end on one worker each,
//! and calls are made on the main thread. Each worker compiles the configuration for itself and has
//! a queue of its own; the queues are all that is shared.

// The exports that Envoy calls and the pointers that it hands over are the whole of it.
#![allow(unsafe_code, reason = "this crate is the boundary to Envoy")]

mod block;
mod boundary;
mod call;
mod clock;
mod exports;
mod flush;
mod metrics;
mod node;
mod plugin;
mod queue;
mod refusal;
mod report;
mod send;
mod span;
mod sys;
mod tags;
mod worker;
