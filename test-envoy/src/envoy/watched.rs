//! The files that Envoy watches for listeners and extensions.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::Error;
use crate::config::{HttpFilter, Layout, Listener};

/// The listeners in the watched files, and the version of the files.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) listeners: Vec<Listener>,
    pub(super) version: u64,
}

impl Watched {
    pub(super) fn write_listeners(&self, layout: &Layout) -> Result<(), Error> {
        let resources = self
            .listeners
            .iter()
            .map(|listener| listener.render_resource(layout))
            .collect();
        self.write(layout, &layout.listeners(), resources)
    }

    pub(super) fn write_extension(
        &self,
        layout: &Layout,
        filter: &HttpFilter,
    ) -> Result<(), Error> {
        self.write(
            layout,
            &layout.extension(filter.name()),
            vec![filter.render_resource()],
        )
    }

    /// Moves a complete file to its place, so that Envoy never reads a half file.
    pub(super) fn write(
        &self,
        layout: &Layout,
        target: &Path,
        resources: Vec<Value>,
    ) -> Result<(), Error> {
        let response = json!({"version_info": self.version.to_string(), "resources": resources});
        let written = || -> std::io::Result<()> {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = NamedTempFile::new_in(layout.staging())?;
            file.write_all(response.to_string().as_bytes())?;
            file.persist(target)?;
            Ok(())
        };
        written().map_err(Error::io(format!("write {}", target.display())))
    }
}
