//! Envoy's own tracer: `mesh_tracing` as a dynamic module, `libmeshtrace.so`.
//!
//! This is the second host of the pipeline. Envoy calls it when a span begins, when the span makes
//! a call, and when the span ends. This crate runs the pipeline for each of these, keeps the span
//! meanwhile, and sends finished spans over Envoy's own clusters. One module contains three
//! extensions of Envoy: the tracer `mesh_tracing`; the HTTP filter `mesh_tracing_export`, whose
//! configuration makes the calls of the export; and the bootstrap extension `mesh_tracing_flush`,
//! whose configuration makes them too, and which empties the queues at shutdown.
//!
//! Threads: configurations are made on Envoy's main thread, each span lives and ends on one worker,
//! and calls are made on the main thread. Each worker compiles the configuration for itself and has
//! its own queue. Only the queues are shared.

// The whole crate consists of the functions that Envoy calls and of the pointers that it passes.
#![allow(unsafe_code, reason = "this crate is the boundary to Envoy")]

mod again;
mod block;
mod boundary;
mod call;
mod clock;
#[cfg(feature = "drive")]
mod drive;
mod exports;
mod fate;
mod flush;
mod landed;
mod lines;
mod metrics;
mod node;
mod plugin;
#[cfg(feature = "provoke")]
mod provoke;
mod queue;
mod report;
mod send;
mod sent;
mod span;
mod sys;
mod tag_list;
mod tags;
mod worker;

#[cfg(feature = "drive")]
pub use drive::drive;
