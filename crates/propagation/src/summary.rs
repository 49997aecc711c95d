//! What a configuration does, in words.

use meshtrace_config::list;

use crate::config::{IncomingMode, OnMissing, Placement};
use crate::destination::Inject;
use crate::format::{Format, FormatSet};
use crate::propagation::Propagation;

impl Propagation {
    /// What this configuration does, in words. They follow "the filter".
    #[must_use]
    #[inline(never)]
    pub fn summary(&self) -> String {
        let mut words = match self.placement {
            Placement::Downstream => {
                let read = self.extraction.formats.iter().map(|format| format.name());
                let read: Vec<_> = read.collect();
                match read.is_empty() {
                    true => "reads no trace context".to_owned(),
                    false => ["reads ", &list(read)].concat(),
                }
            }
            Placement::Upstream => {
                let tracer = self.tracer_format().map_or("", Format::name);
                format!("reads the {tracer} headers that this proxy's tracer writes")
            }
        };
        match self.policy.inject {
            Inject::Formats(formats) if formats == FormatSet::default() => {
                words.push_str(" and writes no format of its own");
            }
            Inject::Formats(formats) => {
                let written = Format::ALL
                    .iter()
                    .filter(|format| formats.contains(**format));
                words.push_str(" and writes ");
                words.push_str(&list(written.map(|format| format.name())));
            }
            Inject::Preserve { default } => {
                words.push_str(" and writes the format that came in, else ");
                words.push_str(default.name());
            }
        }
        if !self.overrides.is_empty() {
            words.push_str(" (another choice for some destinations)");
        }
        if !self.policy.clear.is_empty() {
            words.push_str(", removes the headers of `clear`");
        }
        words.push_str(match self.trust.mode {
            IncomingMode::Continue => "",
            IncomingMode::Restart => ", starts a new trace for callers that are not trusted",
            IncomingMode::Ignore => ", removes the trace headers of callers that are not trusted",
        });
        words.push_str(match self.start.on_missing {
            OnMissing::Pass => "",
            OnMissing::Generate => ", starts a trace where none came in",
        });
        words
    }

    /// Upstream: the format that the proxy's tracer writes.
    #[must_use]
    pub fn tracer_format(&self) -> Option<Format> {
        match self.placement {
            Placement::Downstream => None,
            Placement::Upstream => self.extraction.formats.first().copied(),
        }
    }
}
