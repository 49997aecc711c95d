//! Runs real Envoys for tests of proxy-wasm filters, and records what comes out of them.
//!
//! What a filter does depends on Envoy: which headers the filter sees in which phase, when Envoy's
//! own tracer reads and writes them, what happens after a trap. A test with this crate starts a
//! real Envoy on free ports within about 100 ms, and looks at the headers, spans and log lines that
//! come out.
//!
//! - [`EnvoyBinary`] finds an Envoy, or fetches one.
//! - [`config`] describes listeners, filters, routes, tracers and clusters; [`Envoy`] runs that.
//! - [`client`] sends requests byte for byte; [`Upstream`] records them byte for byte.
//! - [`OtlpSink`] and [`ZipkinSink`] collect spans as [`Span`]; [`AccessLog`] reads log lines.
//! - [`expect::span`] describes the span that a test expects; [`each_supported`] runs a test on
//!   every version of Envoy.
//!
//! Calls block. Every wait ends after [`WAIT_LIMIT`] with an error that shows what there was
//! instead. What a test starts ends when its value is dropped, and when the test process is killed.
//! The crate runs on Unix.
//!
//! ```no_run
#![doc = include_str!("../examples/quickstart.rs")]
//! ```

pub mod access_log;
pub mod binary;
pub mod client;
pub mod config;
pub mod envoy;
mod error;
pub mod expect;
mod frames;
mod http1;
pub mod otlp;
mod process;
pub mod sink;
mod supported;
mod sync;
pub mod upstream;
pub mod zipkin;

use std::time::Duration;

pub use access_log::AccessLog;
pub use binary::EnvoyBinary;
pub use envoy::{Envoy, Options};
pub use error::Error;
pub use http1::Header;
pub use otlp::OtlpSink;
pub use span_waterfall::{Span, SpanKind};
pub use supported::{each, each_supported};
pub use upstream::Upstream;
pub use zipkin::ZipkinSink;

/// The limit of every wait. It is long, because only tests that fail reach it.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
