//! The guide's commands, and the files that it names.

use meshtrace_test_support::applied;
use meshtrace_test_support::common::text;

use crate::head::{Product, manifests};

/// What a row of "Which tracer" says to type: each file is there, and what is to be removed is what
/// was applied.
#[test]
fn the_commands_of_the_guide_apply_and_remove_the_same_resources() {
    let page = text("istio-manifests/README.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with('|') && line.contains("kubectl apply"));
    let mut seen = 0;
    for row in rows {
        let commands: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        let command = |of: &str| commands.iter().find(|one| one.starts_with(of)).copied();
        let Some(apply) = command("kubectl apply -") else {
            continue;
        };
        let words = |command: &str| {
            command
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let files = words(apply);
        let files = files.iter().filter(|word| word.ends_with(".yaml"));
        let mut applied: Vec<String> = files
            .flat_map(|file| applied::resources(&format!("istio-manifests/{file}")))
            .map(|resource| {
                resource["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        let mut removed = words(command("kubectl delete ").unwrap_or_else(|| panic!("{row}")));
        removed.retain(|word| word.starts_with("trace-context"));
        applied.sort();
        removed.sort();
        assert_eq!(applied, removed, "{row}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

/// A file that the page does not name is found by nobody.
#[test]
fn the_guide_names_every_file_with_its_versions() {
    let page = text("istio-manifests/README.md");
    for (path, head) in manifests() {
        let path = path.strip_prefix("istio-manifests/").expect("below it");
        if path.starts_with("kustomize/") {
            continue;
        }
        // A family has its first file's name in full, and the ends of the others.
        let stem = path.strip_suffix(".yaml").expect("YAML");
        let ends = ["-gateway", "-waypoint", "-upstream-image", "-upstream"];
        let end = ends.into_iter().find(|end| stem.ends_with(end));
        let named = |line: &&str| {
            let whole = line.contains(path);
            let family = end.is_some_and(|end| {
                let first = stem.strip_suffix(end).unwrap_or(stem);
                let tail = format!("`{end}.yaml`");
                line.contains(&tail) && line.contains(first)
            });
            let folder = path.split('/').next().unwrap_or_default();
            let kinds = folder == "trafficextension" && line.contains("trafficextension/");
            line.starts_with('|') && (whole || family || kinds)
        };
        let lines: Vec<_> = page.lines().filter(named).collect();
        assert!(!lines.is_empty(), "{path} is not in the guide");
        if head.product == Product::Istio {
            let versions = match head.first == head.last {
                true => format!("1.{}", head.first),
                false => format!("1.{} to 1.{}", head.first, head.last),
            };
            assert!(
                lines.iter().any(|line| line.contains(&versions)),
                "{path}: {versions}: {lines:?}"
            );
        }
    }
    // The page is one page.
    assert!(page.lines().count() < 80, "{} lines", page.lines().count());
}
