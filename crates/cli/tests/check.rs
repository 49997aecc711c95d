//! `meshtrace check` as it is run.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run printed, and how it ended.
struct Run {
    out: String,
    err: String,
    code: Option<i32>,
}

fn run(folder: &Path, arguments: &[&str], stdin: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let input = child.stdin.take();
    // A command that reads no input may be gone already.
    let _ = input.expect("its input").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("its end");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Run {
        out: text(output.stdout),
        err: text(output.stderr),
        code: output.status.code(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const GOOD: &str = r#"{"extract": ["b3"], "inject": ["tracecontext"]}"#;
const BAD: &str = "{\n  \"extrct\": [\"b3\"],\n  \"inject\": [\"w3c\"]\n}";

#[test]
fn findings_are_lines_and_errors_end_with_1() {
    let folder = folder();
    fs::write(folder.path().join("a.json"), BAD).expect("a file");
    let run = run(
        folder.path(),
        &["check", "a.json", "--filter", "trace-context"],
        "",
    );
    assert_eq!(
        run.out,
        "error MT011 a.json:2:3 extrct: unknown key \"extrct\"; did you mean \"extract\"?\n\
         error MT012 a.json:3:14 inject[0]: \"w3c\" is not allowed here; did you mean \"tracecontext\"?\n"
    );
    assert_eq!(run.err, "1 file, 2 errors\n");
    assert_eq!(run.code, Some(1));
}

#[test]
fn warnings_and_nothing_end_with_0() {
    let folder = folder();
    let rules = r#"{"rules": [{"sample": "never"}, {"sample": "always"}]}"#;
    let warned = run(folder.path(), &["check", "-"], rules);
    assert!(
        warned.out.starts_with("warning MT060 <stdin>:1:"),
        "{}",
        warned.out
    );
    assert_eq!(
        (warned.err.as_str(), warned.code),
        ("1 file, 1 warning\n", Some(0))
    );
    for name in ["trace-context", "trace_context"] {
        let good = run(folder.path(), &["check", "-", "--filter", name], GOOD);
        assert_eq!(good.out, "");
        assert_eq!(
            (good.err.as_str(), good.code),
            ("no findings in 1 file\n", Some(0))
        );
    }
}

/// As `meshtrace init` writes it for Istio.
#[test]
fn a_folder_is_checked_with_the_folders_in_it() {
    let folder = folder();
    for below in ["apply/more", ".hidden"] {
        let path = folder.path().join("setup").join(below);
        fs::create_dir_all(&path).expect("a folder");
        fs::write(path.join("trace-context.json"), BAD).expect("a file");
    }
    fs::write(folder.path().join("setup/README.md"), "# no YAML: [").expect("a file");
    let run = run(folder.path(), &["check", "setup"], "");
    let place = "setup/apply/more/trace-context.json:2:3";
    assert!(run.out.contains(place), "{}{}", run.out, run.err);
    assert_eq!(
        (run.err.as_str(), run.code),
        ("1 file, 2 errors\n", Some(1))
    );
}

#[test]
fn a_named_filter_takes_a_map_alone() {
    let folder = folder();
    let run = run(
        folder.path(),
        &["check", "-", "--filter", "mesh-tracing"],
        "[]",
    );
    assert_eq!(
        run.out,
        "error MT012 <stdin>:1:1 a list is not a configuration; expected a map such as {}\n"
    );
    assert_eq!(run.code, Some(1));
}

#[test]
fn what_cannot_be_read_ends_with_2() {
    let folder = folder();
    let missing = run(folder.path(), &["check", "missing.yaml"], "");
    assert!(
        missing
            .err
            .starts_with("meshtrace: missing.yaml cannot be read: "),
        "{}",
        missing.err
    );
    let empty = run(folder.path(), &["check", "."], "");
    assert!(empty.err.contains("has no *.yaml"), "{}", empty.err);
    let broken = run(folder.path(), &["check", "-"], "a: [");
    assert!(
        broken.out.starts_with("error MT001 <stdin>:1:"),
        "{}",
        broken.out
    );
    let usage = run(folder.path(), &["check", "-", "--envoy", "new"], "");
    for run in [missing, empty, broken, usage] {
        assert_eq!(run.code, Some(2), "{}", run.err);
    }
}

#[test]
fn the_files_of_a_folder_are_checked_together() {
    let folder = folder();
    let plugin = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec:\n  phase: AUTHN\n  \
                  url: oci://registry.acme.dev/meshtrace/trace_context:1\n  failStrategy: FAIL_OPEN\n  selector: {matchLabels: \
                  {meshtrace-downstream: enabled}}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: shop, labels: {app: shop}}\n";
    fs::write(folder.path().join("plugin.yaml"), plugin).expect("a file");
    fs::write(folder.path().join("pod.yml"), pod).expect("a file");
    fs::write(folder.path().join("notes.txt"), "a: [").expect("a file");
    let run = run(folder.path(), &["check", "."], "");
    assert!(
        run.out.contains("warning MT100 ./plugin.yaml:8:50 "),
        "{}",
        run.out
    );
    assert_eq!(
        (run.err.as_str(), run.code),
        ("2 files, 1 warning\n", Some(0))
    );
}

#[test]
fn json_and_github_have_the_same_findings() {
    let folder = folder();
    let arguments = ["check", "-", "--filter", "trace_context", "--output"];
    let json = run(folder.path(), &[&arguments[..], &["json"]].concat(), BAD);
    let document: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(document["findings"][0]["code"], "MT011");
    assert_eq!(document["findings"][0]["line"], 2);
    assert_eq!(document["findings"][1]["path"], "inject[0]");
    assert_eq!(document["summary"]["errors"], 2);
    let github = run(folder.path(), &[&arguments[..], &["github"]].concat(), BAD);
    let first = github.out.lines().next().expect("a line");
    assert_eq!(
        first,
        "::error file=<stdin>,line=2,col=3,title=MT011 A key that the filter does not know::extrct: unknown key \"extrct\"; did \
         you mean \"extract\"?"
    );
    assert_eq!((json.code, github.code), (Some(1), Some(1)));
}

/// The example of the README: what is printed of a copy of an example with two slips.
#[test]
fn the_readme_shows_what_is_printed() {
    let folder = folder();
    let example = repository().join("examples/mesh-tracing/envoy.yaml");
    let text = fs::read_to_string(example).expect("the example");
    let broken = text
        .replace("\"cluster\": \"collector\"", "\"cluster\": \"colector\"")
        .replace("\"role\": \"auto\"", "\"rol\": \"auto\"");
    fs::write(folder.path().join("envoy.yaml"), broken).expect("a file");
    let run = run(folder.path(), &["check", "envoy.yaml"], "");
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    let shown = format!(
        "```console\n$ meshtrace check envoy.yaml\n{}{}```\n",
        run.out, run.err
    );
    assert!(readme.contains(&shown), "the README is to have\n{shown}");
}

#[test]
fn what_people_write_is_taken() {
    let folder = folder();
    let json = run(
        folder.path(),
        &["render", "trace-context", "-", "--tracer", "opentelemetry"],
        GOOD,
    );
    assert_eq!(json.code, Some(0), "{}", json.err);
    for tracer in ["otel", "tracecontext", "OpenTelemetry"] {
        let yaml = "extract: [b3]\ninject: [tracecontext]\n";
        let same = run(
            folder.path(),
            &["render", "trace_context", "-", "--tracer", tracer],
            yaml,
        );
        assert_eq!(
            (same.out, same.code),
            (json.out.clone(), Some(0)),
            "{tracer}"
        );
    }
    let zipkin = |name| {
        run(
            folder.path(),
            &["render", "route-sampling", "--tracer", name],
            "",
        )
    };
    assert_eq!(zipkin("b3").out, zipkin("zipkin").out);
    let schema = |name| run(folder.path(), &["schema", name], "");
    assert_eq!(schema("mesh_tracing").out, schema("mesh-tracing").out);
    assert_eq!(schema("mesh_tracing").code, Some(0));
    // What is neither is refused as before.
    let neither = run(
        folder.path(),
        &["render", "trace-context", "-", "--tracer", "otel"],
        "a: [",
    );
    assert!(neither.err.contains("not JSON"), "{}", neither.err);
    assert_eq!(neither.code, Some(1));
}
