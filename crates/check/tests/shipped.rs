//! What the repository ships has no finding: examples, manifests, and the snippets of its pages.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::fs;
use std::path::{Path, PathBuf};

use meshtrace_check::{Code, Finding, Input, Level, Options, check};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files below a folder with one of these endings, in order.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if ending.is_some_and(|ending| endings.contains(&ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn found(name: &str, text: &str) -> Vec<Finding> {
    let inputs = [Input {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    }];
    check(&inputs, &Options::default()).findings
}

/// A registry and a digest to be replaced are the one thing that is said of a manifest.
fn is_placeholder(finding: &Finding) -> bool {
    let is_template = [
        "istio-manifests",
        "examples/one-file",
        "examples/traffic/istio-",
    ]
    .iter()
    .any(|folder| finding.file.contains(folder));
    finding.code == Code::Placeholder && is_template
}

fn is_silent(name: &str, text: &str) {
    let findings: Vec<_> = found(name, text)
        .into_iter()
        .filter(|finding| finding.level != Level::Note && !is_placeholder(finding))
        .map(|finding| finding.to_string())
        .collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn examples_and_manifests_have_no_finding_but_placeholders() {
    let mut count = 0;
    for folder in ["examples", "istio-manifests"] {
        for file in files(&repository().join(folder), &["yaml", "yml", "json"]) {
            let text = fs::read_to_string(&file).expect("a file");
            is_silent(&file.display().to_string(), &text);
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

/// A mesh with the providers that the manifests name.
const MESH: &str = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    extensionProviders:
    - name: otel
      opentelemetry: {service: otel-collector.observability.svc.cluster.local, port: 4317}
    - name: zipkin
      zipkin:
        service: zipkin.observability.svc.cluster.local
        port: 9411
        traceContextOption: USE_B3_WITH_W3C_PROPAGATION
    - name: json-log
      envoyFileAccessLog: {path: /dev/stdout}
";

#[test]
fn files_that_belong_together_have_no_finding() {
    for together in [
        &[
            "wasmplugin/route-sampling-otel.yaml",
            "envoyfilter/route-sampling-otel.yaml",
            "telemetry/route-sampling.yaml",
            "telemetry/opentelemetry.yaml",
            "envoyfilter/trace-context-otel-early.yaml",
            "envoyfilter/trace-context-otel-upstream.yaml",
            "envoyfilter/trace-context-edge.yaml",
        ][..],
        &[
            "access-log/envoyfilter-otel.yaml",
            "access-log/mesh-config.yaml",
            "access-log/telemetry.yaml",
            "envoyfilter/trace-context-otel-early.yaml",
        ],
        &[
            "wasmplugin/trace-context-zipkin.yaml",
            "telemetry/zipkin.yaml",
        ],
        &[
            "wasmplugin/mesh-tracing.yaml",
            "wasmplugin/mesh-tracing-waypoint.yaml",
        ],
        &["wasmplugin/span-attributes.yaml"],
        &[
            "wasmplugin/trace-context-zipkin-gateway.yaml",
            "telemetry/zipkin.yaml",
        ],
    ] {
        let folder = repository().join("istio-manifests");
        let mut inputs: Vec<_> = together
            .iter()
            .map(|file| Input {
                name: format!("istio-manifests/{file}"),
                bytes: fs::read(folder.join(file)).expect("a file"),
            })
            .collect();
        inputs.push(Input {
            name: "mesh.yaml".to_owned(),
            bytes: MESH.into(),
        });
        let findings: Vec<_> = check(&inputs, &Options::default())
            .findings
            .into_iter()
            .filter(|finding| finding.level != Level::Note && !is_placeholder(finding))
            .map(|finding| finding.to_string())
            .collect();
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

#[test]
fn snippets_of_the_pages_have_no_finding() {
    let mut pages = files(&repository().join("docs"), &["md"]);
    pages.extend(files(&repository().join("examples"), &["md"]));
    pages.extend(["README.md", "istio-manifests/README.md"].map(|page| repository().join(page)));
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for (line, ending, snippet) in snippets(&text) {
            let name = format!("{}:{line}.{ending}", page.display());
            is_silent(&name, &snippet);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// The blocks of JSON and YAML of a page, with their lines and languages.
fn snippets(page: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, String, String)> = None;
    for (number, line) in page.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match open.take() {
            None => {
                let language = line.trim_start().strip_prefix("```");
                if let Some(language @ ("json" | "yaml")) = language {
                    open = Some((number + 1, indent, language.to_owned(), String::new()));
                }
            }
            Some((start, _, language, text)) if line.trim() == "```" => {
                found.push((start, language, text));
            }
            Some((start, depth, language, mut text)) => {
                text.push_str(line.get(depth.min(indent)..).unwrap_or_default());
                text.push('\n');
                open = Some((start, depth, language, text));
            }
        }
    }
    found
}

#[test]
fn other_resources_and_empty_files_are_silent() {
    for text in [
        "",
        "# nothing\n",
        "---\n---\n",
        "{}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {rules: eA==}\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n",
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: other}\nspec: {url: oci://a/b}\n",
        // Another vendor's module of a name like ours.
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: trace-context}\nspec:\n  url: \
         oci://vendor/w3c\n  pluginConfig: {headers: [a], level: 3}\n",
    ] {
        let findings = found("a.yaml", text);
        assert!(findings.is_empty(), "{text}: {findings:?}");
    }
}
