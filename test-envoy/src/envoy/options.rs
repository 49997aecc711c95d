//! Options of the Envoy process.

use std::path::PathBuf;

/// Options of the Envoy process: the number of workers, log levels, environment, arguments.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) concurrency: u32,
    pub(super) log_level: String,
    pub(super) component_log_levels: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) arguments: Vec<String>,
    pub(super) working_directory: Option<PathBuf>,
}

impl Options {
    /// The default options: one worker, and the log at level info.
    pub fn new() -> Self {
        Self {
            concurrency: 1,
            log_level: "info".to_owned(),
            // At level info, `main` writes a list of all extensions before any line that a test
            // reads.
            component_log_levels: vec!["main:warning".to_owned()],
            environment: Vec::new(),
            arguments: Vec::new(),
            working_directory: None,
        }
    }

    /// Sets the number of worker threads.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets the log's level: `trace`, `debug`, `info`, `warning`, `error`, `critical` or `off`.
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = level.to_owned();
        self
    }

    /// Sets the level of single components: `wasm:debug,tracing:trace`. `main` has the level
    /// warning unless it is named here.
    pub fn component_log_level(mut self, levels: &str) -> Self {
        self.component_log_levels.push(levels.to_owned());
        self
    }

    /// Sets the log level of Wasm filters to debug.
    pub fn wasm_debug_log(self) -> Self {
        self.component_log_level("wasm:debug")
    }

    /// Sets an environment variable of the process. The test's own variables are set too.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a command line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets the folder in which relative paths of the configuration begin. The default is the
    /// test's own.
    pub fn working_directory(mut self, folder: impl Into<PathBuf>) -> Self {
        self.working_directory = Some(folder.into());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
