//! Pieces of Envoy's substitution format and of CEL.
//!
//! A `%CEL(…)%` with an absent header, or with any other error, gives an empty text. `matches` with
//! a constant pattern is compiled once. `re.extract` is compiled on every request and is the only
//! expensive function (7 µs), so it is used only where no other function can cut a text.

use meshtrace_envoy::attribute;
use meshtrace_envoy::filter_state::WASM_PREFIX;

/// A substitution with the text that a filter of this project has set as filter state `key`.
pub(crate) fn filter_state(key: &str) -> String {
    format!("%FILTER_STATE({WASM_PREFIX}{key}:PLAIN)%")
}

/// `%CEL(expression)%`. The result is empty where `expression` is empty or has an error.
pub(crate) fn cel(expression: impl AsRef<str>) -> String {
    format!("%CEL({})%", expression.as_ref())
}

/// `condition ? value : ''` in CEL.
///
/// Every expression begins with such a condition: `error && x` evaluates `x` too, and an absent
/// header is an error.
pub(crate) fn when(condition: impl AsRef<str>, value: impl AsRef<str>) -> String {
    format!("({}) ? {} : ''", condition.as_ref(), value.as_ref())
}

/// `condition ? value : otherwise` in CEL.
pub(crate) fn choose(condition: &str, value: &str, otherwise: &str) -> String {
    format!("({condition}) ? ({value}) : ({otherwise})")
}

/// The first line of `header` as a substitution.
pub(crate) fn first(header: &str) -> String {
    format!("%REQ({header})%")
}

/// The first `length` bytes of the first line of `header` as a substitution.
pub(crate) fn first_bytes(header: &str, length: usize) -> String {
    format!("%REQ({header}):{length}%")
}

/// The value of `header` in CEL: repeated lines are joined by commas.
pub(crate) fn value(header: &str) -> String {
    format!("{}['{header}']", attribute::REQUEST_HEADERS.expression)
}

/// Whether the request has `header`, in CEL.
pub(crate) fn has(header: &str) -> String {
    format!("'{header}' in {}", attribute::REQUEST_HEADERS.expression)
}

/// Whether `header` is absent, in CEL.
pub(crate) fn lacks(header: &str) -> String {
    format!("!({})", has(header))
}

/// Whether the value of `header` is one of `texts`, in CEL.
pub(crate) fn is_one_of(header: &str, texts: &[&str]) -> String {
    let equals: Vec<_> = texts
        .iter()
        .map(|text| format!("{} == '{text}'", value(header)))
        .collect();
    format!("({})", equals.join(" || "))
}

/// Whether the value of `header` matches `pattern`, in CEL.
pub(crate) fn matches(header: &str, pattern: &str) -> String {
    format!("{}.matches('{pattern}')", value(header))
}

/// `count` times `digit`. Envoy limits the size of a compiled pattern (at most 100 from 1.40), and
/// the form `{16}` has the same size.
pub(crate) fn digits(digit: &str, count: usize) -> String {
    digit.repeat(count)
}

pub(crate) fn zeros(count: usize) -> String {
    "0".repeat(count)
}
