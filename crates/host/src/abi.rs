//! The numbers of the ABI (proxy-wasm 0.2.1) that are used.

/// The level of a log line.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// A map of headers or trailers.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MapType {
    RequestHeaders = 0,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
    CallResponseHeaders = 6,
    CallResponseTrailers = 7,
}

/// A buffer of bytes.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum BufferType {
    HttpCallResponseBody = 4,
    PluginConfiguration = 7,
}

/// A kind of metric.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MetricType {
    Counter = 0,
    Gauge = 1,
}
