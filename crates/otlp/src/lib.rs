//! Spans of a proxy: their record, their OTLP encoding, and when to export them.
//!
//! [`conventions`] makes [`Attributes`] from Envoy's values. A [`Span`] is encoded once, straight
//! into the batch that is sent. The [`Exporter`] decides what to send and when, and the host sends
//! it. Nothing here calls a host. A span costs no heap memory once the buffers are there.

#![forbid(unsafe_code)]

mod answer;
mod attributes;
mod batch;
mod call_headers;
mod call_size;
mod complaint;
mod config;
pub mod conventions;
mod counter;
mod date;
mod exporter;
mod fields;
mod gzip;
mod identity;
mod limits;
mod pool;
mod report;
mod resource;
#[cfg(feature = "schema")]
mod schema;
mod span;
mod text;
mod wire;

pub use answer::HttpCallResponse;
pub use attributes::Attributes;
pub use call_headers::MAX_HEADER_BYTES;
pub use complaint::Complaint;
pub use config::{
    BatchConfig, Compression, KeepConfig, Protocol, ReportConfig, ResourceValue, RoleConfig,
    SpanName,
};
pub use counter::{Counter, Tally};
pub use exporter::{CallError, Dispatch, Exporter, HttpCall};
pub use identity::{NodeAttributes, ServiceName};
pub use limits::{BATCH_BYTES, MAX_ATTRIBUTE_BYTES, MAX_BATCHES, MAX_NAME, MAX_TRACESTATE};
pub use pool::{Pool, Record};
pub use report::{Keep, Report, Role};
pub use resource::{MAX_RESOURCE_BYTES, Node, resource};
pub use span::{Kind, Span, Status};
