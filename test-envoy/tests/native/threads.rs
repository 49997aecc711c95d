//! The module's thread: one for a process, and none where a configuration is only checked.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::{Envoy, Options};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, flush, manager, options, tracing};
use meshtrace_test_support::reporting::{Collected, reporting};
use tempfile::TempDir;

fn bootstrap() -> Bootstrap {
    let listener = |name: &str| {
        let config = reporting("http/protobuf", "{}");
        Listener::http(name, manager(tracing(config)))
    };
    let all = ["one", "two", "three"].map(listener);
    all.into_iter().fold(Bootstrap::new(), Bootstrap::listener)
}

/// The threads of a process with the module's name, once there is one. A thread takes its name when
/// it runs first, which may be after Envoy is ready.
fn running(process_id: u32) -> usize {
    let deadline = Instant::now() + Duration::from_secs(30);
    while named(process_id) == 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    named(process_id)
}

fn named(process_id: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process_id}/task")).expect("its threads");
    let names = tasks.map(|task| {
        let path = task.expect("a thread").path().join("comm");
        fs::read_to_string(path).unwrap_or_default()
    });
    names.filter(|name| name.trim() == "meshtrace").count()
}

#[test]
fn three_listeners_have_one_thread_on_three_workers() {
    for envoy in envoys() {
        let options = options().concurrency(3);
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap(), options);
        let threads = running(mesh.envoy.process_id());
        assert_eq!(threads, 1, "{}", envoy.reported_version());
    }
}

/// A library that writes down every name that a thread of the process is given.
struct Names(TempDir);

impl Names {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/native/threads.c");
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("names.so"))
            .args([source, "-ldl"])
            .status();
        assert!(compiler.expect("cc, which links Rust too").success());
        Self(folder)
    }

    fn options(&self) -> Options {
        let text = |name: &str| self.0.path().join(name).display().to_string();
        options()
            .env("LD_PRELOAD", &text("names.so"))
            .env("THREAD_NAMES", &text("names"))
    }

    /// How many threads of the module's name there were since the last call.
    fn take(&self) -> usize {
        let path = self.0.path().join("names");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().filter(|name| *name == "meshtrace").count()
    }
}

#[test]
fn a_configuration_that_is_only_checked_starts_no_thread() {
    let names = Names::new();
    for envoy in envoys() {
        let version = envoy.reported_version();
        let checked = names.options().argument("--mode").argument("validate");
        let cluster = || {
            let patch = serde_json::json!({"static_resources": {"clusters": [
                {"name": "upstream"}, {"name": "collector"},
            ]}});
            bootstrap().merge(flush()).merge(patch)
        };
        let Err(error) = Envoy::start_with(&envoy, cluster(), checked) else {
            panic!("it runs");
        };
        assert!(error.to_string().contains("OK"), "{version}: {error}");
        assert_eq!(names.take(), 0, "{version}");
        let envoy = Envoy::start_with(&envoy, cluster(), names.options()).expect("an Envoy");
        assert_eq!(running(envoy.process_id()), 1, "{version}");
        assert_eq!(names.take(), 1, "{version}: the library sees it");
    }
}
