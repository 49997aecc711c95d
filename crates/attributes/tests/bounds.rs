//! What the patterns of a configuration may take: memory together when they are loaded, and work in
//! one request.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_attributes::{Attributes, Counter, SpanAttributesConfig, Tally};
use meshtrace_headers::{Arena, Headers, encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// It has 458 steps and more, each with the places of 115 groups.
fn long_pattern() -> String {
    format!("({}.){{2}}", "()".repeat(113))
}

/// Every match but the last looks at all that follows it.
fn slow_pattern() -> String {
    format!("(?:(?:.?){{60}}{}.*X)|a", "()".repeat(60))
}

/// This many attributes from the parameters `a` and `b`, by turns, each with so many replacements.
fn configuration(attributes: usize, each: usize, pattern: &str) -> String {
    let replace = format!(r#"{{"replace": {{"pattern": "{pattern}", "with": "a"}}}}"#);
    let transform = vec![replace; each].join(",");
    let attributes: Vec<_> = (0..attributes)
        .map(|i| {
            let from = ["a", "b"].into_iter().cycle().nth(i).unwrap();
            format!(
                r#"{{"key": "k{i}", "from": {{"query": "{from}"}}, "transform": [{transform}]}}"#
            )
        })
        .collect();
    format!(r#"{{"attributes": [{}]}}"#, attributes.join(","))
}

fn compile(json: &str) -> Result<Attributes, String> {
    meshtrace_config::read::<SpanAttributesConfig>(json.as_bytes())
        .and_then(|config| Attributes::new(&config, &|_| None))
        .map_err(|error| error.to_string())
}

#[test]
fn the_patterns_of_a_configuration_have_a_bound_together() {
    let pattern = long_pattern();
    assert!(compile(&configuration(21, 2, &pattern)).is_ok());
    let refusal = compile(&configuration(32, 2, &pattern)).unwrap_err();
    let expected = "attributes[21].transform[1].replace.pattern: the patterns of all attributes are too long together";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert!(compile(&configuration(32, 64, "[0-9]+x")).is_ok());
    let refusal = compile(&configuration(1, 65, "a")).unwrap_err();
    let expected = "attributes[0].transform[64]: one more transformation, expected at most 64";
    assert!(refusal.starts_with(expected), "{refusal}");
    let with = format!(
        r#"{{"attributes": [{{"key": "k", "from": {{"query": "a"}}, "transform": [{{"replace": {{"pattern": "a", "with": "{}"}}}}]}}]}}"#,
        "$$".repeat(513)
    );
    let refusal = compile(&with).unwrap_err();
    let expected = "attributes[0].transform[0].replace.with: 1026 bytes, expected at most 1024";
    assert!(refusal.starts_with(expected), "{refusal}");
}

/// The values of a request whose parameters are `a` and `b`.
fn values(attributes: &Attributes, a: &str, b: &str) -> (Vec<String>, bool) {
    let path = format!("/?a={a}&b={b}");
    let block = encode(&[(":path", path.as_str())]);
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let headers = Headers::parse(&block).unwrap();
    let gathered = attributes.of_request(headers, &[], &arena, &mut tally);
    let values = gathered.iter().map(|one| one.value.to_owned()).collect();
    (values, tally.has(Counter::Dropped))
}

/// A value for which the work is used up is left out: never as it came, and not in part.
#[test]
fn a_value_that_takes_too_much_work_is_left_out() {
    let long = "a".repeat(256);
    let attributes = compile(&configuration(1, 1, &slow_pattern())).unwrap();
    assert_eq!(values(&attributes, &long, ""), (vec![], true));
    // Each request has all of it again.
    for _ in 0..3 {
        assert_eq!(
            values(&attributes, "aXa", ""),
            (vec!["aa".to_owned()], false)
        );
    }
    // A default stands for a value that is not there, and this one is.
    let json = configuration(1, 1, &slow_pattern()).replace(r#""key""#, r#""default": "d", "key""#);
    let attributes = compile(&json).unwrap();
    assert_eq!(values(&attributes, &long, ""), (vec![], true));
}

/// The replacements of a request have one bound together: of many slow values the first ones use it
/// up, and those that cost little before them are there.
#[test]
fn the_work_of_a_request_is_bounded_whatever_the_number_of_attributes() {
    let attributes = compile(&configuration(32, 1, &slow_pattern())).unwrap();
    let long = "a".repeat(256);
    let (found, dropped) = values(&attributes, "X", &long);
    assert!(dropped);
    let known = found.len();
    assert!((2..16).contains(&known), "{known} of 32 attributes");
    assert!(found.iter().all(|value| value == "a"), "{found:?}");
}

/// What people write stays far below the bound, with the values that are worst for it.
#[test]
fn an_ordinary_pattern_never_meets_the_bound() {
    for pattern in [
        r"\\d+",
        ".*@|.",
        r"(?:\\w+\\.)+com|\\w",
        r"\\d{1,50}-\\d{1,50}-\\d{1,50}|\\d",
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}",
        r"(?:\\d[ -]*?){13,16}",
        r"^/(v\\d+)/(users|orders)/([^/]+)(/.*)?$",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})",
        r"(?i)bearer\\s+\\S+|\\w+",
    ] {
        let attributes = compile(&configuration(8, 1, pattern)).unwrap();
        for text in [
            "1",
            "a",
            "a@b.c",
            "127.0.0.1",
            "/v1/users/7/",
            "1234 ",
            "eyJ",
        ] {
            let long = text.repeat(1024 / text.len());
            let (found, dropped) = values(&attributes, &long, &long);
            assert_eq!((found.len(), dropped), (8, false), "{pattern} {text}");
        }
    }
}
