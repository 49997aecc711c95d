//! The target of a request: `:path` (RFC 9113, section 8.3.1).

/// The path of `target`, without its query. Envoy refuses or strips a fragment. A target that a
/// filter before this one wrote may still have a fragment, which is not part of the path.
#[must_use]
pub fn path_of(target: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'?' | b'#');
    let end = target.iter().position(is_end).unwrap_or(target.len());
    target.get(..end).unwrap_or(target)
}

/// The query of `target`, without the question mark and without a fragment; `None` where there is
/// none.
#[must_use]
pub fn query_of(target: &[u8]) -> Option<&[u8]> {
    let start = target.iter().position(|byte| *byte == b'?')?;
    let query = target.get(start + 1..)?;
    query.split(|byte| *byte == b'#').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_path_ends_at_its_query() {
        for (target, path, query) in [
            ("/a/b", "/a/b", None),
            ("/a?x=1", "/a", Some("x=1")),
            ("/a?x=1?y#z", "/a", Some("x=1?y")),
            ("/a#z", "/a", None),
            ("/a?", "/a", Some("")),
            ("*", "*", None),
            ("", "", None),
        ] {
            assert_eq!(path_of(target.as_bytes()), path.as_bytes());
            assert_eq!(query_of(target.as_bytes()), query.map(str::as_bytes));
        }
    }
}
