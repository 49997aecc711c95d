//! What can go wrong, as sentences that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A filter that was not built.
    #[error("{} is missing: run `make build`", .0.display())]
    NoModule(PathBuf),
    /// Something else under the filter's name.
    #[error("{} is not a WebAssembly module: run `make build`", .0.display())]
    NotAModule(PathBuf),
    /// A program that the description of the project comes from.
    #[error("`{command}` failed: {why}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote to stderr, or why it did not start.
        why: String,
    },
    /// Output of such a program that is not what it is documented to be.
    #[error("`{command}` wrote something unexpected: {why}")]
    Output {
        /// The command line.
        command: String,
        /// What is missing.
        why: String,
    },
    /// `SOURCE_DATE_EPOCH` in the environment.
    #[error("SOURCE_DATE_EPOCH is {0:?}: expected seconds since 1970, such as 1767225600")]
    Epoch(String),
    /// A file that cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// A document that the crates of the specifications refuse.
    #[error("the image cannot be described: {0}")]
    Specification(String),
}

impl BuildError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |why| Self::File { path, why }
    }
}

impl From<oci_spec::OciSpecError> for BuildError {
    fn from(why: oci_spec::OciSpecError) -> Self {
        Self::Specification(why.to_string())
    }
}

/// Why an image is not in the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A target that names no registry.
    #[error(
        "REGISTRY is {0:?}: expected host[:port]/namespace, such as registry.example.com/meshtrace"
    )]
    Target(String),
    /// A tag that a registry would refuse.
    #[error("TAG is {0:?}: expected at most 119 letters, digits, `_`, `.` and `-`, such as 1.0.0")]
    Tag(String),
    /// A folder without images.
    #[error("{} is no OCI image layout ({why}): run `make images`", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Nobody listens, or somebody who speaks another protocol.
    #[error(
        "no registry answers at {scheme}://{registry} ({why}): is it running, and is REGISTRY right? Loopback \
         addresses are spoken to in plain HTTP and all others with TLS; for a registry without TLS set PLAIN_HTTP=1"
    )]
    Unreachable {
        /// How it was spoken to.
        scheme: &'static str,
        /// Host and port.
        registry: String,
        /// What the connection says.
        why: String,
    },
    /// A registry that wants credentials, where there are none.
    #[error(
        "{registry} wants credentials, and {config} has none for it: run `docker login {registry}`, or set \
         DOCKER_CONFIG to the folder of a config.json that has them"
    )]
    NoCredentials {
        /// Host and port.
        registry: String,
        /// The file.
        config: String,
    },
    /// Credentials that the registry refuses.
    #[error(
        "{registry} refuses the credentials that {config} has for it, or they may not push to {repository}: run \
         `docker login {registry}` again, or ask who runs the registry"
    )]
    Refused {
        /// Host and port.
        registry: String,
        /// The file.
        config: String,
        /// The image's name there.
        repository: String,
    },
    /// A Docker configuration, or a credential helper that it names, which does not work.
    #[error("{config} cannot be used for {registry}: {why}")]
    Credentials {
        /// The file.
        config: String,
        /// Host and port.
        registry: String,
        /// What is wrong.
        why: String,
    },
    /// A registry that has something else under the name than what was sent.
    #[error("{reference} was pushed as {sent}, and the registry says {found}")]
    Digest {
        /// The image.
        reference: String,
        /// The manifest's digest.
        sent: String,
        /// What the registry has.
        found: String,
    },
    /// Whatever else the registry says.
    #[error("{registry}: {why}")]
    Registry {
        /// Host and port.
        registry: String,
        /// What it says.
        why: String,
    },
}
