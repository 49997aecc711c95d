//! Reads an access log of JSON lines.

use std::io;
use std::path::PathBuf;

use serde_json::Value;

use crate::{Error, sync};

/// An access log file. Envoy writes a line to it about 100 ms after the request.
#[derive(Debug, Clone)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    /// A log at this path. The file may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The complete lines until now.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a line that is not JSON, [`Error::Io`] when the file cannot be read.
    pub fn lines(&self) -> Result<Vec<Value>, Error> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::io(format!("read {}", self.path.display()))(error));
            }
        };
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| {
                serde_json::from_str(line).map_err(|error| {
                    Error::Configuration(format!(
                        "the access log has a line that is not JSON ({error}): {line}"
                    ))
                })
            })
            .collect()
    }

    /// Waits until there are at least `count` lines, and returns all there are.
    ///
    /// # Errors
    /// As [`AccessLog::lines`], and [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT).
    pub fn wait_for_lines(&self, count: usize) -> Result<Vec<Value>, Error> {
        sync::poll(
            || format!("{count} access log lines"),
            || Ok(Some(self.lines()?).filter(|lines| lines.len() >= count)),
            || format!("the log is {:?}", self.lines()),
        )
    }
}
