//! Values of white space, and values that end in it: what stands in filter state, and what in a
//! header.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_attributes::{Attributes, Counter, SpanAttributesConfig, Tally};
use meshtrace_headers::{Arena, Change, Edits, Headers, encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The attribute `a` from the query's `a`, as filter state and as a header.
fn of_query(rest: &str, value: &str) -> (Option<String>, Option<Vec<u8>>, Tally) {
    let json = format!(
        r#"{{"attributes": [{{"key": "a", "from": {{"query": "a"}}{rest}}}],
            "emit": {{"request_header_prefix": "x-p-"}}}}"#
    );
    let config = meshtrace_config::read::<SpanAttributesConfig>(json.as_bytes()).unwrap();
    let attributes = Attributes::new(&config, &|_| None).unwrap();
    let path = format!("/?a={value}");
    let block = encode(&[(":path", path.as_str())]);
    let headers = Headers::parse(&block).unwrap();
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let found = attributes.of_request(headers, &[], &arena, &mut tally);
    let mut edits = Edits::new_in(&arena, 8);
    attributes.write_headers(&found, headers, &arena, &mut edits, &mut tally);
    let header = edits.change_of(b"x-p-a").map(|change| match change {
        Change::Replace(value) => value.as_bytes().to_vec(),
        Change::Remove | Change::Append(_) => panic!("an attribute without a value is not written"),
    });
    (
        found.first().map(|found| found.value.to_owned()),
        header,
        tally,
    )
}

#[test]
fn a_header_has_no_space_at_its_ends_whatever_was_done_to_the_value() {
    let transform = |text: &str| format!(r#", "transform": [{text}]"#);
    for (rest, value, state, header) in [
        (String::new(), "%20x", " x", "x"),
        (String::new(), "x+", "x ", "x"),
        (String::new(), "+x%09+", " x\u{fffd} ", "x\u{fffd}"),
        (transform(r#"{"truncate": 3}"#), "ab%20cd", "ab ", "ab"),
        (r#", "max_length": 3"#.to_owned(), "ab%20cd", "ab ", "ab"),
        (
            transform(r#"{"replace": {"pattern": "-", "with": " "}}"#),
            "-a-",
            " a ",
            "a",
        ),
        (transform(r#"{"allow": [" a "]}"#), "+a+", " a ", "a"),
        (transform("\"lowercase\""), "+A", " a", "a"),
        (
            r#", "transform": [{"allow": ["a"]}], "default": " none ""#.to_owned(),
            "b",
            " none ",
            "none",
        ),
        (transform("\"trim\""), "+x+", "x", "x"),
    ] {
        let (found, written, _) = of_query(&rest, value);
        assert_eq!(found.as_deref(), Some(state), "{rest} {value}");
        assert_eq!(
            written.as_deref(),
            Some(header.as_bytes()),
            "{rest} {value}"
        );
    }
}

#[test]
fn white_space_alone_is_no_value_and_is_counted() {
    for (rest, value) in [
        ("", "+"),
        ("", "%20+%20"),
        (
            r#", "transform": [{"replace": {"pattern": "x", "with": " "}}]"#,
            "x",
        ),
        (r#", "max_length": 2"#, "++x"),
    ] {
        let (found, written, tally) = of_query(rest, value);
        assert_eq!((found, written), (None, None), "{rest} {value}");
        assert!(tally.has(Counter::Blank), "{rest} {value}");
    }
    let (found, _, tally) = of_query(r#", "default": "none""#, "+");
    assert_eq!(found.as_deref(), Some("none"));
    assert!(tally.has(Counter::Blank));
    let (_, _, tally) = of_query("", "");
    assert!(!tally.has(Counter::Blank), "nothing is no white space");
}
