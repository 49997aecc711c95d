//! `docs/architecture.md` names files that exist, and its recipes name all files that they need.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshtrace_sampling::SamplingConfig;

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
    text: &'p str,
    /// The sources that everybody edits.
    files: Vec<&'p str>,
    /// The pages and tests in which the case stands.
    tests: Vec<&'p str>,
}

/// What stands between the first backticks of each row, of the tables whose first column is `head`.
fn first_column<'p>(part: &'p str, head: &str) -> Vec<&'p str> {
    let head = format!("| {head} |");
    let tables = part.split("\n\n").filter(|table| table.starts_with(&head));
    let rows = tables.flat_map(|table| table.lines().skip(2));
    rows.map(|row| quoted(row).next().expect("a file"))
        .collect()
}

fn recipes() -> Vec<Recipe<'static>> {
    let (_, recipes) = PAGE.split_once("\n## Recipes\n").expect("recipes");
    let (recipes, _) = recipes.split_once("\n## ").expect("a section after them");
    let parts = recipes.split("\n### ").skip(1);
    let recipe = |part: &'static str| Recipe {
        title: part.lines().next().expect("a title"),
        text: part,
        word: part
            .lines()
            .find_map(|line| Some(line.strip_prefix("Follow: `")?.split_once('`')?.0)),
        files: first_column(part, "file"),
        tests: first_column(part, "page or test"),
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
    rust_files_in(&["crates", "filters"], "src")
}

/// The tests of the crates, and those on Envoy with what supports them.
fn tests() -> Vec<(String, String)> {
    let mut tests = rust_files_in(&["crates"], "tests");
    for folder in ["tests", "support", "benches", "src"] {
        tests.extend(rust_files_in(&["."], &format!("test-envoy/{folder}")));
    }
    tests
}

/// The name below the root and the text of each Rust file in the folder `below` of each member of
/// `groups`; the group `.` is the root itself.
fn rust_files_in(groups: &[&str], below: &str) -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    for group in groups {
        let members = match *group {
            "." => vec![root.clone()],
            group => fs::read_dir(root.join(group))
                .expect("members")
                .map(|member| member.expect("a member").path())
                .collect(),
        };
        for folder in members.iter().map(|member| member.join(below)) {
            if folder.is_dir() {
                rust_files(&folder, &mut files);
            }
        }
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root");
        let name = name.to_str().expect("UTF-8").to_owned();
        let text = fs::read_to_string(&path).expect("a source");
        // A comment may have the word for another reason.
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: Vec<_> = text.lines().filter(is_code).collect();
        (name, code.join("\n"))
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
    for recipe in recipes {
        let Recipe {
            title, word, files, ..
        } = recipe;
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
fn recipes_list_pages_and_tests_in_which_their_case_stands() {
    for recipe in recipes() {
        let (title, tests) = (recipe.title, recipe.tests);
        assert!(tests.len() > 1, "{title}");
        let Some(word) = recipe.word else { continue };
        for name in tests {
            let text = fs::read_to_string(root().join(name)).expect(name);
            assert!(has_word(&text, &word.to_lowercase()), "{title}: {name}");
        }
    }
}

/// The compiler does not tell that a condition is missing from some of these files.
#[test]
fn every_condition_of_rules_followed_its_recipe() {
    let unknown = r#"{"rules": [{"sample": "never", "match": {"?": 0}}]}"#;
    let refusal =
        meshtrace_config::read::<SamplingConfig>(unknown.as_bytes()).expect_err("an unknown key");
    let refusal = refusal.to_string();
    let (_, keys) = refusal.split_once("expected").expect("what is allowed");
    let keys: Vec<_> = quoted(keys).collect();
    assert!(keys.contains(&"methods"), "{keys:?}");
    let mut recipes = recipes().into_iter();
    let recipe = recipes.find(|recipe| recipe.word == Some("methods"));
    for name in recipe.expect("the recipe").files {
        let text = fs::read_to_string(root().join(name)).expect(name);
        for key in &keys {
            assert!(has_word(&text, key), "{key}: {name}");
        }
    }
}

/// A filter, as its folder's name has it.
struct Filter {
    with_dashes: String,
}

impl Filter {
    fn all() -> Vec<Self> {
        let folders = fs::read_dir(root().join("filters")).expect("filters");
        let filter = |folder: std::io::Result<fs::DirEntry>| {
            let with_dashes = folder.expect("a folder").file_name();
            let with_dashes = with_dashes.to_str().expect("UTF-8").to_owned();
            Self { with_dashes }
        };
        folders.map(filter).collect()
    }

    fn name(&self) -> String {
        self.with_dashes.replace('-', "_")
    }

    /// Whether `text` has its name, or that of its type.
    fn stands_in(&self, text: &str) -> bool {
        let parts = self.with_dashes.split('-');
        let camel: String = parts
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect();
        has_word(text, &self.name()) || has_word(text, &camel)
    }
}

fn recipe_of_filters() -> Recipe<'static> {
    let recipe = recipes().pop().expect("the last recipe");
    assert_eq!(recipe.title, "Add a filter");
    recipe
}

#[test]
fn every_filter_followed_its_recipe() {
    let Recipe { files, tests, .. } = recipe_of_filters();
    let root = root();
    for filter in Filter::all() {
        let name = filter.name();
        for file in files.iter().chain(&tests) {
            let file = file
                .replace("<filter-with-dashes>", &filter.with_dashes)
                .replace("<filter>", &name);
            let text = fs::read_to_string(root.join(&file));
            let text = text.unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            assert!(filter.stands_in(&text), "{name}: {file}");
        }
        let own = root.join("crates/pipeline/src/filter");
        let has_own = own.join(format!("{name}.rs")).exists() || own.join(&name).is_dir();
        assert!(has_own, "{name}");
    }
}

#[test]
fn the_recipe_of_filters_names_what_lists_every_filter() {
    let recipe = recipe_of_filters();
    let named: BTreeSet<_> = paths(recipe.text).collect();
    let filters = Filter::all();
    for (name, text) in sources().into_iter().chain(tests()) {
        if filters.iter().all(|filter| filter.stands_in(&text)) {
            assert!(named.contains(&*name), "the recipe does not name {name}");
        }
    }
}
