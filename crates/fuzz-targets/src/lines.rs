//! Bytes as header lines, and header lines as the host serialises them.

use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::{Arrived, Field};

/// A request's header lines: lower-case names, any bytes as values.
pub(crate) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Each line of `data` is a line of one of `fields`: `name: value`, or the value alone where there
/// is one field. Any other name stands for one of the fields too, so that few bytes are wasted.
pub(crate) fn of_fields(fields: &[Field], data: &[u8]) -> Lines {
    let lines = data.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| match fields {
            [only] => (only.name().to_vec(), line.to_vec()),
            fields => {
                let colon = line.iter().position(|byte| *byte == b':');
                let (name, value) = line.split_at(colon.unwrap_or(0));
                let value = value.strip_prefix(b":").unwrap_or(value);
                let value = value.strip_prefix(b" ").unwrap_or(value);
                (field(fields, name).name().to_vec(), value.to_vec())
            }
        })
        .collect()
}

fn field(fields: &[Field], name: &[u8]) -> Field {
    let any = name.iter().map(|byte| usize::from(*byte)).sum::<usize>() % fields.len();
    let known = Field::from_name(name).filter(|field| fields.contains(field));
    known.unwrap_or(fields[any])
}

/// Calls `with` with the headers that arrive when `lines` are the lines of a request.
pub(crate) fn arrive<T>(lines: &Lines, with: impl FnOnce(&Arrived<'_>) -> T) -> T {
    let block = encode(lines);
    let headers = Headers::parse(&block).expect("a block that was just serialised");
    with(&Arrived::collect(headers))
}

/// `lines` as text, for messages.
pub(crate) fn text(lines: &Lines) -> String {
    let line = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
