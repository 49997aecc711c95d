//! What holds for every format.

use meshtrace_pipeline::Arena;
use meshtrace_propagation::format::{Extracted, Format, Reading, Writing};
use meshtrace_propagation::{Outgoing, SamplingState, TraceContext};

use crate::lines::{self, Lines};
use crate::w3c;

const STRICT: Reading = Reading { b3_strict: true };

/// The first line names a format, the others are lines of its headers: `name: value`, or the value
/// alone where the format has one header. Any other name stands for one of the formats too, so that
/// few bytes are wasted.
pub fn format(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (name, rest) = data.split_at(end.unwrap_or(data.len()));
    let lines = rest.strip_prefix(b"\n").unwrap_or(rest);
    let known = Format::ALL
        .iter()
        .find(|format| format.name().as_bytes() == name);
    let any = name.iter().map(|byte| usize::from(*byte)).sum::<usize>() % Format::ALL.len();
    let format = *known.unwrap_or(&Format::ALL[any]);
    check(format, lines);
    if format == Format::Tracecontext {
        w3c::traceparent_is_read_as_its_grammar_says(lines);
    }
}

/// What is read is written so that the strictest reader reads the same, from nothing and over what
/// arrived; and what was written once is not touched again.
fn check(format: Format, data: &[u8]) {
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

/// What a reader of `format` reads once it was written again.
fn as_written(format: Format, extracted: Extracted) -> Extracted {
    match extracted {
        // Its grammar has a parent behind a state alone; lenient reading takes one without.
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
    // By name alone: the order of repeated lines means something.
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    left
}
