//! Envoy's process, and a process that ends it where the test cannot.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::options::Options;
use crate::binary::{EnvoyBinary, tail};
use crate::client::Request;
use crate::config::Layout;
use crate::{Error, process, sync};

/// Envoy's process, and a second process that ends Envoy if the test is killed.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) watch: Option<Child>,
}

impl Process {
    pub(super) fn start(
        binary: &EnvoyBinary,
        layout: &Layout,
        options: &Options,
    ) -> Result<Self, Error> {
        let failed = || Error::io(format!("start {}", binary.path().display()));
        let log = File::create(layout.log()).map_err(failed())?;
        let mut command = Command::new(binary.path());
        command
            .arg("--config-path")
            .arg(layout.bootstrap())
            .arg("--admin-address-path")
            .arg(layout.admin_address())
            .args(["--concurrency", &options.concurrency.to_string()])
            .args(["--log-level", &options.log_level])
            .args(["--file-flush-interval-msec", "100"])
            .arg("--disable-hot-restart")
            .args([
                "--component-log-level",
                &options.component_log_levels.join(","),
            ])
            .args(&options.arguments)
            .envs(
                options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed())?)
            .stderr(log);
        if let Some(folder) = &options.working_directory {
            command.current_dir(folder);
        }
        let child = process::spawn(&mut command).map_err(failed())?;
        let mut process = Self { child, watch: None };
        process.watch = Some(process.start_watch(layout).map_err(failed())?);
        Ok(process)
    }

    /// If the test is killed, or the value is in a `static`, nothing is dropped. Then Envoy ends
    /// when the pipe to this process is closed.
    pub(super) fn start_watch(&self, layout: &Layout) -> std::io::Result<Child> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCH, "envoy-watch"])
            .arg(self.child.id().to_string())
            .arg(layout.staging())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        process::spawn(&mut command)
    }

    pub(super) fn wait_until_ready(&mut self, layout: &Layout) -> Result<SocketAddr, Error> {
        let mut admin = None;
        sync::poll(
            || "Envoy to become ready".to_owned(),
            || {
                let exited = self.child.try_wait().map_err(Error::io("watch Envoy"))?;
                if let Some(status) = exited {
                    return Err(Error::EnvoyExited {
                        status: status.to_string(),
                        log: log_tail(layout),
                    });
                }
                admin = admin.or_else(|| {
                    fs::read_to_string(layout.admin_address())
                        .ok()?
                        .trim()
                        .parse::<SocketAddr>()
                        .ok()
                });
                let Some(admin) = admin else {
                    return Ok(None);
                };
                // The file exists a moment before the admin interface answers.
                let ready = Request::get("/ready")
                    .send(admin)
                    .is_ok_and(|response| response.status == 200);
                Ok(ready.then_some(admin))
            },
            || format!("its log ends with\n{}", log_tail(layout)),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(watch) = &mut self.watch {
            process::end(watch);
        }
        process::end(&mut self.child);
    }
}

pub(super) fn read_log(layout: &Layout) -> Result<String, Error> {
    fs::read(layout.log())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(Error::io("read Envoy's log"))
}

pub(super) fn log_tail(layout: &Layout) -> String {
    read_log(layout).map_or_else(|error| error.to_string(), |log| tail(&log, 40))
}

/// Waits for the end of its input. Then it ends the Envoy that was started for the folder, and
/// removes the folder.
pub(super) const WATCH: &str = r#"
trap '' HUP INT TERM
read -r _
if { tr '\0' ' ' < "/proc/$1/cmdline" || ps -p "$1" -o args=; } | grep -qF "$2"; then kill -9 "$1"; fi
rm -rf "$2"
"#;
