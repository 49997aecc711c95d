//! The same ids as the back ends write them.

use meshtrace_config::{ConfigError, each};
use meshtrace_envoy::filter_state::{
    SPAN_ID_DATADOG, TRACE_ID_B3_64, TRACE_ID_DATADOG, TRACE_ID_GCP,
};
use meshtrace_propagation::{SpanId, TraceId};

use crate::config::ShapeConfig;
use crate::ids::Ids;
use crate::text::IdText;

/// The longest name of a Google Cloud project that is taken, in bytes: one with a domain before it.
const MAX_PROJECT: usize = 80;

/// An additional form of the ids.
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

    /// Writes the ids in `ids` that differ from those in `recorded`.
    pub(crate) fn write(
        &self,
        ids: &Ids,
        recorded: &Ids,
        mut put: impl FnMut(&'static [u8], Option<IdText>),
    ) {
        let trace_id = ids.trace_id.filter(|_| ids.trace_id != recorded.trace_id);
        let span_id = ids.span_id.filter(|_| ids.span_id != recorded.span_id);
        match self {
            Self::Datadog => {
                let decimal =
                    |number: u64| IdText::concat(&[itoa::Buffer::new().format(number).as_bytes()]);
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
                    put(TRACE_ID_GCP.as_bytes(), IdText::concat(&parts));
                }
            }
            Self::B3Bits64 => {
                if let Some(id) = trace_id {
                    put(
                        TRACE_ID_B3_64.as_bytes(),
                        IdText::concat(&[&TraceId::low_to_hex(id)]),
                    );
                }
            }
        }
    }
}

/// Compiles `shapes`.
///
/// # Errors
/// When a shape is listed twice or a value is impossible, with the key's path.
pub(crate) fn compile(shapes: &[ShapeConfig]) -> Result<Vec<Shape>, ConfigError> {
    let mut known = Vec::new();
    each("shapes", shapes, |_, shape| {
        let shape = match shape {
            ShapeConfig::Datadog => Shape::Datadog,
            ShapeConfig::B3Bits64 => Shape::B3Bits64,
            ShapeConfig::Gcp { project } => Shape::Gcp {
                project: gcp_project("gcp.project", project)?,
            },
        };
        if known.contains(&shape.keys()) {
            return Err(ConfigError::new(
                "",
                "listed before; expected each shape once",
            ));
        }
        known.push(shape.keys());
        Ok(shape)
    })
}

fn gcp_project(path: &str, project: &str) -> Result<Box<[u8]>, ConfigError> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    if project.is_empty() || project.len() > MAX_PROJECT || !project.bytes().all(is_allowed) {
        return Err(ConfigError::new(
            path,
            format!(
                "invalid value: string {project:?}, expected a Google Cloud project id such as \
                 \"my-project\", at most {MAX_PROJECT} characters"
            ),
        ));
    }
    Ok(project.as_bytes().into())
}
