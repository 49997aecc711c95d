//! Refusals of what may be a secret: they say what is expected, and not what was found.

/// Keys whose content may be a secret, or beside which one may have been written by mistake.
const KEYS: &[&str] = &["force", "hmac_sha256"];
/// A key whose content may be a secret below that of [`HEADERS_OF`].
const HEADERS: &str = "headers";
const HEADERS_OF: &str = "report";

/// Whether the value at `path` may be a secret.
pub(crate) fn is_secret(path: &str) -> bool {
    let mut before = "";
    path.split('.').any(|segment| {
        let is_secret = KEYS.contains(&segment) || (before == HEADERS_OF && segment == HEADERS);
        before = segment;
        is_secret
    })
}

/// What serde says without the value that it found: `invalid type: string, expected a map`.
pub(crate) fn without_value(message: &str) -> String {
    let parts = message
        .split_once(": ")
        .filter(|(problem, _)| problem.starts_with("invalid"));
    // The last one: a value can have these words in it, and what is expected has them not.
    let Some((problem, (found, expected))) =
        parts.and_then(|(problem, rest)| Some((problem, rest.rsplit_once(", expected ")?)))
    else {
        return message.to_owned();
    };
    let kind = found.split(['"', '`']).next().unwrap_or_default();
    format!("{problem}: {}, expected {expected}", kind.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_path() {
        for (path, expected) in [
            ("report.headers", true),
            ("report.headers.authorization", true),
            ("mesh_tracing.report.headers.x", true),
            ("force", true),
            ("sampling.force.value_env", true),
            ("attributes[0].transform[1].hmac_sha256.key_env", true),
            ("report.resource.a", false),
            ("rules[0].match.headers[0].name", false),
            ("report", false),
            ("", false),
        ] {
            assert_eq!(is_secret(path), expected, "{path}");
        }
    }

    #[test]
    fn only_the_value_is_left_out() {
        for (message, expected) in [
            (
                "invalid type: string \"Bearer a, expected b\", expected a map at line 1 column 2",
                "invalid type: string, expected a map at line 1 column 2",
            ),
            (
                "invalid type: floating point `4.2`, expected a string",
                "invalid type: floating point, expected a string",
            ),
            (
                "invalid type: sequence, expected a string",
                "invalid type: sequence, expected a string",
            ),
            (
                "unknown field `key`, expected `key_env`",
                "unknown field `key`, expected `key_env`",
            ),
        ] {
            assert_eq!(without_value(message), expected);
        }
    }
}
