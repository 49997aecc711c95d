//! The pages of the repository: every link leads somewhere, and every command names what there is.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail"
)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

const MANIFEST: &str = "wasmplugin/mesh-tracing.yaml";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository")
}

fn text(page: &str) -> String {
    fs::read_to_string(root().join(page)).expect("a page")
}

/// The pages, from the root.
fn pages() -> Vec<PathBuf> {
    fn below(folder: &Path, pages: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_hidden = name.starts_with('.') || ["target", "dist"].contains(&&*name);
            if path.is_dir() && !is_hidden {
                below(&path, pages);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    below(&root(), &mut pages);
    pages.sort();
    pages
}

fn parser(markdown: &str) -> Parser<'_> {
    Parser::new_ext(
        markdown,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH,
    )
}

/// The anchors of the headings, as GitHub and mdBook make them: letters, digits, `_` and `-` in
/// lower case, a dash for each space, and a number behind what was there before.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut heading: Option<String> = None;
    for event in parser(markdown) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let title = heading.take().unwrap_or_default();
                let kept = title.chars().filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                });
                let slug = kept.collect::<String>().to_lowercase();
                let count = counts.entry(slug.clone()).or_default();
                anchors.insert(match *count {
                    0 => slug,
                    count => format!("{slug}-{count}"),
                });
                *count += 1;
            }
            _ => {}
        }
    }
    anchors
}

fn links(markdown: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.to_string())
        }
        _ => None,
    };
    parser(markdown).filter_map(target).collect()
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let markdown = fs::read_to_string(&page).expect("a page");
        for link in links(&markdown) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().expect("a folder").join(path),
            };
            let has_anchor = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                anchors(&text).contains(anchor)
            };
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 300, "only {seen} links");
}

/// From the README a reader comes to every page of `docs/`.
#[test]
fn every_page_of_docs_is_reached_from_the_readme() {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut next = vec![root().join("README.md")];
    while let Some(page) = next.pop() {
        let folder = page.parent().expect("a folder").to_owned();
        for link in links(&fs::read_to_string(&page).expect("a page")) {
            let path = link.split('#').next().unwrap_or_default();
            let Ok(target) = folder.join(path).canonicalize() else {
                continue;
            };
            let is_page = target.extension().is_some_and(|ending| ending == "md");
            if is_page && reached.insert(target.clone()) {
                next.push(target);
            }
        }
    }
    let docs = root().join("docs");
    let lost: Vec<_> = pages()
        .into_iter()
        .filter(|page| page.starts_with(&docs) && !reached.contains(page))
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The lines of the blocks of commands, without their remarks.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    for line in text(page).lines() {
        let line = line.trim_start();
        if let Some(language) = line.strip_prefix("```") {
            inside = language == "sh";
        } else if inside {
            let command = line.split("  #").next().unwrap_or_default().trim();
            commands.push(command.to_owned());
        }
    }
    assert!(!commands.is_empty(), "{page}");
    commands
}

const WITH_COMMANDS: [&str; 2] = ["README.md", "docs/getting-started.md"];

#[test]
fn every_command_names_what_there_is() {
    let makefile = text("Makefile");
    let has_target = |target: &str| makefile.lines().any(|line| line.starts_with(target));
    for page in WITH_COMMANDS {
        for command in commands(page) {
            let words: Vec<_> = command.split_whitespace().collect();
            match *words.as_slice() {
                ["make", target, ..] => assert!(has_target(&format!("{target}:")), "{command}"),
                ["meshtrace", name, ..] => {
                    let mut meshtrace = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
                    let run = meshtrace.args([name, "--help"]).output().expect("a run");
                    assert!(run.status.success(), "{command}");
                }
                _ => {}
            }
            for file in words.iter().filter(|word| word.contains('/')) {
                // What `make manifests` writes is of the same name.
                let file = file.replace("dist/manifests/", "istio-manifests/");
                let folders = ["examples/", "istio-manifests/", "crates/"];
                if folders.iter().any(|folder| file.starts_with(folder)) {
                    assert!(root().join(&file).exists(), "{page}: {command}");
                }
            }
        }
    }
}

/// What a page applies it also removes, in the same namespace.
#[test]
fn what_is_applied_is_removed() {
    for page in WITH_COMMANDS {
        let of = |verb: &str| {
            let start = format!("kubectl {verb} ");
            let rest = move |line: String| line.strip_prefix(&start).map(str::to_owned);
            commands(page).into_iter().filter_map(rest)
        };
        let applied: BTreeSet<_> = of("apply").collect();
        let removed: BTreeSet<_> = of("delete").collect();
        assert!(!applied.is_empty(), "{page}");
        assert_eq!(applied, removed, "{page}");
    }
}

/// The files that the README names in tables, below `istio-manifests/` or from the root.
#[test]
fn every_file_that_the_readme_names_is_there() {
    let readme = text("README.md");
    let names = readme.split('`').skip(1).step_by(2);
    let files: Vec<_> = names.filter(|name| name.ends_with(".yaml")).collect();
    for file in &files {
        let is_there = [root(), root().join("istio-manifests")]
            .iter()
            .any(|folder| folder.join(file).exists());
        assert!(is_there, "{file}");
    }
    assert!(files.len() > 4, "{files:?}");
}

#[test]
fn the_readme_is_read_in_ten_minutes() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 130, "{lines} lines");
}

/// A registry and digests in place of the placeholders are all that the file lacks.
#[test]
fn what_make_manifests_puts_in_is_all_that_the_manifest_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let filters = fs::read_dir(root().join("filters")).expect("the filters");
    let names = filters.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().replace('-', "_"));
    for name in names.chain(["native".to_owned()]) {
        let layout = folder.path().join("oci").join(name);
        fs::create_dir_all(&layout).expect("a folder");
        let index = format!(
            r#"{{"manifests": [{{"digest": "sha256:{}", "annotations": {{"org.opencontainers.image.ref.name": "{}"}}}}]}}"#,
            "a".repeat(64),
            env!("CARGO_PKG_VERSION"),
        );
        fs::write(layout.join("index.json"), index).expect("an index");
    }
    let out = folder.path().join("manifests");
    let run = Command::new("python3")
        .arg(root().join(".make/manifests.py"))
        .arg("registry.internal:5000/tracing")
        .args([&folder.path().join("oci"), &out])
        .output()
        .expect("python3");
    assert!(run.status.success(), "{run:?}");
    let check = |file: &Path| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
        let run = check.arg("check").arg(file).output().expect("a run");
        String::from_utf8(run.stdout).expect("text")
    };
    let before = check(&root().join("istio-manifests").join(MANIFEST));
    assert!(before.contains("MT081"), "placeholders to begin with");
    let filled = out.join(MANIFEST);
    let edited = fs::read_to_string(&filled).expect("the manifest");
    assert!(edited.contains("oci://registry.internal:5000/tracing/mesh_tracing:"));
    let left = check(&filled);
    let is_note = |line: &str| line.starts_with("note ");
    assert!(left.lines().all(is_note), "{left}");
}

/// What is wrong with a configuration, as `meshtrace check` tells it; notes are not.
fn mistakes(filter: &str, json: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("configuration.json");
    fs::write(&file, json).expect("a file");
    let mut check = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
    check.args(["check", "--filter", filter]).arg(&file);
    let run = check.output().expect("a run");
    let out = String::from_utf8(run.stdout).expect("text");
    let lines = out.lines().filter(|line| !line.starts_with("note "));
    lines.map(str::to_owned).collect()
}

/// The section of a page with this heading.
fn section(page: &str, heading: &str) -> String {
    let page = text(page);
    let (_, rest) = page.split_once(heading).expect(heading);
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The rows of "Add what you need" are read by the filter, each by itself.
#[test]
fn what_getting_started_adds_is_accepted() {
    let rows = section("docs/getting-started.md", "### 4. Add what you need");
    let mut seen = 0;
    for row in rows.lines().filter(|row| row.contains("| `\"")) {
        let (_, added) = row.split_once("| `\"").expect("what is added");
        let key = added.split('`').next().expect("its end");
        let json = match row.contains("in `report`") {
            true => format!("{{\"report\": {{\"cluster\": \"collector\", \"{key}}}}}"),
            false => format!("{{\"report\": {{\"cluster\": \"collector\"}}, \"{key}}}"),
        };
        let mistakes = mistakes("mesh-tracing", &json);
        assert!(mistakes.is_empty(), "{row}: {mistakes:#?}");
        seen += 1;
    }
    assert!(seen > 4, "{seen}");
}

/// What the page of a filter offers to paste is a configuration that it takes.
#[test]
fn what_the_pages_of_the_filters_offer_is_accepted() {
    let filters = fs::read_dir(root().join("filters")).expect("the filters");
    let filter = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy().replace('-', "_");
        (name.clone(), name)
    };
    let mut pages: Vec<_> = filters.map(filter).collect();
    assert_eq!(pages.len(), 5, "filters");
    let others = [
        ("export", "mesh_tracing"),
        ("formats", "trace_context"),
        ("native", "mesh_tracing"),
        ("privacy", "span_attributes"),
    ];
    pages.extend(others.map(|(page, filter)| (page.to_owned(), filter.to_owned())));
    for (page, filter) in pages {
        let rows = section(&format!("docs/{page}.md"), "## What do you want?\n");
        let of_page = rows.lines().filter_map(|row| row.split_once(" | `{"));
        let mut count = 0;
        for (want, rest) in of_page {
            let json = rest.split('`').next().unwrap_or_default();
            let json = format!("{{{}", json.replace("\\|", "|"));
            let mistakes = mistakes(&filter, &json);
            assert!(mistakes.is_empty(), "{filter}: {want}: {mistakes:#?}");
            count += 1;
        }
        assert!(count > 4, "{page}: {count}");
    }
}

/// Each counter of the alerts is one that a page of a filter documents.
#[test]
fn the_alerts_name_counters_that_there_are() {
    let others = [
        "meshtrace_config_invalid",
        // What the tags of docs/trace_context.md make of the formats' counters.
        "meshtrace_trace_context_extracted",
        "meshtrace_trace_context_only",
    ];
    let mut counters: BTreeSet<String> = others.map(str::to_owned).into();
    for page in pages() {
        let text = fs::read_to_string(page).expect("a page");
        let rows = text.lines().filter_map(|row| row.strip_prefix("| `"));
        let names = rows.filter_map(|row| row.split('`').next());
        counters.extend(names.map(|name| name.replace('.', "_")));
        // The list of all names, as Prometheus has them.
        let listed = text.lines().filter(|line| line.starts_with("meshtrace_"));
        counters.extend(listed.map(str::to_owned));
    }
    let rules = text("examples/alerts/rules.yaml");
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<_> = words
        .filter(|word| word.starts_with("meshtrace_"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let of_any = name.replace("_inbound", "_<direction>");
        let of_any = of_any.replace("_unspecified", "_<direction>");
        assert!(counters.contains(&of_any), "{name}");
    }
}
