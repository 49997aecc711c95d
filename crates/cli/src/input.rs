//! The plugin configuration that a command is about.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
pub(crate) use meshtrace_explain::json_of as json;

/// A filter's own configuration.
#[derive(Args, Debug)]
pub(crate) struct Input {
    /// The file with the filter's configuration as JSON or YAML; `-` is standard input. Without it: the filter's defaults
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl Input {
    /// The configuration in this file; `None`: the filter's defaults.
    pub(crate) fn of(file: Option<&str>) -> Self {
        Self {
            file: file.map(PathBuf::from),
        }
    }

    /// The configuration as JSON.
    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
        match &self.file {
            None => Ok(Vec::new()),
            Some(file) => read(file).map(json),
        }
    }
}

/// The content of a file; `-` is standard input. What begins with a brace, and is no file, is the
/// content itself.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let name = file.as_os_str().as_encoded_bytes();
    if name.starts_with(b"{") && !file.exists() {
        return Ok(name.to_vec());
    }
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        io::stdin()
            .read_to_end(&mut text)
            .map_err(|error| format!("standard input cannot be read: {error}"))?;
        return Ok(text);
    }
    fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
