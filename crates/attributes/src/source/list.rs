//! Values in lists of pairs: cookies and queries.

use meshtrace_headers::query_of;
use percent_encoding::percent_decode;

use crate::text::Raw;

/// The first cookie of that name (RFC 6265, section 4.2.1), whichever line it is in.
pub(super) fn cookie<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    lines
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let (key, value) = split_once(pair.trim_ascii(), b'=')?;
            (key == name).then_some(value)
        })
}

/// The first parameter of that name (WHATWG URL, "application/x-www-form-urlencoded").
pub(super) fn query<'r>(path: &[u8], name: &[u8], raw: &'r mut Raw) -> Option<&'r [u8]> {
    let value = query_of(path)?
        .split(|byte| *byte == b'&')
        .find_map(|pair| {
            let (key, value) = split_once(pair, b'=').unwrap_or((pair, b""));
            form_decoded(key).eq(name.iter().copied()).then_some(value)
        })?;
    raw.clear();
    raw.extend(form_decoded(value).take(raw.capacity()));
    Some(raw)
}

/// `text` with its percent-encoding undone (RFC 3986, section 2.1). Text that is no escape is kept.
pub(super) fn percent_decoded<'r>(text: &[u8], raw: &'r mut Raw) -> Option<&'r [u8]> {
    raw.clear();
    raw.extend(percent_decode(text).take(raw.capacity()));
    Some(raw)
}

fn form_decoded(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    // A plus is a space, but an escaped plus is a plus. So both are distinguished before decoding.
    text.split_inclusive(|byte| *byte == b'+').flat_map(|part| {
        let (part, space) = match part.strip_suffix(b"+") {
            Some(part) => (part, Some(b' ')),
            None => (part, None),
        };
        percent_decode(part).chain(space)
    })
}

/// The text before the first `separator`, and the text behind it.
pub(super) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_cookie_is_found_in_any_line() {
        for (lines, expected) in [
            (&["a=1; b=2"][..], Some("2")),
            (&["a=1", "b=2;b=3"], Some("2")),
            (&[" b=x=y "], Some("x=y")),
            (&["b=\"q\""], Some("\"q\"")),
            (&["b="], Some("")),
            (&["b", "bb=1", "=2"], None),
            (&[], None),
        ] {
            let found = cookie(lines.iter().map(|line| line.as_bytes()), b"b");
            assert_eq!(found, expected.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn a_parameter_is_decoded() {
        for (path, expected) in [
            ("/?b=2", Some("2")),
            ("/a/b=1?a=1&b=2&b=3", Some("2")),
            ("/?b=a+b%2B%20%41", Some("a b+ A")),
            ("/?%62=1", Some("1")),
            ("/?b=%zz%", Some("%zz%")),
            ("/?b", Some("")),
            ("/?b=1?2#3", Some("1?2")),
            ("/b=1", None),
            ("/?", None),
            ("", None),
        ] {
            let mut raw = Raw::new();
            let found = query(path.as_bytes(), b"b", &mut raw);
            assert_eq!(found, expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn a_long_parameter_is_cut() {
        let path = format!("/?b={}", "%41".repeat(5000));
        let mut raw = Raw::new();
        let found = query(path.as_bytes(), b"b", &mut raw).unwrap();
        assert_eq!(found, [b'A'; crate::text::MAX_TEXT]);
    }
}
