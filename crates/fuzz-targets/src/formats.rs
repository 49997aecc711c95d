//! The properties that every format must have.

use meshtrace_pipeline::Arena;
use meshtrace_propagation::format::{Extracted, Format, Reading, Writing};
use meshtrace_propagation::{Outgoing, SamplingState, TraceContext};

use crate::lines::{self, Lines};

const STRICT: Reading = Reading { b3_strict: true };

/// A context that was read is written so that the strictest reader reads the same context, both
/// without headers and over those that arrived. A second write changes nothing.
pub(crate) fn check(format: Format, data: &[u8]) {
    let sent = lines::of_fields(format.fields(), data);
    for reading in [Reading { b3_strict: false }, STRICT] {
        let extracted = read(format, &sent, reading);
        let outgoing = match extracted {
            Extracted::Context(context) => Outgoing::Context(context),
            Extracted::Sampling(sampling) => Outgoing::Sampling(sampling),
            Extracted::Absent | Extracted::Incomplete { .. } | Extracted::Malformed => continue,
        };
        for before in [&Lines::new(), &sent] {
            let written = write(format, before, &outgoing);
            let expected = as_written(format, extracted);
            assert_eq!(
                read(format, &written, STRICT),
                expected,
                "{}",
                lines::text(&written)
            );
            let again = write(format, &written, &outgoing);
            assert_eq!(lines::text(&again), lines::text(&written));
        }
    }
    let strict = read(format, &sent, STRICT);
    if let Extracted::Context(_) = strict {
        let lenient = read(format, &sent, Reading { b3_strict: false });
        assert_eq!(lenient, strict, "lenient reading refuses or alters nothing");
    }
}

/// What a reader of `format` reads after the context was written again.
fn as_written(format: Format, extracted: Extracted) -> Extracted {
    match extracted {
        // Its grammar has a parent only behind a state. Lenient reading accepts a parent without a
        // state.
        Extracted::Context(context)
            if format == Format::B3 && context.sampling == SamplingState::Deferred =>
        {
            Extracted::Context(TraceContext {
                b3_parent: None,
                ..context
            })
        }
        extracted => extracted,
    }
}

pub(crate) fn read(format: Format, lines: &Lines, reading: Reading) -> Extracted {
    lines::arrive(lines, |arrived| format.parse(arrived, reading))
}

/// The lines after `outgoing` was written in `format`, by name.
fn write(format: Format, lines: &Lines, outgoing: &Outgoing) -> Lines {
    let mut left = lines.clone();
    let arena = Arena::new();
    lines::arrive(lines, |arrived| {
        format.emit(
            outgoing,
            arrived,
            Writing::default(),
            &arena,
            |field, value| {
                left.retain(|(name, _)| name != field.name());
                if let Some(value) = value {
                    left.push((field.name().to_vec(), value.as_bytes().to_vec()));
                }
            },
        );
    });
    // Only the names are sorted, because the order of repeated lines has a meaning.
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    left
}
