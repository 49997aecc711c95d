//! Known mistakes: each yields its codes at its places, and nothing else.
//!
//! A file or a folder of `tests/mistakes` is one case. Its first line says what is expected, and
//! with which options:
//! `# expect: MT012 3:12, MT011 2.yaml:4:3 | --envoy 1.36`. What is in `tests/correct` has no finding.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshtrace_check::{Code, Filter, Input, Options, check};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    cases
}

fn inputs(case: &Path) -> Vec<Input> {
    let mut files = vec![case.to_owned()];
    if case.is_dir() {
        let entries = fs::read_dir(case).expect("a folder");
        files = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
    }
    let input = |file: &PathBuf| Input {
        name: file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned(),
        bytes: fs::read(file).expect("a file"),
    };
    files.iter().map(input).collect()
}

fn options(words: &str) -> Options {
    let mut options = Options::default();
    let mut words = words.split_whitespace();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            "--filter" => options.filter = Filter::named(value),
            "--envoy" => options.envoy = value.parse().ok(),
            "--istio" => options.istio = value.parse().ok(),
            _ => panic!("{name}"),
        }
    }
    options
}

fn expectation(inputs: &[Input]) -> (String, Options) {
    let text = String::from_utf8_lossy(&inputs[0].bytes);
    let head = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "));
    let head = head.unwrap_or_else(|| panic!("{} has no expectation", inputs[0].name));
    let (expected, words) = head.split_once(" | ").unwrap_or((head, ""));
    (expected.to_owned(), options(words))
}

#[test]
fn what_is_correct_has_no_finding() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/correct");
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let inputs = inputs(&entry.expect("an entry").path());
        let report = check(&inputs, &Options::default());
        let lines: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{lines:#?}");
        files += 1;
    }
    assert!(files >= 5, "{files}");
}

#[test]
fn every_mistake_is_found_where_it_stands_and_nothing_else_is() {
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut codes = BTreeSet::new();
    for case in &cases {
        let inputs = inputs(case);
        let (expected, options) = expectation(&inputs);
        let report = check(&inputs, &options);
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|finding| {
                codes.insert(finding.code);
                let file = match inputs.len() {
                    1 => String::new(),
                    _ => format!("{}:", finding.file),
                };
                format!("{} {file}{}:{}", finding.code, finding.line, finding.column)
            })
            .collect();
        let lines: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(", "), expected, "{}: {lines:#?}", case.display());
    }
    let never: Vec<_> = Code::ALL
        .iter()
        // From 110 on they are a running proxy's: tests/running.
        .filter(|code| code.as_str() < "MT110" && !codes.contains(code))
        .collect();
    assert!(never.is_empty(), "codes without a mistake: {never:?}");
}
