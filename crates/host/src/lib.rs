//! The only place that calls the proxy-wasm host.
//!
//! It declares the host's imports itself, takes every status as a number and checks it, and runs a
//! [`Composition`](meshtrace_pipeline::Composition) in the callbacks of the SDK's dispatcher. It
//! decides nothing: what should change comes as an [`Outcome`](meshtrace_pipeline::Outcome).

// The `#[no_mangle]` exports and the host's imports are the only unsafe code.
#![allow(unsafe_code, reason = "this crate is the boundary to the host")]

mod background;
mod call;
mod configuration;
mod export;
mod expressions;
mod http_calls;
mod in_force;
mod lookup;
mod metrics;
mod own_context;
mod root;
mod running;
mod served;
mod shared;
mod status;
mod stream;
mod sys;
mod warned;

pub use export::{SECTION_NAME, callbacks_length, callbacks_section};
pub use root::new_root;

#[doc(hidden)]
pub use {meshtrace_pipeline as pipeline, proxy_wasm};
