//! Code that the two forms of B3 share.

use super::options::{B3TraceIdBits, Reading, Writing};
use crate::hex::Case;
use crate::{SpanId, TraceContext, TraceId};

/// The specification requires lower-case hexadecimal; old clients send upper case.
pub(super) fn case(reading: Reading) -> Case {
    if reading.b3_strict {
        Case::Lower
    } else {
        Case::Any
    }
}

/// A `TraceId`: 32 or 16 digits.
pub(super) fn trace_id(text: &[u8], reading: Reading) -> Option<TraceId> {
    match text.len() {
        16 => TraceId::from_hex64(text, case(reading)),
        _ => TraceId::from_hex128(text, case(reading)),
    }
}

/// A `SpanId`: 16 digits.
pub(super) fn span_id(text: &[u8], reading: Reading) -> Option<SpanId> {
    SpanId::from_hex(text, case(reading))
}

/// A `ParentSpanId`: 16 digits. An id of zeros means no parent: some tracers write it for a root
/// span.
///
/// The outer `None` means that the text is no id.
pub(super) fn parent_id(text: &[u8], reading: Reading) -> Option<Option<SpanId>> {
    match text {
        [b'0', ..] if *text == [b'0'; 16] => Some(None),
        text => span_id(text, reading).map(Some),
    }
}

/// The digits of a `TraceId` to write.
#[derive(Clone, Copy, Debug)]
pub(super) enum TraceIdText {
    Bits128([u8; 32]),
    Bits64([u8; 16]),
}

impl TraceIdText {
    /// `arrived` is the id's text in the same header: an id that came with 64 bits is written with
    /// 64 bits.
    pub(super) fn new(context: &TraceContext, arrived: Option<&[u8]>, writing: Writing) -> Self {
        let low = context.trace_id.low_to_hex();
        let as_it_came = context.trace_id.high() == 0 && arrived == Some(low.as_slice());
        // The low half may be zero. No reader accepts zero as an id.
        let narrow =
            writing.b3_trace_id_bits == B3TraceIdBits::Bits64 && context.trace_id.low() != 0;
        if as_it_came || narrow {
            Self::Bits64(low)
        } else {
            Self::Bits128(context.trace_id.to_hex())
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bits128(digits) => digits,
            Self::Bits64(digits) => digits,
        }
    }
}
