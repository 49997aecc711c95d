//! The two Python applications, instrumented from outside by the OpenTelemetry SDK; a test of `make
//! test-mesh` runs them too.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Importing the SDK takes a second on an idle machine and many on a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs what follows it until its standard input ends, as it does however the demo ends; Ctrl-C
/// reaches the whole group, so it must pass this by. The socket comes as standard output and goes
/// on as `LISTEN_FD`.
const WATCH: &str =
    r#"trap '' INT HUP; "$@" 3>&1 1>&2 2>"$0" & exec >/dev/null 2>&1; cat; kill $!"#;
const LISTEN_FD: &str = "3";

/// A Python application, and the one propagator its SDK is given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: &'static str,
    /// For `OTEL_PROPAGATORS`.
    pub(crate) propagator: &'static str,
    /// The variable through which it learns where the other application's proxy listens.
    pub(crate) next: &'static str,
}

/// The interpreter whose environment has what `requirements.txt` lists.
#[derive(Debug)]
pub(crate) struct Python(PathBuf);

impl Python {
    /// The one that `make demo` or `make test-mesh` prepared.
    pub(crate) fn from_env() -> Result<Self, String> {
        let hint = "run the demo through `make demo`, and the tests through `make test-mesh`";
        let Some(python) = std::env::var_os("DEMO_PYTHON") else {
            return Err(format!("DEMO_PYTHON is not set: {hint}."));
        };
        let python = Self(python.into());
        if python.instrument().is_file() {
            Ok(python)
        } else {
            Err(format!(
                "{} is missing: {hint}.",
                python.instrument().display()
            ))
        }
    }

    /// Beside the interpreter, not on PATH: it must instrument with that environment's packages.
    fn instrument(&self) -> PathBuf {
        self.0.with_file_name("opentelemetry-instrument")
    }
}

/// An application's process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    process: Child,
    log: PathBuf,
}

impl Running {
    /// Starts the application on the socket; it reports its spans to `collector`, and calls the
    /// other one at `next`.
    pub(crate) fn start(
        app: &App,
        python: &Python,
        socket: TcpListener,
        collector: SocketAddr,
        next: SocketAddr,
        logs: &Path,
    ) -> Result<Self, String> {
        let name = app.name;
        let log = logs.join(format!("{name}.log"));
        File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("demo/apps")
            .join(format!("{name}.py"));
        let mut command = Command::new("/bin/sh");
        // Settings of the developer's own, a sampler say, would change what is shown.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(variable);
            }
        }
        command
            .args(["-c", WATCH])
            .arg(&log)
            .arg(python.instrument())
            .arg(&python.0)
            .arg(source)
            .env("LISTEN_FD", LISTEN_FD)
            .env("OTEL_SERVICE_NAME", name)
            .env("OTEL_PROPAGATORS", app.propagator)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_METRICS_EXPORTER", "none")
            .env("OTEL_LOGS_EXPORTER", "none")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            // A proxy that the developer's machine needs for the internet would swallow the call to
            // our own.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env(app.next, format!("http://{next}"))
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(socket))
            .stderr(Stdio::piped());
        let process = command
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name, process, log })
    }

    /// Returns when the application serves.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), String> {
        let (sender, receiver) = mpsc::channel();
        if let Some(output) = self.process.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if line == "ready" {
                        // The receiver is gone only when the time was up.
                        let _ = sender.send(());
                    }
                }
            });
        }
        receiver
            .recv_timeout(START_LIMIT)
            .map_err(|_| format!("{} did not start; it wrote:\n{}", self.name, self.log()))
    }

    /// What the application wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Fails only when the process has been waited for already.
        let _ = self.process.wait();
    }
}
