//! Runs real Envoys for tests of proxy-wasm filters, and records what comes out of them.

pub mod access_log;
pub mod binary;
pub mod client;
pub mod config;
pub mod envoy;
mod error;
mod http1;
pub mod otlp;
mod process;
mod sink;
pub mod span;
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
pub use span::{Span, SpanKind};
pub use upstream::Upstream;
pub use zipkin::ZipkinSink;

/// How long anything is waited for; generous, because it only ends tests that fail.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);
