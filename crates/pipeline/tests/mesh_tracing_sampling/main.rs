//! `mesh_tracing` with `sampling`: what leaves, and what is exported.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod any_request;
mod decisions;
mod spans;
mod traced;
