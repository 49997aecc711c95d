//! The request headers as they leave.

use meshtrace_headers::{Change, Edits, Headers};
use meshtrace_pipeline::ByFilterState;
use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::{Arrived, OnRepeated};

use crate::explanation::HeaderChange;

/// Header lines, by name.
pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// Applies `edits` to the lines that were `sent`, as the host does. With `by_filter_state` the
/// route configuration also removes headers.
pub(crate) fn apply(
    sent: &Lines,
    edits: &Edits<'_>,
    by_filter_state: Option<&ByFilterState>,
) -> Lines {
    let mut left = sent.clone();
    let families = edits.families();
    left.retain(|(name, _)| {
        let name = name.as_bytes();
        !families.iter().any(|prefix| name.starts_with(prefix))
    });
    for header in by_filter_state.into_iter().flat_map(ByFilterState::removed) {
        left.retain(|(name, _)| name.as_bytes() != header);
    }
    for edit in edits.iter() {
        if !matches!(edit.change, Change::Append(_)) {
            left.retain(|(name, _)| name.as_bytes() != edit.name);
        }
        if let Change::Replace(value) | Change::Append(value) = &edit.change {
            left.push((shown(edit.name), value.as_bytes().to_vec()));
        }
    }
    left
}

/// The headers that differ, in the order of their names.
pub(crate) fn changes(sent: &Lines, left: &Lines) -> Vec<HeaderChange> {
    let mut names: Vec<_> = sent.iter().chain(left).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let values = |lines: &Lines, name: &String| -> Vec<String> {
        let lines = lines.iter().filter(|(candidate, _)| candidate == name);
        lines.map(|(_, value)| shown(value)).collect()
    };
    let change = |name: &String| HeaderChange {
        name: name.clone(),
        before: values(sent, name),
        after: values(left, name),
    };
    let changes = names.into_iter().map(change);
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

/// The sampling decision in the headers, in the first format that has one.
pub(crate) fn decision(headers: Headers<'_>) -> Option<bool> {
    let arrived = Arrived::collect_as(headers, OnRepeated::default());
    Format::ALL.iter().find_map(|format| {
        match format.parse(&arrived, Reading { b3_strict: false }) {
            Extracted::Context(context) => context.sampling.decision(),
            Extracted::Sampling(sampling) => sampling.decision(),
            Extracted::Absent | Extracted::Incomplete { .. } | Extracted::Malformed => None,
        }
    })
}

/// Bytes as text. Any bytes are allowed.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|character| match character.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => character,
        })
        .collect()
}
