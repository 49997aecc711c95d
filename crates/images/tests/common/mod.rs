//! What the tests of the images share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meshtrace_images::{Layout, NATIVE, Project};

/// The repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository")
}

pub(crate) fn project() -> Project {
    Project::read(&root()).expect("the workspace")
}

/// The images of every filter and of the native tracer, as `make images` makes them.
pub(crate) fn build(out: &Path) -> Vec<Layout> {
    let layouts = Layout::build_all(&project(), &root().join("dist"), out);
    layouts.unwrap_or_else(|why| panic!("{why}"))
}

/// The same without the native tracer's, which are not Wasm.
pub(crate) fn build_filters(out: &Path) -> Vec<Layout> {
    let mut layouts = build(out);
    assert_eq!(layouts.pop().expect("a layout").name, NATIVE);
    layouts
}

/// Every file below `folder` by its path.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("a path in it").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}
