//! The blocks of the pages that have a language: each is run, or checked by what reads that language.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test may fail"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository")
}

/// A block of a page.
#[derive(Debug)]
struct Block {
    page: String,
    line: usize,
    language: String,
    /// The last line of text before it.
    before: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !["target", "dist"].contains(&&*name) {
            pages(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    found.sort();
    let mut blocks = Vec::new();
    for path in found {
        let page = path
            .strip_prefix(root())
            .expect("below")
            .display()
            .to_string();
        let mut open: Option<(usize, Block)> = None;
        let mut before = String::new();
        for (number, line) in fs::read_to_string(&path)
            .expect("a page")
            .lines()
            .enumerate()
        {
            let indent = line.len() - line.trim_start().len();
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let block = Block {
                        page: page.clone(),
                        line: number + 1,
                        language: language.to_owned(),
                        before: before.clone(),
                        text: String::new(),
                    };
                    open = Some((indent, block));
                }
                (Some(_), Some("")) => {
                    blocks.extend(open.take().map(|(_, block)| block));
                    before.clear();
                }
                (Some((depth, block)), _) => {
                    block.text += line.get((*depth).min(indent)..).unwrap_or_default();
                    block.text.push('\n');
                }
                (None, None) if !line.trim().is_empty() => line.trim().clone_into(&mut before),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block without an end");
    }
    blocks
}

/// The pages whose commands `meshtrace …` print what stands below them. Others are run by their own tests: those of the
/// command line's pages here beside this file, those of the examples and of the first steps by real Envoys.
const PRINTED: [&str; 3] = ["docs/formats.md", "docs/logs.md", "docs/privacy.md"];

/// Where the other consoles are run, and what they print is compared.
const RUN_ELSEWHERE: [(&str, &str); 7] = [
    ("README.md", "test-envoy/tests/examples/first_steps.rs"),
    (
        "docs/getting-started.md",
        "test-envoy/tests/examples/first_steps.rs",
    ),
    ("docs/explain.md", "crates/cli/tests/explain.rs"),
    ("docs/render.md", "crates/cli/tests/render.rs"),
    (
        "crates/span-waterfall/README.md",
        "crates/span-waterfall/src/terminal.rs",
    ),
    (
        "examples/walkthrough/README.md",
        "test-envoy/tests/examples/walkthrough.rs",
    ),
    ("examples/", "test-envoy/tests/examples/main.rs"),
];

/// Consoles of what is shortened, or takes a cluster or a registry: their commands and flags are there, no more is known.
const SHOWN: [&str; 3] = [
    "docs/command-line.md",
    "docs/images.md",
    "docs/troubleshooting.md",
];

#[test]
fn the_pages_show_what_the_command_line_prints() {
    let binary = Path::new(env!("CARGO_BIN_EXE_meshtrace"));
    let binaries = binary.parent().expect("its folder").display();
    let mut count = 0;
    let mut folders: BTreeMap<String, tempfile::TempDir> = BTreeMap::new();
    for block in blocks() {
        if !PRINTED.contains(&block.page.as_str()) {
            continue;
        }
        let folder = folders
            .entry(block.page.clone())
            .or_insert_with(|| tempfile::tempdir().expect("a folder"));
        let name = block
            .before
            .strip_prefix('`')
            .and_then(|line| line.strip_suffix("`:"));
        if let Some(name) = name {
            fs::write(folder.path().join(name), &block.text).expect("a file");
        }
        if block.language != "console" {
            continue;
        }
        let (command, shown) = block.text.split_once('\n').expect("a command");
        let command = command.strip_prefix("$ ").expect("a prompt");
        let output = Command::new("sh")
            .args(["-c", &format!("PATH={binaries}:$PATH; {command} 2>&1")])
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed, shown, "{}: {command}", block.place());
        count += 1;
    }
    assert!(count > 4, "{count}");
}

/// Whether a shell can read the lines. They are not run.
fn is_shell(text: &str) -> bool {
    let mut shell = Command::new("bash");
    let mut shell = shell
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut input = shell.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("a pipe");
    drop(input);
    shell.wait().expect("its end").success()
}

/// The lines of shell that name a part of this project name one that there is.
fn names_what_there_is(block: &Block) -> Result<(), String> {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    for line in block.text.lines() {
        let line = line
            .trim_start_matches("$ ")
            .split("  #")
            .next()
            .unwrap_or_default();
        let words: Vec<_> = line
            .split_whitespace()
            .filter(|word| !word.contains('='))
            .collect();
        match *words.as_slice() {
            ["make", target, ..] if !makefile.contains(&format!("\n{target}:")) => {
                return Err(format!("no target {target}"));
            }
            ["meshtrace" | "dist/meshtrace", name, ..] if !name.starts_with('-') => {
                let mut meshtrace = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
                let run = meshtrace.args([name, "--help"]).output().expect("a run");
                let help = String::from_utf8_lossy(&run.stdout);
                let mut flags = words.iter().filter(|word| word.starts_with("--"));
                if let Some(flag) = flags.find(|flag| !help.contains(*flag)) {
                    return Err(format!("{name} has no {flag}"));
                }
                if !run.status.success() {
                    return Err(format!("no command {name}"));
                }
            }
            _ => {}
        }
        for word in words {
            let word = word.trim_matches(|c: char| "'\"();,".contains(c));
            let folders = [
                "examples/",
                "istio-manifests/",
                "crates/",
                ".make/",
                "docs/",
            ];
            let is_ours = folders.iter().any(|folder| word.starts_with(folder));
            if is_ours && !word.contains(['*', '…', '$']) && !root().join(word).exists() {
                return Err(format!("no {word}"));
            }
        }
    }
    Ok(())
}

fn check(block: &Block) -> Result<(), String> {
    match block.language.as_str() {
        // Diagrams and lines of a log.
        "" | "text" => Ok(()),
        "sh" | "console" => {
            if block.language == "sh" && !is_shell(&block.text) {
                return Err("no shell reads it".to_owned());
            }
            let is_run = block.language == "sh"
                || PRINTED.contains(&block.page.as_str())
                || SHOWN.contains(&block.page.as_str())
                || RUN_ELSEWHERE
                    .iter()
                    .any(|(page, _)| block.page.starts_with(page));
            match is_run {
                true => names_what_there_is(block),
                false => Err("no test runs it: name it in PRINTED or RUN_ELSEWHERE".to_owned()),
            }
        }
        "json" => serde_json::from_str::<serde_json::Value>(&block.text)
            .map(drop)
            .map_err(|why| why.to_string()),
        // `meshtrace check` reads it too, in crates/check/tests/shipped.rs. Several documents are several texts, and `…` is
        // a part that the page leaves out.
        "yaml" => block.text.split("\n---\n").try_for_each(|text| {
            serde_saphyr::from_str::<serde_json::Value>(text)
                .map(drop)
                .map_err(|why| why.to_string())
        }),
        "toml" => match block.text.contains(" = ") {
            true => Ok(()),
            false => Err("no setting".to_owned()),
        },
        "dockerfile" => {
            let known = ["FROM ", "COPY ", "RUN ", "#"];
            match block
                .text
                .lines()
                .find(|line| !known.iter().any(|word| line.starts_with(word)))
            {
                Some(line) => Err(format!("no instruction: {line}")),
                None => Ok(()),
            }
        }
        // Each name of ours in a query is a counter that a page documents: crates/cli/tests/pages.rs has the alerts'.
        "promql" => {
            let opened = block.text.matches('(').count();
            match opened > 0 && opened == block.text.matches(')').count() {
                true => Ok(()),
                false => Err("parentheses".to_owned()),
            }
        }
        // Compiled as tests of the documentation: both pages are the documentation of a crate.
        language if language.starts_with("rust") => {
            let folder = root().join(Path::new(&block.page).parent().expect("a folder"));
            let library = fs::read_to_string(folder.join("src/lib.rs")).unwrap_or_default();
            match library.contains("include_str!(\"../README.md\")") {
                true => Ok(()),
                false => Err("no crate has this page as its documentation".to_owned()),
            }
        }
        other => Err(format!("nothing checks {other}")),
    }
}

#[test]
fn every_block_is_checked_by_what_reads_its_language() {
    let blocks = blocks();
    let mistakes: Vec<_> = blocks
        .iter()
        .filter_map(|block| Some(format!("{}: {}", block.place(), check(block).err()?)))
        .collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(blocks.len() > 100, "{}", blocks.len());
}

/// A page that says that a test runs it names one that there is.
#[test]
fn the_tests_that_run_the_other_pages_are_there() {
    for (page, test) in RUN_ELSEWHERE {
        assert!(root().join(page).exists(), "{page}");
        assert!(root().join(test).exists(), "{test}");
    }
}
