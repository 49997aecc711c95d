//! Errors, as sentences that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// An error of building the images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The filter, or the native tracer, was not built.
    #[error("{} is missing: run `make build`", .0.display())]
    NoModule(PathBuf),
    /// The file under the filter's name is not a module.
    #[error("{} is not a WebAssembly module: run `make build`", .0.display())]
    NotAModule(PathBuf),
    /// The file under the native tracer's name is not a library.
    #[error("{} is not a shared library: run `make build`", .0.display())]
    NotALibrary(PathBuf),
    /// A program failed that describes the project.
    #[error("`{command}` failed: {why}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote to stderr, or why it did not start.
        why: String,
    },
    /// The output of such a program is not as documented.
    #[error("`{command}` wrote something unexpected: {why}")]
    Output {
        /// The command line.
        command: String,
        /// What is missing.
        why: String,
    },
    /// `SOURCE_DATE_EPOCH` in the environment is not a number.
    #[error("SOURCE_DATE_EPOCH is {0:?}: expected seconds since 1970, such as 1767225600")]
    Epoch(String),
    /// A file cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        why: io::Error,
    },
    /// The crates of the specifications refuse a document.
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

/// An error of pushing the images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The target names no registry.
    #[error(
        "REGISTRY is {0:?}: expected host[:port]/namespace, such as registry.example.com/meshtrace"
    )]
    Target(String),
    /// A registry would refuse the tag.
    #[error("TAG is {0:?}: expected at most 119 letters, digits, `_`, `.` and `-`, such as 1.0.0")]
    Tag(String),
    /// The folder has no images.
    #[error("{} is no OCI image layout ({why}): run `make images`", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// No server answers, or one that speaks another protocol.
    #[error(
        "no registry answers at {scheme}://{registry} ({why}): is it running, and is REGISTRY right? Loopback \
         addresses are spoken to in plain HTTP and all others with TLS; for a registry without TLS set PLAIN_HTTP=1"
    )]
    Unreachable {
        /// The scheme of the connection: `http` or `https`.
        scheme: &'static str,
        /// Host and port.
        registry: String,
        /// The error of the connection.
        why: String,
    },
    /// The registry requires credentials, and there are none.
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
    /// The registry refuses the credentials.
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
    /// A Docker configuration, or a credential helper that it names, does not work.
    #[error("{config} cannot be used for {registry}: {why}")]
    Credentials {
        /// The file.
        config: String,
        /// Host and port.
        registry: String,
        /// What is wrong.
        why: String,
    },
    /// The registry has other content under the name than what was sent.
    #[error("{reference} was pushed as {sent}, and the registry says {found}")]
    Digest {
        /// The image.
        reference: String,
        /// The manifest's digest.
        sent: String,
        /// The digest that the registry has.
        found: String,
    },
    /// Any other error that the registry returns.
    #[error("{registry}: {why}")]
    Registry {
        /// Host and port.
        registry: String,
        /// The error that it returns.
        why: String,
    },
}
