//! No input ends the command.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use meshtrace_check::{Filter, Input, Options, check};
use proptest::prelude::*;

fn run(name: &str, bytes: Vec<u8>, filter: Option<Filter>) {
    let inputs = [Input {
        name: name.to_owned(),
        bytes,
    }];
    let options = Options {
        filter,
        envoy: Some("1.36".parse().expect("a version")),
        istio: None,
    };
    let report = check(&inputs, &options);
    for finding in &report.findings {
        assert!(finding.line > 0 && finding.column > 0, "{finding}");
        assert!(!finding.to_string().contains('\n'), "{finding:?}");
    }
}

/// All files of `tests/mistakes`, and some that are right.
fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seeds = Vec::new();
        for entry in fs::read_dir(root.join("tests/mistakes")).expect("a folder") {
            let path = entry.expect("an entry").path();
            // The one that is refused for its size takes its time.
            if path.is_file() && !path.ends_with("alias-bomb.yaml") {
                seeds.push(fs::read(path).expect("a file"));
            }
        }
        for file in [
            "examples/route-sampling/envoy.yaml",
            "istio-manifests/access-log/envoyfilter-otel.yaml",
            "istio-manifests/envoy-gateway/mesh-tracing.yaml",
        ] {
            seeds.push(fs::read(root.join("../..").join(file)).expect("a file"));
        }
        seeds
    })
}

/// A change of a file: what it does, where, and with what.
fn changes() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    prop::collection::vec((0..6_u8, any::<usize>(), any::<u8>()), 1..8)
}

fn changed(mut bytes: Vec<u8>, changes: &[(u8, usize, u8)]) -> Vec<u8> {
    const PIECES: [&[u8]; 8] = [b"{", b"}", b"[", b"\"", b": ", b"\n  ", b"'", b"*a"];
    for (what, place, value) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place % bytes.len();
        match what {
            0 => bytes[place] = *value,
            1 => {
                bytes.remove(place);
            }
            2 => bytes.truncate(place),
            3 => {
                let piece = PIECES[usize::from(*value) % PIECES.len()];
                bytes.splice(place..place, piece.iter().copied());
            }
            4 => {
                let end = (place + usize::from(*value)).min(bytes.len());
                bytes.drain(place..end);
            }
            _ => {
                let end = (place + usize::from(*value)).min(bytes.len());
                let copy = bytes[place..end].to_vec();
                bytes.splice(place..place, copy);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), is_json: bool) {
        run(if is_json { "a.json" } else { "a.yaml" }, bytes.clone(), None);
        run("a.yaml", bytes, Some(Filter::MeshTracing));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-\\[\\]{}:,'\"|>&*#!%a-c0-9 \n\t\\\\é]{0,200}") {
        run("a.yaml", text.clone().into_bytes(), None);
        run("a.json", text.into_bytes(), Some(Filter::RouteSampling));
    }

    #[test]
    fn changed_files_are_read_or_refused(seed in any::<prop::sample::Index>(), changes in changes()) {
        let seed = seeds()[seed.index(seeds().len())].clone();
        run("a.yaml", changed(seed, &changes), None);
    }
}
