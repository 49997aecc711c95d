//! Configurations that are refused, and what is said about them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_sampling::{RuleSampler, SamplingConfig};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn refusal(config: &str) -> String {
    let config: Result<SamplingConfig, _> = meshtrace_config::read(config.as_bytes());
    let compiled = config.and_then(|config| RuleSampler::new(&config, &|_| None));
    compiled.map(|_| ()).expect_err("a refusal").to_string()
}

/// What stands in `rules[0]` behind its `sample`.
fn rule(rest: &str) -> String {
    format!(r#"{{"rules": [{{"sample": "always", {rest}}}]}}"#)
}

fn matching(matches: &str) -> String {
    rule(&format!(r#""match": {matches}"#))
}

#[test]
fn a_refusal_names_the_path_what_was_found_and_what_is_allowed() {
    let names = |one: &str, other: &str| {
        format!(
            r#"{{"rules": [{{"name": "{one}", "sample": "always"}}, {{"name": "{other}", "sample": "never"}}]}}"#
        )
    };
    for (config, expected) in [
        (
            r#"{"rule": []}"#.into(),
            "rule: unknown field `rule`, expected one of `rules`, `default`",
        ),
        (
            r#"{"rules": [{}]}"#.into(),
            "rules[0]: missing field `sample`",
        ),
        (
            r#"{"default": "sometimes"}"#.into(),
            "default: invalid value: string \"sometimes\", expected \"always\", \"never\", \
             \"unchanged\", {\"ratio\": 0.1} or {\"per_second\": 5}",
        ),
        (
            r#"{"default": {"rate": 1}}"#.into(),
            "default.rate: unknown variant `rate`, expected `ratio` or `per_second`",
        ),
        (
            r#"{"default": {"ratio": 1.5}}"#.into(),
            "default.ratio: impossible value: 1.5, expected a part of all traces, 0 < ratio <= 1",
        ),
        (
            r#"{"default": {"ratio": -1}}"#.into(),
            "default.ratio: impossible value: -1",
        ),
        (
            r#"{"default": {"per_second": 1e9}}"#.into(),
            "default.per_second: impossible value: 1000000000",
        ),
        (
            r#"{"rules": [{"sample": {"ratio": 2}}]}"#.into(),
            "rules[0].sample.ratio: impossible value: 2",
        ),
        (
            r#"{"parent": "obey"}"#.into(),
            "parent: unknown variant `obey`, expected one of `respect`",
        ),
        (
            r#"{"force": {"header": "x"}}"#.into(),
            "force: missing field `value_env`",
        ),
        (
            r#"{"force": {"header": ":x", "value_env": "A"}}"#.into(),
            "force.header: invalid value",
        ),
        (
            r#"{"force": {"header": "x", "value_env": ""}}"#.into(),
            "force.value_env: invalid value",
        ),
        (
            r#"{"force": {"header": "x", "value_env": "aHVudGVyMg=="}}"#.into(),
            "force.value_env: invalid value, expected the name of an environment variable",
        ),
        (
            r#"{"force": "hunter2"}"#.into(),
            "force: invalid type: string, expected an object",
        ),
        (
            r#"{"force": {"header": "Content-Length", "value_env": "A"}}"#.into(),
            "force.header: invalid value: string \"Content-Length\", expected the name of a header that does not frame",
        ),
        (
            r#"{"request_header": "connection"}"#.into(),
            "request_header: invalid value: string \"connection\", expected the name of a header that does not",
        ),
        (
            r#"{"request_header": ":path"}"#.into(),
            "request_header: invalid value: string \":path\"",
        ),
        (
            rule(r#""name": "a b""#),
            "rules[0].name: invalid value: string \"a b\", expected 1 to 64 letters",
        ),
        (
            names("a", "a"),
            "rules[1].name: \"a\" is another rule's name",
        ),
        (
            names("1", "x").replace(r#""name": "x", "#, ""),
            "rules[1].name: \"1\" is another rule's name",
        ),
        (
            matching(r#"{"path": {"exact": "health"}}"#),
            "rules[0].match.path.exact: invalid value: string \"health\"",
        ),
        (
            matching(r#"{"path": {"exact": "/a?b"}}"#),
            "rules[0].match.path.exact: invalid value",
        ),
        (
            matching(r#"{"path": {"prefix": ""}}"#),
            "rules[0].match.path.prefix: invalid value",
        ),
        (
            matching(r#"{"path": {"glob": "*"}}"#),
            "rules[0].match.path: unknown variant `glob`, expected one of",
        ),
        (
            matching(r#"{"path": {"template": "/a/{b}c"}}"#),
            "rules[0].match.path.template: invalid value",
        ),
        (
            matching(r#"{"path": {"template": "/{}"}}"#),
            "rules[0].match.path.template: invalid value",
        ),
        (
            matching(r#"{"path": {"template": "/files/*.js"}}"#),
            "rules[0].match.path.template: invalid value: string \"/files/*.js\", expected segments",
        ),
        (
            matching(r#"{"path": {"template": "/**/x"}}"#),
            "rules[0].match.path.template: invalid value",
        ),
        (
            matching(r#"{"path": {"template": "a/{b}"}}"#),
            "rules[0].match.path.template: invalid value: string \"a/{b}\", expected a path",
        ),
        (
            matching(r#"{"path": {"regex": "/a["}}"#),
            "rules[0].match.path.regex: not a regular expression of RE2's kind: ",
        ),
        (
            matching(r#"{"path": {"regex": "a)|(b"}}"#),
            "rules[0].match.path.regex: not a regular expression",
        ),
        (
            matching(&format!(
                r#"{{"path": {{"regex": "{}"}}}}"#,
                "ab[cd]".repeat(25_000)
            )),
            "rules[0].match.path.regex: too long: 150000 bytes, expected at most 4096",
        ),
        (
            matching(r#"{"path": {"regex": ".*a.{200}"}}"#),
            "rules[0].match.path.regex: too large: its automaton has more than 524288 bytes",
        ),
        (
            matching(r#"{"host": "shop:80"}"#),
            "rules[0].match.host: invalid value: string \"shop:80\"",
        ),
        (
            matching(r#"{"host": "a.*.b"}"#),
            "rules[0].match.host: invalid value",
        ),
        (
            matching(r#"{"methods": []}"#),
            "rules[0].match.methods: empty",
        ),
        (
            matching(r#"{"methods": ["GET", "post"]}"#),
            "rules[0].match.methods[1]: invalid value",
        ),
        (matching(r#"{"route": ""}"#), "rules[0].match.route: empty"),
        (
            matching(r#"{"cluster": ""}"#),
            "rules[0].match.cluster: empty; expected a name",
        ),
        (
            matching(r#"{"cluster": {"prefix": ""}}"#),
            "rules[0].match.cluster.prefix: empty; expected a name",
        ),
        (
            matching(r#"{"cluster": {"suffix": "x"}}"#),
            "rules[0].match.cluster: unknown variant `suffix`, expected `exact` or `prefix`",
        ),
        (
            matching(r#"{"cluster": 5}"#),
            "rules[0].match.cluster: invalid type: integer `5`, expected a name, or {\"prefix\"",
        ),
        (
            matching(r#"{"headers": [{"name": "x"}]}"#),
            "rules[0].match.headers[0]: expected exactly one of `exact`, `prefix` and `present: true`",
        ),
        (
            matching(r#"{"headers": [{"name": "x", "exact": "1", "present": true}]}"#),
            "rules[0].match.headers[0]: expected exactly one",
        ),
        (
            matching(r#"{"headers": [{"name": "", "exact": "1"}]}"#),
            "rules[0].match.headers[0].name: invalid value",
        ),
    ] {
        let refusal = refusal(&config);
        assert!(refusal.starts_with(expected), "{config}: {refusal}");
    }
}

#[test]
fn paths_have_at_most_so_many_forms_and_segments() {
    let rule = |path: String| format!(r#"{{"match": {{"path": {path}}}, "sample": "never"}}"#);
    let form = |number: usize| {
        let segment = |at| {
            if number & (1_usize << at) == 0 {
                "/a"
            } else {
                "/{v}"
            }
        };
        rule(format!(
            r#"{{"template": "{}"}}"#,
            (0..7_usize).map(segment).collect::<String>()
        ))
    };
    let rules: Vec<_> = (0..64).map(form).collect();
    let config = format!(r#"{{"rules": [{}]}}"#, rules.join(","));
    let config: SamplingConfig = meshtrace_config::read(config.as_bytes()).expect("rules");
    RuleSampler::new(&config, &|_| None).expect("64 forms");
    let rules: Vec<_> = (0..65).map(form).collect();
    let told = refusal(&format!(r#"{{"rules": [{}]}}"#, rules.join(",")));
    let expected = "rules: the path templates have their variables in more than 64 ways within 7 \
                    segments; expected fewer";
    assert!(told.starts_with(expected), "{told}");

    let long = rule(format!(r#"{{"exact": "{}"}}"#, "/a".repeat(1 << 16)));
    let told = refusal(&format!(r#"{{"rules": [{long}]}}"#));
    let expected = "rules: the paths, prefixes and templates have more than 65536 segments";
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn there_are_at_most_so_many_rules_and_expressions() {
    let rules = vec![r#"{"sample": "never"}"#; 4097].join(",");
    let refusal_of_rules = refusal(&format!(r#"{{"rules": [{rules}]}}"#));
    assert!(refusal_of_rules.starts_with("rules[4096]: too many rules; expected at most 4096"));

    // Each fits, and no two of them together.
    let rules: Vec<_> = (0..12)
        .map(|i| {
            let letter = char::from(b'a' + i);
            format!(
                r#"{{"match": {{"path": {{"regex": ".*{letter}.{{9}}"}}}}, "sample": "never"}}"#
            )
        })
        .collect();
    let refusal = refusal(&format!(r#"{{"rules": [{}]}}"#, rules.join(",")));
    assert!(
        refusal.starts_with("rules: the regular expressions are too large together"),
        "{refusal}"
    );
}

#[test]
fn an_empty_configuration_changes_nothing() {
    let config: SamplingConfig = meshtrace_config::read(b"").unwrap();
    let sampling = RuleSampler::new(&config, &|_| None).unwrap();
    assert_eq!(sampling.request_header(), Some(&b"x-envoy-force-trace"[..]));
    let none: SamplingConfig = meshtrace_config::read(br#"{"request_header": null}"#).unwrap();
    let sampling = RuleSampler::new(&none, &|_| None).unwrap();
    assert_eq!(sampling.request_header(), None);
}
