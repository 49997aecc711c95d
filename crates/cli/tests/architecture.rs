//! `docs/architecture.md` names files that exist, and its recipes name all files that they need.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/architecture.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands between backticks in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The paths that `text` names: with a folder in front, and of this repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        ["crates/", "filters/", "test-envoy/", "docs/"]
            .iter()
            .any(|folder| word.starts_with(folder))
    };
    quoted(text).filter(is_path)
}

struct Recipe<'p> {
    title: &'p str,
    /// The existing case to follow.
    word: Option<&'p str>,
    /// The files of its table.
    files: Vec<&'p str>,
}

fn recipes() -> Vec<Recipe<'static>> {
    let (_, recipes) = PAGE.split_once("\n## Recipes\n").expect("recipes");
    let (recipes, _) = recipes.split_once("\n## ").expect("a section after them");
    let parts = recipes.split("\n### ").skip(1);
    let recipe = |part: &'static str| Recipe {
        title: part.lines().next().expect("a title"),
        word: part
            .lines()
            .find_map(|line| line.strip_prefix("Follow: `")?.strip_suffix('`')),
        files: part
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| quoted(line).next().expect("a file"))
            .collect(),
    };
    parts.map(recipe).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The sources of the crates and filters, without their tests.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    for group in ["crates", "filters"] {
        for member in fs::read_dir(root.join(group)).expect("members") {
            let source = member.expect("a member").path().join("src");
            if source.is_dir() {
                rust_files(&source, &mut files);
            }
        }
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root");
        let name = name.to_str().expect("UTF-8").to_owned();
        (name, fs::read_to_string(&path).expect("a source"))
    };
    files.into_iter().map(read).collect()
}

/// Whether `word` stands in `text`, and not as a part of another word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn every_path_exists() {
    let root = root();
    for path in paths(PAGE).filter(|path| !path.contains('<')) {
        assert!(root.join(path).exists(), "{path}");
    }
    for name in ["CONTRIBUTING.md", "RELEASING.md"] {
        let page = fs::read_to_string(root.join(name)).expect(name);
        for path in paths(&page).filter(|path| !path.contains(['<', '*'])) {
            assert!(root.join(path).exists(), "{name}: {path}");
        }
    }
}

#[test]
fn every_crate_is_in_the_table() {
    for group in ["crates"] {
        for member in fs::read_dir(root().join(group)).expect("members") {
            let name = member.expect("a member").file_name();
            let row = format!("\n| `{group}/{}` | ", name.to_str().expect("UTF-8"));
            assert!(PAGE.contains(&row), "{row}");
        }
    }
}

#[test]
fn recipes_list_the_files_in_which_their_case_stands() {
    let recipes = recipes();
    assert_eq!(recipes.len(), 5);
    let sources = sources();
    for Recipe { title, word, files } in recipes {
        assert!(files.len() > 1, "{title}");
        let Some(word) = word else { continue };
        let listed: BTreeSet<_> = files.into_iter().map(str::to_owned).collect();
        let own = format!("/{word}.rs");
        let found: BTreeSet<_> = sources
            .iter()
            .filter(|(name, text)| name.ends_with(&own) || has_word(text, word))
            .map(|(name, _)| name.clone())
            .collect();
        // The schema says it in lower case.
        let schema: BTreeSet<_> = listed
            .iter()
            .filter(|name| name.ends_with("/schema.rs"))
            .cloned()
            .collect();
        let expected: BTreeSet<_> = listed.difference(&schema).cloned().collect();
        assert_eq!(found, expected, "{title}");
        for name in &schema {
            let (_, text) = sources
                .iter()
                .find(|(source, _)| source == name)
                .expect(name);
            assert!(has_word(text, &word.to_lowercase()), "{title}: {name}");
        }
    }
}

#[test]
fn every_filter_followed_its_recipe() {
    let recipes = recipes();
    let recipe = recipes.last().expect("the last recipe");
    assert_eq!(recipe.title, "Add a filter");
    let root = root();
    let folders = fs::read_dir(root.join("filters")).expect("filters");
    let mut filters = 0;
    for folder in folders {
        let dashed = folder.expect("a folder").file_name();
        let dashed = dashed.to_str().expect("UTF-8");
        let filter = dashed.replace('-', "_");
        let camel: String = dashed
            .split('-')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect();
        for file in &recipe.files {
            let file = file.replace("<filter-with-dashes>", dashed);
            let text = fs::read_to_string(root.join(&file)).expect(&file);
            let has_name = has_word(&text, &filter) || has_word(&text, &camel);
            assert!(has_name, "{filter}: {file}");
        }
        let own = root.join("crates/pipeline/src/filter");
        let has_own = own.join(format!("{filter}.rs")).exists() || own.join(&filter).is_dir();
        assert!(has_own, "{filter}");
        for file in ["docs/<filter>.md", "test-envoy/tests/<filter>/main.rs"] {
            assert!(
                root.join(file.replace("<filter>", &filter)).exists(),
                "{filter}: {file}"
            );
        }
        filters += 1;
    }
    assert_eq!(filters, 5);
}
