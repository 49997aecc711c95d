//! The bounds of what is reported: a proxy's memory must not depend on what a client sends.

/// The longest span name, in bytes.
pub const MAX_NAME: usize = 128;
/// The longest `url.path` and `url.full`, in bytes.
pub(crate) const MAX_URL: usize = 1024;
/// The longest value of any other attribute of the conventions, in bytes.
pub(crate) const MAX_VALUE: usize = 256;
/// The longest `tracestate` that a span keeps, in bytes: the least that "SHOULD" be propagated (W3C
/// Trace Context, section 3.3.1.5).
pub const MAX_TRACESTATE: usize = 512;
/// The most that the attributes of one span take, in bytes of their encoding. An attribute without
/// room is counted as dropped. There is room for thirty-two attributes of 256 bytes besides those
/// of the conventions.
pub const MAX_ATTRIBUTE_BYTES: usize = 16 * 1024;
/// The most that one call sends, in bytes. Only the last call, which sends everything, may exceed
/// it.
pub const BATCH_BYTES: usize = 224 * 1024;
/// The most batches that wait or are in flight: with [`BATCH_BYTES`] it bounds the memory.
pub const MAX_BATCHES: usize = 16;
