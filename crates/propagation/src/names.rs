//! Lists of names, for messages.

/// `names`, each with a comma and a space after it. The last comma and space are removed.
pub(crate) const fn list(names: &'static str) -> &'static str {
    match names.split_at_checked(names.len().saturating_sub(2)) {
        Some((list, _)) => list,
        None => names,
    }
}
