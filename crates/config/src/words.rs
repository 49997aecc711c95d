//! Lists in a sentence.

/// Joins `items` for a sentence: `a`, `a and b`, `a, b and c`.
#[must_use]
#[inline(never)]
pub fn list<'i>(items: impl IntoIterator<Item = &'i str>) -> String {
    let items: Vec<&str> = items.into_iter().collect();
    match items.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => [&others.join(", "), " and ", last].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::list;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(list([]), "");
        assert_eq!(list(["a"]), "a");
        assert_eq!(list(["a", "b"]), "a and b");
        assert_eq!(list(["a", "b", "c"]), "a, b and c");
    }
}
