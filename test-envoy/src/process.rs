//! Child processes with a time limit.

use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Starts the process. It tries again while a fork of another thread holds a freshly written
/// executable open.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the process to its end. At the limit it kills the process and returns
/// [`io::ErrorKind::TimedOut`].
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<Output> {
    // Files do not fill up as pipes do, so they need no reader while the child runs.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let mut child = spawn(command)?;
    let status = match wait(&mut child, limit) {
        Ok(Some(status)) => status,
        outcome => {
            end(&mut child);
            return Err(outcome
                .err()
                .unwrap_or_else(|| io::Error::from(io::ErrorKind::TimedOut)));
        }
    };
    let text = |file: &mut std::fs::File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Output {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

/// Kills the process and reads its exit status, so that nothing of the process stays.
pub(crate) fn end(child: &mut Child) {
    // The process may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_hangs_is_ended_at_the_limit() {
        let mut command = Command::new("sleep");
        let error = run(command.arg("3600"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn more_output_than_a_pipe_holds_is_kept() {
        let mut command = Command::new("head");
        let output = run(
            command.args(["-c", "300000", "/dev/zero"]),
            Duration::from_secs(60),
        )
        .unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 300_000);
    }
}
