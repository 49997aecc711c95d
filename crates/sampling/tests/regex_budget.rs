//! Regular expressions have a bound on the work of building their automata, which a worker does
//! while its requests wait.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_sampling::{RuleSampler, SamplingConfig};
use serde_json::json;

/// What is said of rules with these expressions; `None` when they are taken.
fn refusal(patterns: &[String]) -> Option<String> {
    let rule = |regex| json!({"match": {"path": {"regex": regex}}, "sample": "never"});
    let rules: Vec<_> = patterns.iter().map(rule).collect();
    let json = json!({"rules": rules}).to_string();
    let config: SamplingConfig = meshtrace_config::read(json.as_bytes()).unwrap();
    let sampling = RuleSampler::new(&config, &|_| None);
    sampling.err().map(|error| error.to_string())
}

fn words(count: u64) -> Vec<String> {
    let word = |i: u64| {
        let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let letter = |_| {
            x = x.rotate_left(9).wrapping_mul(0xd129_0d3c_4b2f_6a35);
            char::from(b'a' + u8::try_from(x % 26).unwrap())
        };
        (0..8).map(letter).collect()
    };
    (0..count).map(word).collect()
}

fn each(count: usize, pattern: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(pattern).collect()
}

#[test]
fn what_people_write_is_taken() {
    for patterns in [
        vec![
            r"/users/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/orders/[0-9]+"
                .into(),
            r".*\.(css|js|png|jpg|jpeg|gif|svg|woff2?|ico|map)".into(),
            "/(health|ready|live)z?(/.*)?".into(),
            "(?i)/api/v[0-9]+/.*".into(),
        ],
        each(100, |i| format!("/svc{i}/v[0-9]+/items/[^/]+")),
        each(100, |i| format!("/api/v{i}/[a-z]+/[0-9]{{1,10}}")),
        each(64, |i| format!(r".*\.x{i}")),
        each(8, |i| format!(".*a{i}.*")),
        vec![format!("/({})", words(200).join("|"))],
        vec!["(.*a){30}".into(), "(x+x+)+y".into(), "((a*)*)*".into()],
        vec!["(a{50}){50}".into()],
    ] {
        assert_eq!(refusal(&patterns), None, "{patterns:?}");
    }
}

#[test]
fn what_takes_too_many_steps_is_refused_and_the_rule_named() {
    for pattern in [
        "[01]*1[01]{20}".to_owned(),
        ".*a.{200}".to_owned(),
        ".*[a-m].{60}[n-z].*".to_owned(),
        "((a{50}){50}){50}".to_owned(),
        "(a?){1000}a{1000}".to_owned(),
        "(|a){20000}".to_owned(),
        format!("/.*({}).*", words(1000).join("|")),
        format!("/({})", words(20_000).join("|")),
        "a".repeat(1_000_000),
    ] {
        let refusal = refusal(core::slice::from_ref(&pattern)).unwrap();
        let why = if pattern.len() > 4096 {
            "long"
        } else {
            "large"
        };
        let expected = format!("rules[0].match.path.regex: too {why}: ");
        assert!(refusal.starts_with(&expected), "{refusal}");
        assert!(refusal.contains("`prefix` or `template`"), "{refusal}");
        assert!(refusal.len() < 1000, "{refusal}");
    }
    for patterns in [
        each(64, |i| format!(".*a{i}.*")),
        each(64, |i| format!("/.*/x{i}/.*")),
        each(4096, |i| format!("/svc{i}/.*/[0-9]+")),
        each(4096, |i| format!(".*{i}.*")),
    ] {
        let refusal = refusal(&patterns).unwrap();
        let expected =
            "rules: the regular expressions are too large together: there is no room for rules[";
        assert!(refusal.starts_with(expected), "{refusal}");
    }
    // What is bad among good ones is not what costs the others their place in the line.
    let mut patterns = each(20, |i| format!("/svc{i}/.*"));
    patterns.push(".*a.{200}".to_owned());
    let refusal = refusal(&patterns).unwrap();
    assert!(refusal.contains("no room for rules[20]."), "{refusal}");
}
