//! The packages that are linked into a module, and the edges between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::BuildError;

/// A package that is linked.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression, or `NOASSERTION`.
    pub(crate) licence: String,
    /// Whether the package is in the registry of crates.
    pub(crate) published: bool,
}

/// The linked packages by `name-version`, with the filter, and the edges between them.
#[derive(Clone, Debug)]
pub(crate) struct Dependencies {
    pub(crate) packages: BTreeMap<String, Dependency>,
    pub(crate) edges: BTreeSet<(String, String)>,
}

impl Dependencies {
    /// Reads what `cargo tree` prints: lines of the form `2|serde v1.0.228|MIT OR Apache-2.0`.
    pub(crate) fn from_tree(tree: &str) -> Result<Self, BuildError> {
        let mut packages = BTreeMap::new();
        let mut edges = BTreeSet::new();
        let mut path: Vec<String> = Vec::new();
        // The depth of a procedural macro. What it depends on runs in the compiler, and is in no
        // module.
        let mut macro_at = None;
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let unexpected = || BuildError::Output {
                command: "cargo tree".to_owned(),
                why: line.to_owned(),
            };
            let mut parts = line.split('|');
            let (depth, package) = parts.next().zip(parts.next()).ok_or_else(unexpected)?;
            let depth: usize = depth.parse().map_err(|_| unexpected())?;
            if macro_at.is_some_and(|at| depth > at) {
                continue;
            }
            macro_at = package.contains("(proc-macro)").then_some(depth);
            if macro_at.is_some() {
                continue;
            }
            let mut words = package.split(' ');
            let (name, version) = words.next().zip(words.next()).ok_or_else(unexpected)?;
            let version = version.strip_prefix('v').ok_or_else(unexpected)?;
            let dependency = Dependency {
                name: name.to_owned(),
                version: version.to_owned(),
                // Old crates write `/` for `OR`.
                licence: parts
                    .next()
                    .filter(|licence| !licence.is_empty())
                    .unwrap_or("NOASSERTION")
                    .replace('/', " OR "),
                // A package of the workspace is in no registry.
                published: !package.contains(" ("),
            };
            let id = format!("{name}-{version}");
            path.truncate(depth);
            if let Some(parent) = path.last() {
                edges.insert((parent.clone(), id.clone()));
            }
            path.push(id.clone());
            packages.insert(id, dependency);
        }
        Ok(Self { packages, edges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_without_what_only_the_compiler_runs() {
        let tree = "0|filter v0.1.0 (/src/filters/filter)|Apache-2.0\n\
                    1|serde v1.0.0|MIT/Apache-2.0\n\
                    2|serde_derive v1.0.0 (proc-macro)|MIT\n\
                    3|syn v2.0.0|MIT\n\
                    2|serde_core v1.0.0|MIT\n\
                    1|bumpalo v3.0.0|\n";
        let read = Dependencies::from_tree(tree).expect("a tree");
        let names: Vec<_> = read.packages.keys().map(String::as_str).collect();
        let expected = [
            "bumpalo-3.0.0",
            "filter-0.1.0",
            "serde-1.0.0",
            "serde_core-1.0.0",
        ];
        assert_eq!(names, expected);
        assert_eq!(read.packages["serde-1.0.0"].licence, "MIT OR Apache-2.0");
        assert_eq!(read.packages["bumpalo-3.0.0"].licence, "NOASSERTION");
        assert!(!read.packages["filter-0.1.0"].published);
        let edge = |from: &str, to: &str| read.edges.contains(&(from.to_owned(), to.to_owned()));
        assert!(edge("serde-1.0.0", "serde_core-1.0.0"));
        assert!(edge("filter-0.1.0", "bumpalo-3.0.0"));
        assert_eq!(read.edges.len(), 3);
    }
}
