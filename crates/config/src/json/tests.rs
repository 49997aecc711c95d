//! What serde_json reads, and how it refuses the rest, is what is read here.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

/// What is said where a text is refused.
fn said<T, E: ToString>(result: &Result<T, E>) -> Option<String> {
    result.as_ref().err().map(ToString::to_string)
}

/// Every function reads what serde_json reads, and refuses the rest in its words.
fn as_serde_json_reads_it(text: &str) {
    let expected = serde_json::from_str::<&RawValue>(text);
    assert_eq!(said(&check(text)), said(&expected), "{text:?}");

    let begins_with = |bracket| text.trim_ascii_start().starts_with(bracket);
    if begins_with('"') {
        let expected = serde_json::from_str::<String>(text);
        let ours = string(text).map(Cow::into_owned);
        assert_eq!(said(&ours), said(&expected), "{text:?}");
        assert_eq!(ours.ok(), expected.ok(), "{text:?}");
    } else {
        assert!(string(text).is_err(), "{text:?}");
    }

    let mut list = Vec::new();
    let ours = items(text, &mut |item| list.push(item));
    let expected = serde_json::from_str::<Vec<&RawValue>>(text);
    if begins_with('[') {
        assert_eq!(said(&ours), said(&expected), "{text:?}");
    }
    assert_eq!(ours.is_ok(), expected.is_ok(), "{text:?}");
    if let Ok(expected) = expected {
        let expected: Vec<_> = expected.iter().map(|item| item.get()).collect();
        assert_eq!(list, expected, "{text:?}");
    }

    let mut object = BTreeMap::new();
    let ours = members(text, &mut |name, value| {
        object.insert(name.to_owned(), value);
    });
    let expected = serde_json::from_str::<BTreeMap<String, &RawValue>>(text);
    if begins_with('{') {
        assert_eq!(said(&ours), said(&expected), "{text:?}");
    }
    assert_eq!(ours.is_ok(), expected.is_ok(), "{text:?}");
    if let Ok(expected) = expected {
        let expected = expected
            .iter()
            .map(|(name, value)| (name.clone(), value.get()));
        assert_eq!(object, expected.collect(), "{text:?}");
    }
}

#[test]
fn texts_at_the_edges() {
    for text in [
        "",
        " ",
        "\n\n x",
        "nul",
        "nulx",
        "tru",
        "false",
        " true ",
        "truefalse",
        "-",
        "-a",
        "01",
        "-0",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "1E-5",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[1 2]",
        "[]]",
        "{",
        "{1",
        "{\"a\"",
        "{\"a\" 1}",
        "{\"a\":",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{\"a\":[}",
        "[{]",
        "{\"a\":{\"b\":[[], {}]}} ",
        "\"",
        "\"a",
        "\"a\nb\"",
        "\"\t\"",
        r#""\"#,
        r#""\x""#,
        r#""\u""#,
        r#""\u12"#,
        r#""\u12g4""#,
        r#""\u00e9\n\b\f\r\t\/\\\"""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
        r#""\ude00""#,
        r#""\ud83d\"#,
        r#"{"\ud83d": 1}"#,
        r#"{"\u0061": 1, "a": 2}"#,
        "'a'",
        "\u{feff}{}",
        "é",
        "\"é\" é",
        "[\n 1,\n  é]",
    ] {
        as_serde_json_reads_it(text);
    }
}

#[test]
fn no_depth_takes_the_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(said(&check(&deep)), None);
    let open = said(&check(&"[{\"a\":".repeat(100_000)));
    assert_eq!(
        open.as_deref(),
        Some("EOF while parsing a value at line 1 column 600000")
    );
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json(value in value(), is_pretty in any::<bool>()) {
        let text = match is_pretty {
            true => serde_json::to_string_pretty(&value),
            false => serde_json::to_string(&value),
        };
        as_serde_json_reads_it(&text.unwrap());
    }

    /// Nearly JSON: a part of it is left out, or another one put in.
    #[test]
    fn damaged_json(
        value in value(),
        place in any::<prop::sample::Index>(),
        removed in 0_usize..3,
        put in "[\\]\\[{}:,\"\\\\u0e.\n -]{0,2}",
    ) {
        let text = serde_json::to_string(&value).unwrap();
        let mut chars: Vec<char> = text.chars().collect();
        let from = place.index(chars.len());
        let to = (from + removed).min(chars.len());
        chars.splice(from..to, put.chars());
        as_serde_json_reads_it(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn nearly_anything(text in "[\\]\\[{}:,\"\\\\ud8c0e1.\n -]{0,24}") {
        as_serde_json_reads_it(&text);
    }
}
