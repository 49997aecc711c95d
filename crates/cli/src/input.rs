//! The plugin configuration that a command is about.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::Args;

/// A filter's own configuration.
#[derive(Args, Debug)]
pub(crate) struct Input {
    /// The file with the filter's configuration as JSON; `-` is standard input. Without it: the filter's defaults
    #[arg(value_name = "CONFIG.json")]
    file: Option<PathBuf>,
}

impl Input {
    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
        match &self.file {
            None => Ok(Vec::new()),
            Some(file) if file.as_os_str() == "-" => {
                let mut json = Vec::new();
                io::stdin()
                    .read_to_end(&mut json)
                    .map_err(|error| format!("standard input cannot be read: {error}"))?;
                Ok(json)
            }
            Some(file) => fs::read(file)
                .map_err(|error| format!("{} cannot be read: {error}", file.display())),
        }
    }
}
