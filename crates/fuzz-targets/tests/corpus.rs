//! The committed corpus holds, without libFuzzer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use meshtrace_fuzz_targets::TARGETS;
use meshtrace_propagation::format::Format;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_target_keeps_its_promise_for_its_corpus() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        for file in corpus(name) {
            let data = fs::read(&file).expect("a file of the corpus");
            if panic::catch_unwind(|| target(&data)).is_err() {
                broken.push(file);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_target_has_a_program_for_libfuzzer_and_every_corpus_a_target() {
    let names = |folder: &str, suffix: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().trim_end_matches(suffix).to_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(names("corpus", ""), targets);
    assert_eq!(names("fuzz/fuzz_targets", ".rs"), targets);
}

#[test]
fn every_format_has_a_seed() {
    let seeds: Vec<_> = corpus("format")
        .iter()
        .map(|file| fs::read(file).expect("a file of the corpus"))
        .collect();
    for format in Format::ALL {
        let first_line = [format.name().as_bytes(), b"\n"].concat();
        let has_a_seed = seeds.iter().any(|seed| seed.starts_with(&first_line));
        assert!(has_a_seed, "{}", format.name());
    }
}
