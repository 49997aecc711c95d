//! A caller whose context is not believed: its headers are gone before the tracer reads.

use meshtrace_config::ConfigError;
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Field, WhenConfig};

use super::names::{CLIENT_TRACE_ID, name};
use crate::script::Script;

/// The tracer then starts a new trace.
pub(super) fn restart() -> Script {
    let formats = Format::EXTRACTED_BY_DEFAULT.iter();
    removals(formats.flat_map(|format| format.fields()))
}

/// As [`restart`], and every other header that is known to carry trace context is gone too.
pub(super) fn ignore() -> Script {
    removals(Field::ALL)
}

fn removals<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Script {
    let mut script = Script::default();
    for field in fields {
        script.remove(name(*field));
    }
    script.remove(CLIENT_TRACE_ID);
    script
}

/// The direction is the listener's, so whoever places the mutation has it in hand.
pub(super) fn refuse_conditions(when: &WhenConfig) -> Result<(), ConfigError> {
    let seen_by_the_filter_alone = [
        (
            "incoming.when.not_from_cidrs",
            when.not_from_cidrs.is_some(),
        ),
        ("incoming.when.header_absent", when.header_absent.is_some()),
    ];
    for (path, present) in seen_by_the_filter_alone {
        if present {
            return Err(ConfigError::new(
                path,
                "a removal before the tracer holds for every caller; use a listener of its own for \
                 the callers that are not believed",
            ));
        }
    }
    Ok(())
}
