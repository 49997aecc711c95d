//! The command line as it is run.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn meshtrace(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshtrace"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let input = child.stdin.take();
    // A command that reads no input may be gone already.
    let _ = input.expect("its input").write_all(stdin.as_bytes());
    child.wait_with_output().expect("its end")
}

fn printed(arguments: &[&str], stdin: &str) -> String {
    let output = meshtrace(arguments, stdin);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn refusal(arguments: &[&str], stdin: &str, code: i32) -> String {
    let output = meshtrace(arguments, stdin);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

const SPAN_ATTRIBUTES: [&str; 2] = ["render", "span-attributes"];
const CONFIG: &str = r#"{"attributes": [{"key": "user.id", "from": {"header": "x-user"}}],
                         "emit": {"request_header_prefix": "x-span-attr-"}}"#;

#[test]
fn envoys_tags_come_from_a_file_and_from_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("attributes.json");
    fs::write(&file, CONFIG).expect("a file");
    let file = file.to_str().expect("a path");
    let from = |name| {
        printed(
            &[&SPAN_ATTRIBUTES[..], &["--envoy", "1.37", name]].concat(),
            CONFIG,
        )
    };
    let text = from(file);
    assert_eq!(text, from("-"));
    assert!(text.starts_with("# Envoy: 1.37\n"), "{text}");
    let parts = documents(&text).remove(0);
    assert_eq!(
        parts["tracing"]["custom_tags"],
        json!([{"tag": "user.id", "value": "%FILTER_STATE(wasm.user.id:PLAIN)%"}])
    );
    assert_eq!(parts["http_filters"][0]["name"], "span_attributes");
}

#[test]
fn without_a_file_it_is_about_the_defaults() {
    let text = printed(
        &[&SPAN_ATTRIBUTES[..], &["--envoy", "v1.40.0"]].concat(),
        "",
    );
    let tags = &documents(&text)[0]["tracing"]["custom_tags"];
    let keys: Vec<_> = tags
        .as_array()
        .expect("tags")
        .iter()
        .map(|tag| &tag["tag"])
        .collect();
    assert_eq!(keys, ["user.id", "tenant.id"]);
}

#[test]
fn istio_gets_two_manifests_and_what_has_to_be_known() {
    let options = [
        "--istio",
        "1.28",
        "--name",
        "n",
        "--namespace",
        "ns",
        "--url",
        "oci://r/i:1",
        "-",
    ];
    let text = printed(&[&SPAN_ATTRIBUTES[..], &options].concat(), CONFIG);
    let words = text.replace("\n#  ", "");
    assert!(
        words.contains("go on to the application in the headers x-span-attr-*"),
        "{text}"
    );
    let [plugin, telemetry] = documents(&text).try_into().expect("two documents");
    assert_eq!(plugin["kind"], "WasmPlugin");
    assert_eq!(plugin["spec"]["url"], "oci://r/i:1");
    assert_eq!(
        plugin["spec"]["pluginConfig"],
        serde_json::from_str::<Value>(CONFIG).expect("JSON")
    );
    assert_eq!(telemetry["kind"], "Telemetry");
    assert_eq!(
        telemetry["metadata"],
        json!({"name": "n", "namespace": "ns"})
    );
    assert_eq!(
        telemetry["spec"]["tracing"][0]["customTags"]["user.id"],
        json!({"header": {"name": "x-span-attr-user-id"}})
    );
}

#[test]
fn the_early_header_mutation_is_rendered_for_each_tracer() {
    for tracer in ["opentelemetry", "zipkin", "zipkin-with-w3c"] {
        let text = printed(&["render", "trace-context", "--tracer", tracer], "");
        let parts = documents(&text).remove(0);
        let extension = &parts["early_header_mutation_extensions"][0];
        assert_eq!(extension["name"], "meshtrace-trace-context", "{tracer}");
    }
}

#[test]
fn a_refused_configuration_is_one_sentence_with_its_path() {
    for (arguments, stdin, expected) in [
        (
            &["render", "span-attributes", "--envoy", "1.36"][..],
            "",
            "meshtrace: span_attributes.emit.request_header_prefix: null, but no tag of Envoy 1.36",
        ),
        (
            &["render", "span-attributes", "--envoy", "1.37", "-"],
            r#"{"attributes": [{"key": "a", "from": {"cookies": "a"}}]}"#,
            "meshtrace: span_attributes.attributes[0].from: unknown source \"cookies\"",
        ),
        (
            &["render", "trace-context", "--tracer", "zipkin", "-"],
            r#"{"extract": ["b4"]}"#,
            "meshtrace: trace_context.extract[0]: unknown variant `b4`",
        ),
        (
            &[
                "render",
                "span-attributes",
                "--envoy",
                "1.37",
                "absent.json",
            ],
            "",
            "meshtrace: absent.json cannot be read: ",
        ),
    ] {
        let sentence = refusal(arguments, stdin, 1);
        assert!(sentence.starts_with(expected), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    for (arguments, expected) in [
        (
            &["render", "span-attributes"][..],
            "<--envoy <VERSION>|--istio <VERSION>>",
        ),
        (
            &["render", "span-attributes", "--envoy", "1.35"],
            "expected one of 1.36, 1.37",
        ),
        (
            &[
                "render",
                "span-attributes",
                "--envoy",
                "1.37",
                "--istio",
                "1.29",
            ],
            "cannot be used with",
        ),
        (&["render", "trace-context"], "--tracer <TRACER>"),
        (&["rendre"], "unrecognized subcommand"),
    ] {
        let message = refusal(arguments, "", 2);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn help_names_the_commands() {
    let help = printed(&["--help"], "");
    assert!(
        help.contains("render") && help.contains("Exit codes"),
        "{help}"
    );
    let help = printed(&["render", "--help"], "");
    assert!(
        help.contains("span-attributes") && help.contains("trace-context"),
        "{help}"
    );
}

#[test]
fn what_an_edge_needs_beside_its_mutation_is_printed_with_it() {
    let arguments = ["render", "trace-context", "-", "--tracer", "opentelemetry"];
    let edge = &documents(&printed(&arguments, r#"{"incoming": "restart"}"#))[0];
    assert_eq!(edge["generate_request_id"], true);
    assert_eq!(edge["tracing"]["client_sampling"]["value"], 0);
    let continued = &documents(&printed(&arguments, "{}"))[0];
    assert_eq!(continued.get("tracing"), None);
    assert!(continued["early_header_mutation_extensions"][0]["typed_config"].is_object());
}

/// Two early mutations in one list run in its order.
#[test]
fn what_is_printed_says_in_which_order_two_mutations_stand() {
    let flat = |text: &str| {
        let words = text.split_whitespace().filter(|word| *word != "#");
        words.collect::<Vec<_>>().join(" ")
    };
    for tracer in ["opentelemetry", "zipkin", "zipkin-with-w3c"] {
        let context = flat(&printed(
            &["render", "trace-context", "--tracer", tracer],
            "",
        ));
        assert!(
            context.contains("this one stands in front of route_sampling's"),
            "{context}"
        );
        let rules = ["render", "route-sampling", "-", "--tracer", tracer];
        let sampling = flat(&printed(&rules, "{}"));
        assert!(
            sampling.contains("one of trace_context stands in front of this one"),
            "{sampling}"
        );
    }
}

#[test]
fn what_tells_the_tracer_a_decision_is_removed_behind_it() {
    let of = |tracer| {
        documents(&printed(
            &["render", "trace-context", "--tracer", tracer],
            "",
        ))
    };
    let removed = &of("opentelemetry")[1]["request_headers_to_remove"];
    assert_eq!(*removed, json!(["x-client-trace-id"]));
    for tracer in ["zipkin", "zipkin-with-w3c"] {
        assert_eq!(of(tracer).len(), 1, "{tracer}");
    }
}

#[test]
fn the_settings_of_route_sampling_are_a_document_for_each_place() {
    let arguments = ["render", "route-sampling", "-", "--tracer", "opentelemetry"];
    let rules = r#"{"rules": [{"match": {"route": "health"}, "sample": "never"}]}"#;
    let text = printed(&arguments, rules);
    let documents = documents(&text);
    let [manager, virtual_host, route] = documents.as_slice() else {
        panic!("three documents: {text}");
    };
    assert_eq!(
        manager["tracing"]["random_sampling"]["value"].as_f64(),
        Some(0.0)
    );
    let removed = virtual_host["request_headers_to_remove"].to_string();
    assert!(removed.contains("x-envoy-force-trace"), "{removed}");
    assert!(route["tracing"].is_object());
    assert!(text.contains("# For the route \"health\""), "{text}");

    let refused = refusal(&arguments, r#"{"default": "sometimes"}"#, 1);
    assert!(refused.contains("route_sampling.default: "), "{refused}");
}

#[test]
fn the_access_log_has_the_step_that_this_envoy_can_take() {
    let config = r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "x-s"}}"#;
    for (version, told) in [("1.37", false), ("1.38", true)] {
        let arguments = ["render", "access-log-trace", "-", "--envoy", version];
        let parts = &documents(&printed(&arguments, config))[0];
        let fields = &parts["access_log"][0]["typed_config"]["log_format"]["json_format"];
        assert_eq!(fields["trace_id"], "%FILTER_STATE(wasm.trace_id:PLAIN)%");
        let step = parts["http_filters"][0].to_string();
        assert_eq!(step.contains("%SPAN_ID%"), told, "{step}");
    }
    let parts = &documents(&printed(
        &["render", "access-log-trace", "--envoy", "1.40"],
        "",
    ))[0];
    assert_eq!(parts["http_filters"][0]["name"], "access_log_trace");
}

#[test]
fn the_headers_of_each_filter_are_written_by_a_route_configuration() {
    let key = r#""request_headers": "filter_state""#;
    for (filter, rest, leaving, removed) in [
        ("trace-context", "", 8, 0),
        ("span-attributes", r#", "emit": {"baggage": true}"#, 1, 0),
        (
            "access-log-trace",
            r#", "ids": {"trace_id_header": "x-t"}"#,
            0,
            1,
        ),
        (
            "route-sampling",
            r#", "request_header": null, "force": {"header": "x-f", "value_env": "F"}"#,
            0,
            1,
        ),
        ("mesh-tracing", r#", "report": {"cluster": "otlp"}"#, 8, 0),
    ] {
        let config = format!("{{{key}{rest}}}");
        let text = printed(&["render", "request-headers", filter, "-"], &config);
        let parts = documents(&text).remove(0);
        let length = |field: &str| parts[field].as_array().expect(field).len();
        assert_eq!(length("request_headers_to_add"), leaving, "{text}");
        assert_eq!(
            length("request_headers_to_remove"),
            leaving + removed,
            "{text}"
        );

        let arguments = [
            "render",
            "request-headers",
            filter,
            "-",
            "--istio",
            "1.29",
            "--context",
            "GATEWAY",
        ];
        let text = printed(&arguments, &config);
        let manifest = documents(&text).remove(0);
        assert_eq!(manifest["kind"], "EnvoyFilter");
        let patch = &manifest["spec"]["configPatches"][0];
        assert_eq!(patch["applyTo"], "ROUTE_CONFIGURATION");
        assert_eq!(patch["match"]["context"], "GATEWAY");
        assert_eq!(patch["patch"]["value"], parts);
    }
    let text = printed(
        &["render", "request-headers", "trace-context", "-"],
        &format!("{{{key}}}"),
    );
    let add = &documents(&text)[0]["request_headers_to_add"][0];
    assert_eq!(add["header"]["key"], "traceparent");
    assert_eq!(
        add["header"]["value"],
        "%FILTER_STATE(wasm.traceparent:PLAIN)%"
    );
    assert_eq!(add["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");

    let sentence = refusal(&["render", "request-headers", "trace-context"], "", 1);
    let expected =
        "meshtrace: trace_context.request_headers: \"edit\", with which the filter writes";
    assert!(sentence.starts_with(expected), "{sentence}");
}

#[test]
fn the_version_is_that_of_every_module() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(printed(&["-V"], ""), format!("meshtrace {version}\n"));
    let text = printed(&["--version"], "");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(&*format!("meshtrace {version}")));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut modules = vec![(root.join("crates/native"), "libmeshtrace.so".to_owned())];
    for entry in fs::read_dir(root.join("filters")).expect("the filters") {
        let folder = entry.expect("a filter").path();
        let name = folder.file_name().expect("a name").to_string_lossy();
        let module = format!("{}.wasm", name.replace('-', "_"));
        modules.push((folder.clone(), module));
    }
    for (folder, module) in &modules {
        // The command line knows one version, so that a module must not have another one.
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("version.workspace = true"), "{module}");
        let is_told = text
            .lines()
            .any(|line| line.split_whitespace().eq([module.as_str(), version]));
        assert!(is_told, "{module}: {text}");
    }
    assert_eq!(lines.count(), modules.len(), "{text}");
}

#[test]
fn completions_know_the_commands_and_their_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell], "");
        for word in ["check", "doctor", "span-attributes", "istio"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // The shell itself reads it, where it is here.
        if let Ok(mut child) = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            let mut input = child.stdin.take().expect("its input");
            input.write_all(script.as_bytes()).expect("the script");
            drop(input);
            let output = child.wait_with_output().expect("its end");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{shell}: {errors}");
        }
    }
    let refused = refusal(&["completions", "tcsh"], "", 2);
    assert!(refused.contains("bash"), "{refused}");
}

#[test]
fn bash_completes_a_command_and_a_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("meshtrace.bash");
    fs::write(&script, printed(&["completions", "bash"], "")).expect("a file");
    let complete = |words: &str| -> String {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _meshtrace meshtrace \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &line]).output();
        String::from_utf8(output.expect("bash").stdout).expect("text")
    };
    assert_eq!(complete("meshtrace doc").trim(), "doctor");
    assert_eq!(complete("meshtrace doctor --sec").trim(), "--seconds");
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let page = printed(&["man"], "");
    assert!(page.contains(".TH meshtrace 1"), "{page}");
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let arguments = ["man", "--all", pages.to_str().expect("a path")];
    assert_eq!(printed(&arguments, ""), "");
    for (name, word) in [
        ("meshtrace.1", "doctor"),
        ("meshtrace-check.1", "Exit codes"),
        ("meshtrace-doctor.1", "ADMIN"),
        ("meshtrace-render.1", "sha256"),
    ] {
        let page = fs::read_to_string(pages.join(name)).expect(name);
        assert!(page.contains(word), "{name}: {page}");
    }
}

#[test]
fn init_writes_a_folder_and_never_over_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("setup");
    let out = out.to_str().expect("a path");
    let arguments = ["init", "--istio", "1.31", "--out", out];
    let text = printed(&arguments, "");
    assert!(text.contains("README.md"), "{text}");
    let check = meshtrace(&["check", &format!("{out}/apply")], "");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let refused = refusal(&arguments, "", 1);
    assert!(refused.contains("--force"), "{refused}");
    let other = ["init", "--envoy", "1.40", "--out", out, "--force"];
    let text = printed(&other, "");
    assert!(
        text.contains("envoy.yaml") && text.contains("Simpler"),
        "{text}"
    );
    // Without a terminal and without flags the defaults are taken.
    let fresh = folder.path().join("fresh");
    let text = printed(&["init", "--out", fresh.to_str().expect("a path")], "");
    assert!(text.contains("apply/mesh-tracing.yaml"), "{text}");
    for (arguments, code) in [
        (&["init", "--envoy", "1.36", "--tracer", "native"][..], 1),
        (&["init", "--envoy-gateway", "--tracer", "zipkin"], 1),
        (&["init", "--envoy", "1.40", "--istio", "1.31"], 2),
        (&["init", "--formats", "morse"], 2),
    ] {
        refusal(arguments, "", code);
    }
}
