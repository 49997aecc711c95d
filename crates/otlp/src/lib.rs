//! Spans of a proxy: their record, their OTLP encoding, and when to export them.
//!
//! [`conventions`] makes [`Attributes`] of what Envoy knows; a [`Span`] is encoded once, straight
//! into the batch that is sent; the [`Exporter`] says what to send and when, and the host sends.
//! Nothing here calls a host. A span costs no heap memory once the buffers are there.

#![forbid(unsafe_code)]

mod answer;
mod attributes;
mod batch;
mod config;
pub mod conventions;
mod counter;
mod exporter;
mod pool;
mod resource;
mod span;
mod text;
mod wire;

pub use answer::HttpCallResponse;
pub use attributes::{Attributes, MAX_ATTRIBUTE_BYTES};
pub use batch::{BATCH_BYTES, MAX_BATCHES};
pub use config::{
    BatchConfig, Keep, KeepConfig, MAX_HEADER_BYTES, Protocol, Report, ReportConfig, ResourceValue,
    Role, RoleConfig,
};
pub use counter::{Counter, Tally};
pub use exporter::{CallError, Dispatch, Exporter, HttpCall};
pub use pool::{MAX_TRACESTATE, Pool, Record};
pub use resource::{MAX_RESOURCE_BYTES, Node, resource};
pub use span::{Kind, Span, Status};
