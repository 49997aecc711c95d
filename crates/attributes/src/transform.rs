//! The changes to a value between its source and the span.

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use meshtrace_config::{ConfigError, Environment, each};
use sha2::Sha256;

use crate::config::{MAX_VALUE, TransformConfig};
use crate::lowercase::lowercase;
use crate::replace::{Replace, Spare};
use crate::text::{ValueText, cut, push, push_str, refuse_controls};
use crate::{Counter, Tally};

/// The most values of one list.
const MAX_ALLOWED: usize = 256;

/// A compiled [`TransformConfig`].
#[derive(Debug)]
pub(crate) enum Transform {
    Lowercase,
    Trim,
    Truncate(usize),
    HmacSha256(Option<Key>),
    Replace(Box<Replace>),
    Allow(Box<[Box<str>]>),
}

/// The result of a transformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transformed {
    /// The text is the value.
    Kept,
    /// The default replaces the value.
    Refused,
    /// The attribute is left out.
    Dropped,
}

impl Transform {
    #[inline(never)]
    pub(crate) fn new(
        config: &TransformConfig,
        spare: &mut Spare,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        Ok(match config {
            TransformConfig::Lowercase => Self::Lowercase,
            TransformConfig::Trim => Self::Trim,
            TransformConfig::Truncate(limit) => Self::Truncate(length("truncate", *limit)?),
            TransformConfig::HmacSha256(hmac) => {
                if hmac.key_env.is_empty() {
                    return Err(ConfigError::new(
                        "hmac_sha256.key_env",
                        "empty, expected the name of a variable of the VM's environment",
                    ));
                }
                let key = environment(&hmac.key_env).filter(|key| !key.is_empty());
                Self::HmacSha256(key.and_then(|key| Key::new(&key)))
            }
            TransformConfig::Replace(replace) => {
                let replace =
                    Replace::new(replace, spare).map_err(|error| error.below("replace"))?;
                Self::Replace(Box::new(replace))
            }
            TransformConfig::Allow(values) => {
                if values.is_empty() || values.len() > MAX_ALLOWED {
                    return Err(ConfigError::new(
                        "allow",
                        format!("{} values, expected 1 to {MAX_ALLOWED}", values.len()),
                    ));
                }
                each("allow", values, |_, value| refuse_controls("", value))?;
                Self::Allow(values.iter().map(|value| value.as_str().into()).collect())
            }
        })
    }

    /// Whether it is an `hmac_sha256` whose key is not in the environment.
    pub(crate) fn lacks_key(&self) -> bool {
        matches!(self, Self::HmacSha256(None))
    }

    /// Transforms `text`.
    #[inline(never)]
    pub(crate) fn apply(
        &self,
        text: &mut ValueText,
        spare: &mut Spare,
        tally: &mut Tally,
    ) -> Transformed {
        match self {
            Self::Lowercase if text.is_ascii() => text.make_ascii_lowercase(),
            Self::Lowercase => {
                let spare = &mut spare.text;
                spare.clear();
                for (char, mark) in text.chars().map(lowercase) {
                    let fits = push(spare, char, tally);
                    if !fits || mark.is_some_and(|mark| !push(spare, mark, tally)) {
                        break;
                    }
                }
                core::mem::swap(text, spare);
            }
            Self::Trim => {
                let spare = &mut spare.text;
                spare.clear();
                push_str(spare, text.trim(), tally);
                core::mem::swap(text, spare);
            }
            Self::Truncate(limit) => cut(text, *limit, tally),
            Self::HmacSha256(None) => {
                tally.count(Counter::HmacKeyMissing);
                return Transformed::Dropped;
            }
            Self::HmacSha256(Some(key)) => key.hash(text, tally),
            Self::Replace(replace) => {
                if replace.apply(text, spare, tally).is_err() {
                    tally.count(Counter::Dropped);
                    return Transformed::Dropped;
                }
                core::mem::swap(text, &mut spare.text);
            }
            Self::Allow(values) => {
                if !values.iter().any(|value| **value == **text) {
                    tally.count(Counter::NotAllowed);
                    return Transformed::Refused;
                }
            }
        }
        Transformed::Kept
    }
}

/// Checks a length in bytes that a configuration may set.
pub(crate) fn length(path: &str, length: usize) -> Result<usize, ConfigError> {
    if (1..=MAX_VALUE).contains(&length) {
        Ok(length)
    } else {
        Err(ConfigError::new(
            path,
            format!("invalid value: {length}, expected 1 to {MAX_VALUE}"),
        ))
    }
}

/// The state of an HMAC into which the key has been mixed already.
pub(crate) struct Key(Hmac<Sha256>);

impl Key {
    fn new(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(Self)
    }

    #[inline(never)]
    fn hash(&self, text: &mut ValueText, tally: &mut Tally) {
        let mut hmac = self.0.clone();
        hmac.update(text.as_bytes());
        let hash = hmac.finalize().into_bytes();
        text.clear();
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                let digit = char::from_digit(nibble.into(), 16).unwrap_or('0');
                push(text, digit, tally);
            }
        }
    }
}

/// Prints nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpanAttributesConfig;
    use crate::replace::MAX_MATCHES;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn compile(json: &str) -> Result<Transform, String> {
        let json = format!(
            r#"{{"attributes": [{{"key": "a", "from": {{"literal": ""}}, "transform": [{json}]}}]}}"#
        );
        let config: SpanAttributesConfig =
            meshtrace_config::read(json.as_bytes()).map_err(|e| e.to_string())?;
        let [config] = &*config.attributes[0].transform else {
            panic!("one")
        };
        let environment = |name: &str| match name {
            "KEY" => Some(b"Jefe".to_vec()),
            "EMPTY" => Some(Vec::new()),
            _ => None,
        };
        {
            let mut spare = Spare::default();
            spare.begin_load();
            Transform::new(config, &mut spare, &environment)
        }
        .map_err(|error| error.to_string())
    }

    fn transformed(json: &str, text: &str) -> (String, Transformed, Tally) {
        let mut text = ValueText::from(text).unwrap();
        let mut tally = Tally::default();
        let mut spare = Spare::default();
        spare.begin();
        let verdict = compile(json)
            .unwrap()
            .apply(&mut text, &mut spare, &mut tally);
        (text.to_string(), verdict, tally)
    }

    fn kept(json: &str, text: &str) -> String {
        let (text, verdict, _) = transformed(json, text);
        assert_eq!(verdict, Transformed::Kept);
        text
    }

    #[test]
    fn letters_space_and_length() {
        assert_eq!(kept(r#""lowercase""#, "Alice-1"), "alice-1");
        assert_eq!(kept(r#""lowercase""#, "ÄÖ İ"), "äö i\u{307}");
        assert_eq!(kept(r#""trim""#, " \u{a0}a b "), "a b");
        assert_eq!(kept(r#"{"truncate": 3}"#, "aéé"), "aé");
    }

    /// RFC 4231, test case 2.
    #[test]
    fn a_keyed_hash_is_that_of_the_rfc() {
        assert_eq!(
            kept(
                r#"{"hmac_sha256": {"key_env": "KEY"}}"#,
                "what do ya want for nothing?"
            ),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn without_a_key_nothing_is_kept() {
        for name in ["ABSENT", "EMPTY"] {
            let json = format!(r#"{{"hmac_sha256": {{"key_env": "{name}"}}}}"#);
            let (_, verdict, tally) = transformed(&json, "alice");
            assert_eq!(verdict, Transformed::Dropped);
            assert!(tally.has(Counter::HmacKeyMissing));
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let transform = compile(r#"{"hmac_sha256": {"key_env": "KEY"}}"#).unwrap();
        assert_eq!(format!("{transform:?}"), "HmacSha256(Some(Key))");
    }

    #[test]
    fn every_match_is_replaced() {
        for (pattern, with, text, expected) in [
            (r"\\d+", "#", "a12b3", "a#b#"),
            ("@.*$", "", "alice@example.com", "alice"),
            (r"^(\\w)\\w*-(?<last>\\w+)$", "${last}$1$$", "ab-cd", "cda$"),
            ("x*", "-", "axb", "-a-b-"),
            ("é?", ".", "éa", ".a."),
            ("", "-", "", "-"),
            ("b", "", "aaa", "aaa"),
        ] {
            let json = format!(r#"{{"replace": {{"pattern": "{pattern}", "with": "{with}"}}}}"#);
            let reference = regex_lite::Regex::new(&pattern.replace(r"\\", r"\")).unwrap();
            assert_eq!(kept(&json, text), expected, "{json}");
            assert_eq!(reference.replace_all(text, with), expected, "{json}");
        }
    }

    #[test]
    fn a_replacement_that_grows_is_cut() {
        let json = r#"{"replace": {"pattern": "a", "with": "bbbbbbbb"}}"#;
        let (text, verdict, tally) = transformed(json, &"a".repeat(MAX_VALUE));
        assert_eq!(text, "b".repeat(crate::text::MAX_TEXT));
        assert_eq!(verdict, Transformed::Kept);
        assert!(tally.has(Counter::Truncated));
    }

    #[test]
    fn a_long_value_is_cut_where_it_has_too_many_matches() {
        let json = r#"{"replace": {"pattern": "a", "with": "b"}}"#;
        assert_eq!(kept(json, &"a".repeat(MAX_VALUE)), "b".repeat(MAX_VALUE));
        let (text, _, tally) = transformed(json, &"a".repeat(MAX_VALUE + 1));
        assert_eq!(text, "b".repeat(MAX_MATCHES));
        assert!(tally.has(Counter::Truncated));
        let long = "x".repeat(MAX_VALUE) + &"a".repeat(MAX_MATCHES);
        assert_eq!(kept(json, &long), long.replace('a', "b"));
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let json = r#"{"allow": ["gold", "silver"]}"#;
        assert_eq!(kept(json, "gold"), "gold");
        let (_, verdict, tally) = transformed(json, "Gold");
        assert_eq!(verdict, Transformed::Refused);
        assert!(tally.has(Counter::NotAllowed));
    }

    #[test]
    fn impossible_transformations_are_refused() {
        let pattern = "a".repeat(257);
        for (json, expected) in [
            (
                r#"{"truncate": 0}"#,
                "truncate: invalid value: 0, expected 1 to 256",
            ),
            (r#"{"truncate": 257}"#, "truncate: invalid value: 257"),
            (r#"{"allow": []}"#, "allow: 0 values, expected 1 to 256"),
            (
                r#"{"hmac_sha256": {"key_env": ""}}"#,
                "hmac_sha256.key_env: empty",
            ),
            (
                r#"{"replace": {"pattern": "(", "with": ""}}"#,
                "replace.pattern: not a regular expression that can be used: ",
            ),
            (
                r#"{"replace": {"pattern": "\\w{1000}{1000}", "with": ""}}"#,
                "replace.pattern: not a regular expression that can be used: ",
            ),
            (
                &format!(r#"{{"replace": {{"pattern": "{pattern}", "with": ""}}}}"#),
                "replace.pattern: 257 bytes, expected at most 256",
            ),
            (
                r#"{"replace": {"pattern": "a", "with": "$1"}}"#,
                "replace.with: the pattern has no group \"1\"",
            ),
            (
                r#"{"replace": {"pattern": "a", "with": "${x"}}"#,
                "replace.with: a `${` without its `}`",
            ),
            (
                r#"{"replace": {"pattern": "a", "with": "$x"}}"#,
                "replace.with: a `$` that is no group",
            ),
            (
                r#""upper""#,
                "attributes[0].transform[0]: unknown variant `upper`, expected one of `lowercase`, `trim`",
            ),
        ] {
            let refusal = compile(json).unwrap_err();
            assert!(refusal.starts_with(expected), "{json}: {refusal}");
        }
    }
}
