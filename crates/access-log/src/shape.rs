//! The same ids as the back ends write them.

use meshtrace_envoy::filter_state::{
    SPAN_ID_DATADOG, TRACE_ID_B3_64, TRACE_ID_DATADOG, TRACE_ID_GCP,
};
use meshtrace_propagation::{SpanId, TraceId};

use crate::decide::Ids;
use crate::text::Text;

/// A further form of the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Decimal 64-bit numbers, of the trace id its right-most half (Datadog, "Correlate Logs and
    /// Traces").
    Datadog,
    /// `projects/PROJECT/traces/TRACE` (Google Cloud Logging, `LogEntry.trace`).
    Gcp {
        /// The Google Cloud project.
        project: Box<[u8]>,
    },
    /// The right-most 16 digits of the trace id (B3's 64-bit form).
    B3Bits64,
}

impl Shape {
    /// The filter state keys that it sets, without Envoy's `wasm.` before them.
    #[must_use]
    pub const fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Datadog => &[TRACE_ID_DATADOG, SPAN_ID_DATADOG],
            Self::Gcp { .. } => &[TRACE_ID_GCP],
            Self::B3Bits64 => &[TRACE_ID_B3_64],
        }
    }

    /// Writes what `ids` has and `told` had otherwise.
    pub(crate) fn write(
        &self,
        ids: &Ids,
        told: &Ids,
        mut put: impl FnMut(&'static [u8], Option<Text>),
    ) {
        let trace_id = ids.trace_id.filter(|_| ids.trace_id != told.trace_id);
        let span_id = ids.span_id.filter(|_| ids.span_id != told.span_id);
        match self {
            Self::Datadog => {
                let decimal =
                    |number: u64| Text::concat(&[itoa::Buffer::new().format(number).as_bytes()]);
                if let Some(id) = trace_id {
                    put(TRACE_ID_DATADOG.as_bytes(), decimal(id.low()));
                }
                if let Some(id) = span_id {
                    put(SPAN_ID_DATADOG.as_bytes(), decimal(SpanId::get(id)));
                }
            }
            Self::Gcp { project } => {
                if let Some(id) = trace_id {
                    let parts: [&[u8]; 4] = [b"projects/", project, b"/traces/", &id.to_hex()];
                    put(TRACE_ID_GCP.as_bytes(), Text::concat(&parts));
                }
            }
            Self::B3Bits64 => {
                if let Some(id) = trace_id {
                    put(
                        TRACE_ID_B3_64.as_bytes(),
                        Text::concat(&[&TraceId::low_to_hex(id)]),
                    );
                }
            }
        }
    }
}
