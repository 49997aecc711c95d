//! Suggestions for words that are not known ("did you mean").

/// Words of other tools, with the corresponding words of meshtrace.
const SYNONYMS: [(&str, &str); 16] = [
    ("w3c", "tracecontext"),
    ("traceparent", "tracecontext"),
    ("otel", "tracecontext"),
    ("opentelemetry", "tracecontext"),
    ("trace_context", "tracecontext"),
    ("zipkin", "b3multi"),
    ("b3single", "b3"),
    ("b3_multi", "b3multi"),
    ("b3_single", "b3"),
    ("grpc", "grpc-trace-bin"),
    ("amzn", "xray"),
    ("aws", "xray"),
    ("stackdriver", "gcp"),
    ("dd", "datadog"),
    ("http", "http/protobuf"),
    ("propagators", "extract"),
];

/// The suggestion for an unknown key.
pub(crate) fn keys(key: &str, allowed: &[&str]) -> String {
    sentence(key, allowed, &[], "the keys here are")
}

/// The suggestion for a value that is not one of `words` and has none of the `forms`.
pub(crate) fn values(value: &str, words: &[&str], forms: &[String]) -> String {
    sentence(value, words, forms, "expected")
}

fn sentence(found: &str, words: &[&str], forms: &[String], list_is: &str) -> String {
    if let Some(close) = closest(found, words) {
        return format!("did you mean {close:?}?");
    }
    let quoted = words.iter().map(|word| format!("{word:?}"));
    format!(
        "{list_is} {}",
        list(quoted.chain(forms.iter().cloned()).collect())
    )
}

/// `a, b or c`.
pub(crate) fn list(mut words: Vec<String>) -> String {
    let mut seen = Vec::new();
    words.retain(|word| {
        let is_new = !seen.contains(word);
        seen.push(word.clone());
        is_new
    });
    match words.pop() {
        None => "nothing".to_owned(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
    }
}

/// The allowed word that is closest to `found`, where one is close.
pub(crate) fn closest<'w>(found: &str, words: &[&'w str]) -> Option<&'w str> {
    if found.len() > 64 {
        return None;
    }
    let plain = |text: &str| {
        text.chars()
            .filter(|letter| !matches!(letter, '_' | '-' | ' ' | '.'))
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    let own = plain(found);
    if let Some(same) = words.iter().find(|word| plain(word) == own) {
        return Some(same);
    }
    let synonym = SYNONYMS
        .iter()
        .find(|(name, _)| plain(name) == own)
        .and_then(|(_, word)| words.iter().find(|own| *own == word));
    if let Some(word) = synonym {
        return Some(word);
    }
    if own.len() >= 3 {
        let mut longer = words.iter().filter(|word| plain(word).starts_with(&own));
        if let (Some(word), None) = (longer.next(), longer.next()) {
            return Some(word);
        }
    }
    let most = (found.chars().count() / 3).clamp(1, 3);
    words
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&own, &plain(word)), *word))
        .filter(|(distance, word)| *distance <= most && *distance < word.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_suggested_and_nothing_else() {
        let formats = ["tracecontext", "b3", "b3multi", "jaeger"];
        for (found, expected) in [
            ("extrakt", None),
            ("w3c", Some("tracecontext")),
            ("traceContext", Some("tracecontext")),
            ("b3-multi", Some("b3multi")),
            ("jaegr", Some("jaeger")),
            ("b4", Some("b3")),
            ("x", None),
        ] {
            assert_eq!(closest(found, &formats), expected, "{found}");
        }
        assert_eq!(
            closest("maxLength", &["max_length", "key"]),
            Some("max_length")
        );
    }
}
