//! Properties of the host, as text.

use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute::{self, AttributePath};

use crate::text::Raw;

/// The type of a property's bytes (Envoy, "Attributes"; proxy-wasm ABI: integers are eight
/// little-endian bytes, and so are times and durations, in nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
}

/// Returns the path in the form of the host, and the type of its value.
pub(super) fn compile(path: &[String]) -> Result<(Box<[u8]>, Kind), ConfigError> {
    let is_element = |element: &String| !element.is_empty() && !element.contains('\0');
    if path.is_empty() || !path.iter().all(is_element) {
        return Err(ConfigError::new(
            "property",
            "not a path, expected a list such as [\"xds\", \"cluster_name\"]",
        ));
    }
    let path = path.join("\0").into_bytes();
    let is_one_of = |paths: &[AttributePath]| paths.iter().any(|known| *known.property == *path);
    let kind = if is_one_of(attribute::INTEGERS) {
        Kind::Integer
    } else if is_one_of(attribute::BOOLEANS) {
        Kind::Boolean
    } else {
        Kind::Text
    };
    Ok((path.into(), kind))
}

impl Kind {
    /// `bytes` as text. Bytes whose length does not fit their kind are taken as text.
    pub(super) fn text<'v>(self, bytes: &'v [u8], raw: &'v mut Raw) -> Option<&'v [u8]> {
        match (self, bytes) {
            (Self::Integer, &[b0, b1, b2, b3, b4, b5, b6, b7]) => {
                let number = i64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
                raw.clear();
                raw.extend(itoa::Buffer::new().format(number).bytes());
                Some(raw)
            }
            (Self::Boolean, [0]) => Some(b"false"),
            (Self::Boolean, [1]) => Some(b"true"),
            _ => Some(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn text(path: &[&str], bytes: &[u8]) -> Vec<u8> {
        let path: Vec<_> = path.iter().map(|element| (*element).to_owned()).collect();
        let (_, kind) = compile(&path).unwrap();
        kind.text(bytes, &mut Raw::new()).unwrap().to_vec()
    }

    #[test]
    fn known_numbers_and_booleans_are_text() {
        assert_eq!(text(&["response", "code"], &404_i64.to_le_bytes()), b"404");
        assert_eq!(
            text(&["response", "grpc_status"], &(-1_i64).to_le_bytes()),
            b"-1"
        );
        assert_eq!(text(&["connection", "mtls"], &[1]), b"true");
        assert_eq!(text(&["connection", "mtls"], &[0]), b"false");
        assert_eq!(text(&["xds", "cluster_name"], b"eightlen"), b"eightlen");
        assert_eq!(text(&["response", "code"], b"200"), b"200");
    }

    #[test]
    fn a_path_is_joined_by_nul_and_has_no_empty_element() {
        let path = |elements: &[&str]| {
            let elements: Vec<_> = elements.iter().map(|e| (*e).to_owned()).collect();
            compile(&elements).map(|(joined, _)| joined.to_vec())
        };
        assert_eq!(path(&["xds", "node", "id"]).unwrap(), b"xds\0node\0id");
        for elements in [&[][..], &[""], &["xds", ""], &["a\0b"]] {
            assert!(path(elements).is_err(), "{elements:?}");
        }
    }
}
