//! The data about the project in the images: from Cargo's manifests and from git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::DateTime;
use serde::Deserialize;

use crate::dependencies::Dependencies;
use crate::error::BuildError;
use crate::layout::sbom;

/// The native tracer's name as an image.
pub const NATIVE: &str = "native";
const NATIVE_PACKAGE: &str = "meshtrace-native";

/// The commit that the images are made from.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The hash of the commit, followed by `-dirty` where files differ from the commit. `None`
    /// outside of a git repository.
    pub commit: Option<String>,
    /// The time of the commit, in RFC 3339 and UTC: `SOURCE_DATE_EPOCH` where that is set, else the
    /// commit's time, else 1970.
    pub created: String,
    /// The place of the source: `SOURCE` where that is set, else `package.repository`, else git's
    /// `origin`.
    pub source: Option<String>,
}

/// A package of the workspace that has images: a filter, or the native tracer.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// The last part of the image's name.
    pub(crate) name: String,
    /// Cargo's name of it.
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) licence: String,
    pub(crate) dependencies: Dependencies,
}

/// The workspace, its filters and its native tracer.
#[derive(Clone, Debug)]
pub struct Project {
    pub(crate) root: PathBuf,
    pub(crate) filters: Vec<Packed>,
    /// The native tracer.
    pub(crate) native: Packed,
    pub(crate) revision: Revision,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

impl Project {
    /// Reads the workspace in `root` from cargo and git. Its filters are the packages in
    /// `root/filters/`.
    ///
    /// # Errors
    /// Where cargo fails, or `SOURCE_DATE_EPOCH` is no number.
    pub fn read(root: &Path) -> Result<Self, BuildError> {
        let root = root.canonicalize().map_err(BuildError::file(root))?;
        let folder = root.join("filters");
        let (native, others): (Vec<_>, Vec<_>) = packages(&root)?
            .into_iter()
            .partition(|package| package.name == NATIVE_PACKAGE);
        let mut packages: Vec<_> = others
            .into_iter()
            .filter(|package| package.manifest_path.starts_with(&folder))
            .collect();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        let native = native.into_iter().next();
        let native = native.ok_or_else(|| no_package(NATIVE_PACKAGE))?;
        let repository = packages
            .iter()
            .find_map(|package| package.repository.clone());
        let filters = packages
            .into_iter()
            .map(|package| Packed::read(&root, package, "wasm32-wasip1"))
            .collect::<Result<_, _>>()?;
        // The packages are the same for both processors.
        let mut native = Packed::read(&root, native, "x86_64-unknown-linux-gnu")?;
        native.name = NATIVE.to_owned();
        Ok(Self {
            revision: Revision::read(&root, repository)?,
            root,
            filters,
            native,
        })
    }

    /// The names of the filters, in order, without the native tracer.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|filter| filter.name.as_str())
    }

    /// The commit that the images name.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.revision
    }
}

impl Packed {
    fn read(root: &Path, package: Package, target: &str) -> Result<Self, BuildError> {
        // `cargo metadata` is not used: its graph has the features of the whole workspace, also of
        // tests.
        let arguments = [
            "tree",
            "--locked",
            "--package",
            &package.name,
            "--target",
            target,
            "--edges",
            "normal",
            "--no-dedupe",
            "--prefix",
            "depth",
            "--format",
            "|{p}|{l}",
        ];
        let tree = run(root, "cargo", &arguments)?;
        Ok(Self {
            dependencies: Dependencies::from_tree(&tree)?,
            name: package.name.clone(),
            package: package.name,
            version: package.version,
            description: package.description.unwrap_or_default(),
            licence: package.license.unwrap_or_else(|| "NOASSERTION".to_owned()),
        })
    }
}

impl Revision {
    fn read(root: &Path, repository: Option<String>) -> Result<Self, BuildError> {
        let git = |arguments: &[&str]| {
            let output = run(root, "git", arguments).ok()?;
            Some(output.trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"]).map(|commit| {
            let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
            let clean = changes.is_some_and(|changes| changes.is_empty());
            if clean {
                commit
            } else {
                format!("{commit}-dirty")
            }
        });
        let epoch = std::env::var("SOURCE_DATE_EPOCH")
            .ok()
            .filter(|epoch| !epoch.is_empty());
        let time = match &epoch {
            Some(epoch) => Some(epoch.clone()),
            None => git(&["log", "-1", "--format=%ct"]),
        };
        let time = time.unwrap_or_else(|| "0".to_owned());
        let created = time
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or(BuildError::Epoch(time))?
            .format("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let source = std::env::var("SOURCE")
            .ok()
            .filter(|source| !source.is_empty())
            .or(repository)
            .or_else(|| git(&["remote", "get-url", "origin"]).and_then(|url| public(&url)));
        Ok(Self {
            commit,
            created,
            source,
        })
    }
}

/// The bill of materials, SPDX 2.3, of a program of the workspace: of this package, compiled for this
/// target, as this file.
///
/// # Errors
/// Where cargo fails, there is no such package, or the file cannot be read.
pub fn bill_of_materials(
    root: &Path,
    package: &str,
    target: &str,
    file: &Path,
) -> Result<Vec<u8>, BuildError> {
    let root = root.canonicalize().map_err(BuildError::file(root))?;
    let found = packages(&root)?
        .into_iter()
        .find(|found| found.name == package);
    let found = found.ok_or_else(|| no_package(package))?;
    let packed = Packed::read(&root, found, target)?;
    let program = fs::read(file).map_err(BuildError::file(file))?;
    sbom(&packed, &Revision::read(&root, None)?, &program)
}

/// The packages of the workspace.
fn packages(root: &Path) -> Result<Vec<Package>, BuildError> {
    let arguments = ["metadata", "--no-deps", "--locked", "--format-version", "1"];
    let metadata = run(root, "cargo", &arguments)?;
    let metadata: Metadata = serde_json::from_str(&metadata).map_err(|why| BuildError::Output {
        command: "cargo metadata".to_owned(),
        why: why.to_string(),
    })?;
    Ok(metadata.packages)
}

fn no_package(name: &str) -> BuildError {
    BuildError::Output {
        command: "cargo metadata".to_owned(),
        why: format!("no package {name}"),
    }
}

/// The address of a git remote in a form for others: without a path of this machine, and without a
/// password.
fn public(remote: &str) -> Option<String> {
    let (scheme, rest) = remote.split_once("://")?;
    if !matches!(scheme, "http" | "https" | "ssh" | "git") {
        return None;
    }
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit('@').next()?;
    Some(format!("{scheme}://{host}/{path}"))
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<String, BuildError> {
    let failed = |why: String| BuildError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        why,
    };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .map_err(|why| failed(why.to_string()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(failed(why.trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_told_without_password_and_never_as_a_path() {
        let told = |remote| public(remote);
        let expected = Some("https://git.example.com/mesh/trace.git".to_owned());
        assert_eq!(
            told("https://me:secret@git.example.com/mesh/trace.git"),
            expected
        );
        assert_eq!(told("https://git.example.com/mesh/trace.git"), expected);
        assert_eq!(told("/srv/git/trace.git"), None);
        assert_eq!(told("file:///srv/git/trace.git"), None);
    }
}
