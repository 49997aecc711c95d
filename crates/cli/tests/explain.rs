//! `meshtrace explain` and `meshtrace test` as they are run.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test may fail"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/explain.md");

fn meshtrace(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("a process")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

/// The blocks of the page in this language, each with the text before it.
fn blocks(language: &str) -> Vec<(&'static str, &'static str)> {
    let start = format!("```{language}\n");
    let mut blocks = Vec::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once(&start) {
        let (block, after) = after.split_once("```").expect("the block's end");
        blocks.push((before.trim_end(), block));
        rest = after;
    }
    blocks
}

#[test]
fn the_page_shows_what_is_printed() {
    let folder = folder_with(&[]);
    for (before, text) in blocks("yaml") {
        let line = before.lines().last().expect("a line");
        let name = line
            .strip_prefix('`')
            .and_then(|line| line.strip_suffix("`:"));
        fs::write(folder.path().join(name.expect("a name")), text).expect("a file");
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_meshtrace"));
    let binaries = binary.parent().expect("its folder").display();
    let consoles = blocks("console");
    assert!(consoles.len() >= 5, "{}", consoles.len());
    for (_, text) in consoles {
        let (command, shown) = text.split_once('\n').expect("a command");
        let command = command.strip_prefix("$ ").expect("a prompt");
        let output = Command::new("sh")
            .args(["-c", &format!("PATH={binaries}:$PATH; {command} 2>&1")])
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        assert_eq!(out(&output), shown, "{command}");
    }
}

#[test]
fn the_page_names_every_flag() {
    let folder = folder_with(&[]);
    let help = out(&meshtrace(folder.path(), &["explain", "--help"]));
    for word in help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
    {
        let flag = word.trim_end_matches(|character: char| !character.is_ascii_lowercase());
        if flag.len() > 2 && flag != "--help" {
            assert!(PAGE.contains(&format!("`{flag}")), "{flag}");
        }
    }
}

#[test]
fn the_filter_is_told_by_the_configuration_or_by_name() {
    let folder = folder_with(&[
        ("a.json", r#"{"extract": ["b3"], "inject": ["b3"]}"#),
        ("b.json", "{}"),
        (
            "plugin.yaml",
            "kind: WasmPlugin\nspec: {url: oci://a/trace_context:1, pluginConfig: {inject: [b3]}}\n",
        ),
    ]);
    let explain = |arguments: &[&str]| {
        let arguments: Vec<_> = ["explain"].iter().chain(arguments).copied().collect();
        meshtrace(folder.path(), &arguments)
    };
    let told = explain(&["a.json"]);
    assert_eq!(told.status.code(), Some(0), "{}", err(&told));
    assert!(out(&told).starts_with("trace_context: GET / of localhost\n"));
    for filter in [
        "access_log_trace",
        "mesh-tracing",
        "route_sampling",
        "span-attributes",
        "trace-context",
    ] {
        let named = explain(&[filter, "b.json", "--output", "json"]);
        assert_eq!(named.status.code(), Some(0), "{}", err(&named));
        let document: Value = serde_json::from_str(&out(&named)).expect("JSON");
        assert_eq!(document["filter"], filter.replace('-', "_"));
    }
    // The configuration itself, in YAML too; and a file of Istio with one filter.
    for config in [r#"{"inject": ["b3"]}"#, "{inject: [b3]}", "plugin.yaml"] {
        let told = explain(&[config]);
        assert_eq!(told.status.code(), Some(0), "{config}: {}", err(&told));
        assert!(out(&told).starts_with("trace_context: GET / of localhost\n"));
    }
    let named = explain(&["trace_context.wasm", "plugin.yaml"]);
    assert_eq!(named.status.code(), Some(0), "{}", err(&named));
    let untold = explain(&["b.json"]);
    assert_eq!(untold.status.code(), Some(1));
    assert!(
        err(&untold).contains("name the filter first"),
        "{}",
        err(&untold)
    );
}

#[test]
fn what_is_wrong_is_told_in_a_sentence() {
    let folder = folder_with(&[
        ("a.json", r#"{"inject": ["w3c"]}"#),
        ("documents.yaml", "inject: [b3]\n---\ninject: [b3]\n"),
        ("tab.yaml", "inject:\n\t- b3\n"),
        (
            "two.yaml",
            "kind: WasmPlugin\nspec: {url: oci://a/trace_context:1}\n---\nkind: WasmPlugin\nspec: {url: oci://a/route_sampling:1}\n",
        ),
        (
            "number.yaml",
            "filter: trace-context\ncases: [{name: a, request: {headers: {x-b3-spanid: 0000000000000001}}, expect: {sampled: true}}]\n",
        ),
        (
            "peer.yaml",
            "filter: trace-context\ncases: [{name: a, request: {peer: x}, expect: {sampled: true}}]\n",
        ),
        (
            "file.yaml",
            "filter: trace-context\nconfig: a.json\ncases: [{name: a, expect: {sampled: true}}]\n",
        ),
        (
            "cases.yaml",
            "filter: x\ncases: [{name: a, expect: {sampled: true}}]\n",
        ),
        ("none-yet.yaml", "filter: trace-context\ncases: []\n"),
        (
            "vain.yaml",
            "filter: trace-context\ncases: [{name: a, expect: {}}]\n",
        ),
        (
            "slip.yaml",
            "filter: trace-context\ncases: [{name: a, expct: {}}]\n",
        ),
        (
            "refused.yaml",
            "filter: trace-context\nconfig: {injct: []}\ncases: [{name: a, expect: {rule: b}}]\n",
        ),
    ]);
    for (arguments, code, sentence) in [
        (
            &["explain", "trace-context", "a.json"][..],
            1,
            "error MT012 a.json:1:13 inject[0]: \"w3c\" is not allowed here; did you mean",
        ),
        (
            &["explain", "trace-context", "tab.yaml"],
            1,
            "error MT001 tab.yaml:2:2 ",
        ),
        (
            &["explain", "trace-context", "documents.yaml"],
            1,
            "documents.yaml is no YAML of one document",
        ),
        (
            &["explain", "two.yaml"],
            1,
            "two.yaml has several configurations, of route-sampling, trace-context;",
        ),
        (
            &["explain", "span-attributes", "two.yaml"],
            1,
            "two.yaml has no span-attributes, but route-sampling, trace-context",
        ),
        (
            &["explain", "trace-context", "none.json"],
            1,
            "none.json cannot be read",
        ),
        (
            &["explain", "envoy", "a.json"],
            1,
            "unknown filter \"envoy\"",
        ),
        (
            &["explain", "a.json", "--header", "x"],
            2,
            "expected NAME: VALUE",
        ),
        (&["explain", "a.json", "--header", ":path: /"], 2, "--path"),
        (
            &["explain", "a.json", "--header", "x-é: a"],
            2,
            "\"x-é\" is no name of a header",
        ),
        (
            &["explain", "a.json", "--header", "a: b\r\nc: d"],
            2,
            "the value of a has a line break",
        ),
        (
            &["explain", "a.json", "--peer", "somebody"],
            2,
            "expected an IP address",
        ),
        (&["explain", "a.json", "--path", "a"], 2, "begins with /"),
        (&["explain", "a.json", "--method", ""], 2, "--method"),
        (
            &["test", "number.yaml"],
            2,
            "a header's value in quotes, or a list of them",
        ),
        (
            &["test", "peer.yaml"],
            2,
            "case \"a\": expected an IP address",
        ),
        (&["test", "file.yaml"], 2, "a.json:1:13 inject[0]"),
        (&["test", "cases.yaml"], 2, "unknown filter \"x\""),
        (&["test", "none-yet.yaml"], 2, "has no cases"),
        (&["test", "vain.yaml"], 2, "the case \"a\" expects nothing"),
        (
            &["test", "slip.yaml"],
            2,
            "line 2 column 19: unknown field `expct`",
        ),
        (
            &["test", "refused.yaml"],
            2,
            "trace_context.injct: unknown field",
        ),
        (&["test", "none.yaml"], 2, "none.yaml cannot be read"),
        (&["test", "a.json"], 2, "a.json is no file of cases"),
    ] {
        let output = meshtrace(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            err(&output).contains(sentence),
            "{arguments:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn cases_name_rules_by_their_place_and_print_no_control_characters() {
    let folder = folder_with(&[(
        "cases.yaml",
        "{filter: route-sampling, config: {rules: [{match: {path: {exact: /a}}, sample: always}]}, cases: [\n\
         {name: \"a\\n\\e[31m\", request: {path: /a, direction: INBOUND}, expect: {rule: 0}},\n\
         {name: b, request: {path: /a}, expect: {rule: \"x\\e[0m\"}}]}\n",
    )]);
    let output = meshtrace(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let text = out(&output);
    assert!(
        text.starts_with("ok a\u{fffd}\u{fffd}[31m\nFAIL b\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn cases_end_with_0_where_all_are_ok_and_with_1_otherwise() {
    let case = |inject: &str| {
        format!(
            r#"{{"filter": "trace-context", "config": {{"inject": ["{inject}"]}}, "cases": [
                {{"name": "b3 leaves", "request": {{"headers": {{
                    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}},
                "expect": {{"headers": {{
                    "b3": "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"}}}}}}]}}"#
        )
    };
    let folder = folder_with(&[("good.json", &case("b3")), ("bad.json", &case("b3multi"))]);
    let good = meshtrace(folder.path(), &["test", "good.json"]);
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    assert_eq!(out(&good), "ok b3 leaves\n1 case, 0 failed\n");
    // The configuration tells whose it is.
    let without = case("b3").replace(r#""filter": "trace-context", "#, "");
    let folder = folder_with(&[("good.json", &without), ("bad.json", &case("b3multi"))]);
    let good = meshtrace(folder.path(), &["test", "good.json"]);
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    let bad = meshtrace(folder.path(), &["test", "bad.json"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(out(&bad).contains("FAIL b3 leaves\n  headers.b3\n    expected  4bf9"));
    assert!(out(&bad).contains("    found     (none)\n1 case, 1 failed\n"));
}

#[test]
fn failed_cases_are_annotations_of_their_lines_and_a_document() {
    let folder = folder_with(&[(
        "cases.yaml",
        "filter: route-sampling\n\
         config: {rules: [{name: pay, match: {path: {prefix: /pay}}, sample: always}], default: never}\n\
         cases:\n\
         - {name: pay, request: {path: /pay/7}, expect: {rule: pay}}\n\
         - name: \"pay, or not: 100 %\"\n  request: {path: /PAY/7}\n  expect: {sampled: true, rule: pay}\n",
    )]);
    let run = |form: &str| meshtrace(folder.path(), &["test", "cases.yaml", "--output", form]);
    let github = run("github");
    assert_eq!(github.status.code(), Some(1), "{}", err(&github));
    assert_eq!(
        out(&github),
        "::error file=cases.yaml,line=5,title=pay%2C or not%3A 100 %25::sampled: expected true, found false\
         %0Arule: expected pay, found default\n"
    );
    assert_eq!(err(&github), "2 cases, 1 failed\n");
    let json: Value = serde_json::from_str(&out(&run("json"))).expect("JSON");
    assert_eq!(
        json["summary"],
        serde_json::json!({"cases": 2, "failed": 1})
    );
    assert_eq!(
        json["cases"][0],
        serde_json::json!({"name": "pay", "line": 4, "ok": true, "differences": []})
    );
    assert_eq!(
        json["cases"][1]["differences"][1],
        serde_json::json!({"key": "rule", "expected": "pay", "found": "default"})
    );
}

/// Runs the command with a terminal as its standard output.
fn on_a_terminal(folder: &Path, arguments: &[&str], no_colour: &str) -> String {
    let script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let output = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_meshtrace")])
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", no_colour)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("a terminal");
    out(&output)
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let folder = folder_with(&[
        ("context.json", r#"{"extract": ["b3"]}"#),
        ("bad.json", r#"{"extrct": ["b3"]}"#),
    ]);
    let id = "b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";
    for arguments in [
        &["explain", "trace-context", "context.json", "-H", id][..],
        &["check", "--filter", "trace-context", "bad.json"],
    ] {
        let plain = out(&meshtrace(folder.path(), arguments));
        assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{plain}");
        // NO_COLOR counts where it is not empty.
        let coloured = on_a_terminal(folder.path(), arguments, "");
        assert!(coloured.contains("\u{1b}["), "{coloured}");
        let without = on_a_terminal(folder.path(), arguments, "1");
        assert!(!without.contains('\u{1b}'), "{without}");
        assert!(
            without.replace('\r', "").contains(plain.trim_end()),
            "{without}"
        );
    }
}
