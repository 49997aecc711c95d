//! A wall clock that a test sets, for one Envoy.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use envoy_test_harness::Options;
use tempfile::TempDir;

/// The wall clock of an Envoy, by how much it is off the machine's.
#[derive(Debug)]
pub(crate) struct WallClock {
    folder: TempDir,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Self { folder };
        fs::write(clock.path("step"), 0_i64.to_le_bytes()).expect("the step");
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/mesh_tracing/wall_clock/step.c"
        );
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.path("step.so"))
            .arg(source)
            .status();
        assert!(compiler.expect("cc, which links Rust too").success());
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the clock this many seconds off.
    pub(crate) fn step(&self, seconds: i64) {
        // In place: Envoy has mapped the file, which must not be cut for a moment.
        let file = OpenOptions::new().write(true).open(self.path("step"));
        let written = file.and_then(|mut file| file.write_all(&seconds.to_le_bytes()));
        written.expect("the step");
    }

    /// Has an Envoy go by this clock.
    pub(crate) fn options(&self) -> Options {
        let text = |name: &str| self.path(name).display().to_string();
        Options::new()
            .env("LD_PRELOAD", &text("step.so"))
            .env("WALL_CLOCK_STEP", &text("step"))
    }
}
