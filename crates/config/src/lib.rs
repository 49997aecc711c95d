//! Reads a plugin configuration. A refusal has every mistake in it, each with the JSON path of the
//! value, and what is wrong with it.
//!
//! A struct is read from an object with [`object!`], an enum from a string with [`words!`], anything
//! else with an `impl` of [`Read`]. The reading goes on after a mistake: a [`Draft`] has what could
//! be read, and what is wrong with it.

#![forbid(unsafe_code)]

mod document;
mod error;
pub mod json;
mod number;
mod quote;
mod read;
mod value;
mod words;

pub use error::{ConfigError, Mistake, Mistakes, both, each};
pub use read::{Draft, Read, read};
pub use value::{Key, Kind, Value};
pub use words::list;

/// Looks up a variable of the VM's environment; `None` when it is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<Vec<u8>>;

/// How a filter changes request headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename_all = "snake_case"))]
pub enum RequestHeaders {
    /// The filter edits the headers. Envoy then chooses the request's route again.
    #[default]
    Edit,
    /// The filter edits no header. It sets filter state `wasm.<header>` to the value that should
    /// leave, and the route configuration writes the header from it.
    FilterState,
}

words!(RequestHeaders {
    Edit = "edit",
    FilterState = "filter_state",
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Example {
        list: Vec<u8>,
        inner: Inner,
        kind: Kind,
        map: BTreeMap<String, u8>,
        headers: BTreeMap<String, String>,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    enum Kind {
        #[default]
        One,
        Two,
    }

    #[derive(Debug, Default, PartialEq)]
    struct Inner {
        on: bool,
    }

    object!(Example {
        list,
        inner,
        kind,
        map,
        headers
    });
    object!(Inner { on });
    words!(Kind {
        One = "one",
        Two = "two",
    });

    fn refusal(json: &str) -> String {
        read::<Example>(json.as_bytes())
            .unwrap_err()
            .below("plugin")
            .to_string()
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        for json in ["", " \n", "{}"] {
            assert_eq!(read::<Example>(json.as_bytes()), Ok(Example::default()));
        }
    }

    #[test]
    fn a_refusal_names_the_path_what_was_found_and_what_is_allowed() {
        for (json, expected) in [
            (
                r#"{"list": [1, "two"]}"#,
                r#"plugin.list[1]: invalid type: string "two", expected a whole number from 0 to 255 at line 1 column 18"#,
            ),
            (
                r#"{"inner": {"off": true}}"#,
                "plugin.inner.off: unknown field `off`, expected `on` at line 1 column 16",
            ),
            ("[]", "plugin: not a JSON object, expected one such as {}"),
        ] {
            let refusal = refusal(json);
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_whatever_the_keys() {
        let refusal = refusal(r#"{"inner": {"a\nb\u0000": true}}"#);
        let expected = r"plugin.inner.a\nb\u{0}: unknown field `a\nb\u{0}`, expected `on`";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    /// Each is refused in one line that can be read.
    #[test]
    fn a_refusal_is_short_whatever_the_value() {
        let long = "é\"\\`, expected ".repeat(100_000);
        let quoted = serde_json::to_string(&long).unwrap();
        let deep = format!("{}1{}", r#"{"inner": "#.repeat(100), "}".repeat(100));
        let many = format!(
            r#"{{"inner": {{{}"on": 1}}}}"#,
            r#""on": true, "#.repeat(10_000)
        );
        for json in [
            format!(r#"{{"list": [{quoted}]}}"#),
            format!(r#"{{"list": {quoted}}}"#),
            format!(r#"{{"inner": {quoted}}}"#),
            format!(r#"{{"inner": {{{quoted}: true}}}}"#),
            format!(r#"{{{quoted}: {{{quoted}: true}}}}"#),
            format!(r#"{{"kind": {quoted}}}"#),
            format!(r#"{{"map": {{{quoted}: {quoted}}}}}"#),
            format!(r#"{{"list": [{}]}}"#, "9".repeat(1_000_000)),
            format!(r#"{{"list": [{}]}}"#, "1,".repeat(1_000_000)),
            format!(r#"{{"list": {}}}"#, "[".repeat(100_000)),
            format!(r#"{{"list": {quoted}"#),
            quoted.clone(),
            deep,
            many,
        ] {
            let refusal = refusal(&json);
            assert!(refusal.len() <= 1_750, "{} bytes: {refusal}", refusal.len());
            assert!(!refusal.chars().any(char::is_control), "{refusal}");
            assert!(refusal.matches('é').count() < 400, "{refusal}");
            let says_why = ["expected", "duplicate field `on`"]
                .iter()
                .any(|why| refusal.contains(why));
            assert!(says_why, "{refusal}");
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        let json = "{\n\"list\": [1.0, 1e2, 20e-1,\n 3, 0.5e1, -0.0]}";
        let example = read::<Example>(json.as_bytes()).unwrap();
        assert_eq!(example.list, [1, 100, 2, 3, 5, 0]);
        for number in ["1.5", "1e3", "-1.0", "1e400", "1e-1"] {
            let refusal = refusal(&format!(r#"{{"list": [2.0, {number}]}}"#));
            let is_told = refusal.starts_with("plugin.list[1]: invalid") || number == "1e400";
            assert!(is_told, "{refusal}");
        }
    }

    #[test]
    fn a_long_value_is_cut_at_a_character_and_its_length_told() {
        let key = "é".repeat(5_000_000);
        let refusal = refusal(&format!("{{\n\"inner\": {{\"{key}\": 1}}}}"));
        let (path, message) = refusal.split_once(": ").unwrap();
        let shown = "é".repeat(80);
        assert_eq!(path, format!("plugin.inner.{shown}… (10000000 bytes)"));
        let expected =
            format!("unknown field `{shown}… (10000000 bytes)`, expected `on` at line 2");
        assert!(message.starts_with(&expected), "{message}");
    }

    #[test]
    fn a_refusal_does_not_tell_a_header_s_value() {
        for (json, expected) in [
            (
                r#"{"headers": "authorization: secret"}"#,
                "plugin.headers: invalid type: string, expected an object",
            ),
            (
                r#"{"headers": {"authorization": ["secret"]}}"#,
                "plugin.headers.authorization: invalid type: list, expected a string",
            ),
            (
                r#"{"headers": {"x-key": 5555}}"#,
                "plugin.headers.x-key: invalid type: integer, expected a string",
            ),
        ] {
            let refusal = refusal(json);
            assert!(refusal.starts_with(expected), "{refusal}");
            assert!(
                !refusal.contains("secret") && !refusal.contains("5555"),
                "{refusal}"
            );
        }
        for path in ["report", "report.path", "mesh_tracing.report.authority"] {
            let own = ConfigError::new(path, "invalid type: string \"secret\", expected a host");
            assert_eq!(
                own.to_string(),
                format!("{path}: invalid type: string, expected a host")
            );
        }
        let bare = ConfigError::new("force", "invalid value: string \"secret\"");
        assert_eq!(bare.to_string(), "force: invalid value: string");
        let variant = ConfigError::new("force", "unknown variant `secret`, expected `a`");
        assert_eq!(variant.to_string(), "force: unknown variant, expected `a`");
        let own = ConfigError::new(
            "report.headers.a",
            "invalid value: string \"secret\", expected text",
        );
        assert_eq!(
            own.to_string(),
            "report.headers.a: invalid value: string, expected text"
        );
    }

    /// Whoever writes `name: value` in the place of a name has written a secret there.
    #[test]
    fn a_line_in_the_place_of_a_name_is_not_told() {
        for (path, message) in [
            (
                "force.header",
                "invalid value: string \"x-force: secret\", expected a name",
            ),
            (
                "s.force.header",
                "invalid value: string \"x-force=secret\", expected a name",
            ),
            (
                "force.header",
                "invalid value: string \"Bearer secret\", expected a name",
            ),
            (
                "force.header",
                "invalid value: string \"x \\\"secret\\\"\", expected a name",
            ),
            (
                "force.x-force: secret",
                "unknown field `x-force: secret`, expected `header`",
            ),
            (
                "force.a.b: secret",
                "unknown field `a.b: secret`, expected `header`",
            ),
            (
                "hmac_sha256.key: secret",
                "unknown field `key: secret`, expected `key_env`",
            ),
            (
                "report.headers.authorization: secret",
                "invalid type: integer `1`, expected a string",
            ),
            (
                "rules[0].match.headers[0].name",
                "invalid value: string \"x: secret\", expected a name",
            ),
        ] {
            let refusal = ConfigError::new(path, message).to_string();
            assert!(!refusal.contains("secret"), "{refusal}");
            let key = ["force", "hmac_sha256", "headers"].map(|key| refusal.contains(key));
            assert!(key.contains(&true), "{refusal}");
            if message.contains("expected") {
                assert!(refusal.contains("expected"), "{refusal}");
            }
        }
        let unknown = ConfigError::new("force.x", "unknown field `x`, expected `header`");
        let expected = "force.x: unknown field, expected `header`";
        assert_eq!(unknown.to_string(), expected);
        for (path, message) in [
            (
                "force.header",
                "invalid value: string \"te\", expected another name",
            ),
            ("report.headers.te", "the protocol decides it"),
        ] {
            let refusal = ConfigError::new(path, message).to_string();
            assert_eq!(refusal, format!("{path}: {message}"));
        }
    }

    /// A key may look like the end of a line and the begin of another one.
    #[test]
    fn a_refusal_forges_no_line() {
        let refusal = refusal("{\"a\\r\\n\\u0085\\u2028\\u202e[error] b\": 1}");
        let expected = r"plugin.a\r\n\u{85}\u{2028}\u{202e}[error] b: unknown field `a\r\n\u{85}\u{2028}\u{202e}[error] b`, expected";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn what_is_not_json_is_said_to_be_so() {
        for json in ["{", "extract: [b3]", "{} {}", "\u{1}\u{2}"] {
            let refusal = refusal(json);
            assert!(refusal.starts_with("plugin: not JSON ("), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_has_every_mistake_in_the_order_of_the_text() {
        let json =
            r#"{"kind": "three", "lists": [], "inner": {"on": 1, "off": 0}, "list": [1, -1, "a"]}"#;
        let mistakes: Vec<_> = [
            "kind: unknown variant `three`, expected `one` or `two` at line 1 column 16",
            "lists: unknown field `lists`, expected one of `list`, `inner`, `kind`, `map`, `headers` at line 1 column 25",
            "inner.on: invalid type: integer `1`, expected a boolean at line 1 column 48",
            "inner.off: unknown field `off`, expected `on` at line 1 column 55",
            "list[1]: invalid value: integer `-1`, expected a whole number from 0 to 255 at line 1 column 75",
            "list[2]: invalid type: string \"a\", expected a whole number from 0 to 255 at line 1 column 80",
        ]
        .map(|mistake| format!("plugin.{mistake}"))
        .into();
        assert_eq!(refusal(json), mistakes.join("; also "));
    }

    #[test]
    fn a_list_has_a_bound_on_its_items() {
        let list = |items: usize| format!(r#"{{"list": [{}1]}}"#, "1,".repeat(items - 1));
        let read_list = read::<Example>(list(1 << 15).as_bytes()).unwrap();
        assert_eq!(read_list.list.len(), 1 << 15);
        let expected = "plugin.list: more than 32768 items at line 1 column 10";
        assert_eq!(refusal(&list((1 << 15) + 1)), expected);
        // What is wrong with those that are left out is not told: they are not read.
        let refusal = refusal(&format!(r#"{{"list": [{}1]}}"#, "null,".repeat(100_000)));
        assert!(refusal.ends_with(" more"), "{refusal}");
        let (told, untold) = told_and_untold(&refusal);
        assert_eq!(told + untold, (1 << 15) + 1, "{refusal}");
    }

    /// The number of mistakes that the line tells of, and the number of the others.
    fn told_and_untold(refusal: &str) -> (usize, usize) {
        let (told, untold) = match refusal.rsplit_once("; and ") {
            Some((told, more)) => (told, more.strip_suffix(" more").unwrap().parse().unwrap()),
            None => (refusal, 0),
        };
        (told.split("; also ").count(), untold)
    }

    #[test]
    fn a_line_tells_of_as_many_mistakes_as_have_room_and_counts_the_others() {
        for (mistakes, size) in [(2, 75), (20, 75), (400, 75), (5, 5), (20, 5), (99, 1)] {
            let long = (0..mistakes)
                .map(|i| format!("\"{i}{}\": 0", "é".repeat(size)))
                .collect::<Vec<_>>()
                .join(",");
            let refusal = read::<Example>(format!("{{{long}}}").as_bytes()).unwrap_err();
            let refusal = refusal.to_string();
            assert!(refusal.len() <= 1_750, "{}: {refusal}", refusal.len());
            let (told, untold) = told_and_untold(&refusal);
            assert_eq!(told + untold, mistakes, "{refusal}");
            assert!((1..=20).contains(&told), "{refusal}");
        }
        let many = format!(r#"{{"list": [{}true]}}"#, "null, ".repeat(99));
        let (told, untold) = told_and_untold(&refusal(&many));
        assert!(told >= 10 && told + untold == 100, "{told} and {untold}");
    }

    /// What stands in the place of a value that could not be read is not refused too.
    #[test]
    fn what_follows_from_another_mistake_is_not_told() {
        let compile = |example: &Example| -> Result<(), ConfigError> {
            let mut mistakes = Mistakes::default();
            mistakes.require(example.inner.on, "inner.on", "expected true");
            mistakes.require(!example.list.is_empty(), "list", "empty");
            let judged = ConfigError::new("map", "not with this kind").judged_by("kind");
            mistakes.keep::<()>(Err(judged));
            mistakes.end()
        };
        let refusal = |json: &str| {
            let draft = Draft::<Example>::read(json.as_bytes());
            draft.compile(compile).unwrap_err().to_string()
        };
        assert_eq!(
            refusal(r#"{"inner": {"on": 1}}"#),
            "inner.on: invalid type: integer `1`, expected a boolean at line 1 column 18; also list: empty; \
             also map: not with this kind"
        );
        assert_eq!(
            refusal(r#"{"kind": 1, "list": [true]}"#),
            "kind: invalid type: integer `1`, expected a string at line 1 column 10; also list[0]: invalid \
             type: boolean `true`, expected a whole number from 0 to 255 at line 1 column 25; also inner.on: \
             expected true"
        );
        assert_eq!(
            refusal("[]"),
            "not a JSON object, expected one such as {} at line 1 column 1".replace("not", ": not")
        );
    }
}
