//! `meshtrace-images push` to Debian's registry, and what skopeo reads there.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{build, root};
use meshtrace_images::NATIVE;
use serde_json::Value;
use tempfile::TempDir;

/// `mesh` and `secret`, by htpasswd -B.
const HTPASSWD: &str = "mesh:$2y$05$8/HA0SuCRigAEv5Hs2DK/ePS4FvQyvkaLn9EN1gkm7YEw96QlCY3.";
/// `mesh:secret` and `mesh:wrong` in Base64.
const GOOD: &str = "bWVzaDpzZWNyZXQ=";
const WRONG: &str = "bWVzaDp3cm9uZw==";

/// A registry on a port of its own.
#[derive(Debug)]
struct Registry {
    process: Child,
    address: String,
    _storage: TempDir,
}

impl Registry {
    fn start(htpasswd: Option<&str>) -> Self {
        let found = Command::new(root().join(".make/docker-registry.sh"))
            .stderr(Stdio::inherit())
            .output()
            .expect("the script");
        assert!(found.status.success());
        let program = String::from_utf8(found.stdout).expect("a path");

        let storage = tempfile::tempdir().expect("a folder");
        let path = storage.path().display();
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: test}}\nlog: {{formatter: json}}\n"
        );
        if let Some(line) = htpasswd {
            fs::write(storage.path().join("htpasswd"), format!("{line}\n")).expect("a file");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}\n");
        }
        let file = storage.path().join("config.yml");
        fs::write(&file, config).expect("a file");
        let mut process = Command::new(program.trim())
            .args(["serve".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry");

        let mut log = BufReader::new(process.stderr.take().expect("its log"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            let read = log.read_line(&mut line).expect("its log");
            assert!(read > 0, "docker-registry has ended");
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            let text = message["msg"].as_str().unwrap_or_default();
            if let Some(address) = text.strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || {
            let _ = log.read_to_end(&mut Vec::new());
        });
        Self {
            process,
            address,
            _storage: storage,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with images and a Docker configuration.
#[derive(Debug)]
struct Checkout {
    folder: TempDir,
    names: Vec<String>,
}

impl Checkout {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let layouts = build(&folder.path().join("dist/oci"));
        Self {
            // The native tracer, which is last, has one image.
            names: layouts.into_iter().map(|layout| layout.name).collect(),
            folder,
        }
    }

    fn filters(&self) -> impl Iterator<Item = &String> {
        self.names.iter().filter(|name| *name != NATIVE)
    }

    /// `docker login`.
    fn log_in(&self, registry: &str, auth: &str) {
        let config = format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#);
        fs::write(self.folder.path().join("config.json"), config).expect("a file");
    }

    fn push(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_meshtrace-images"))
            .arg("push")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DOCKER_CONFIG", self.folder.path())
            .env_remove("PLAIN_HTTP")
            .output()
            .expect("meshtrace-images")
    }

    /// The lines on stdout.
    fn pushes(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.push(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// The last line on stderr.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.push(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let told = String::from_utf8(output.stderr).expect("text");
        told.lines().last().unwrap_or_default().to_owned()
    }
}

fn skopeo(arguments: &[&str]) -> Output {
    Command::new("skopeo")
        .args(arguments)
        .output()
        .expect("skopeo, as `make test` installs it")
}

fn skopeo_reads(arguments: &[&str]) -> Vec<u8> {
    let output = skopeo(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {told}");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn what_is_pushed_is_what_was_built_and_what_is_printed() {
    let registry = Registry::start(None);
    let checkout = Checkout::new();
    let target = format!("{}/mesh/filters", registry.address);
    let pinned = checkout.pushes(&[&target, "1.2.3"]);
    assert_eq!(pinned.len(), 2 * checkout.names.len() - 1, "{pinned:?}");
    let (native, filters): (Vec<_>, Vec<_>) = pinned
        .iter()
        .partition(|line| line.contains(&format!("/{NATIVE}:")));
    for (name, pinned) in checkout.filters().zip(filters.chunks(2)) {
        let layout = checkout.folder.path().join("dist/oci").join(name);
        let index = fs::read_to_string(layout.join("index.json")).expect("the index");
        for (pinned, suffix) in pinned.iter().zip(["", "-artifact"]) {
            let (reference, digest) = pinned.split_once('@').expect("a digest");
            assert_eq!(reference, format!("{target}/{name}:1.2.3{suffix}"));
            assert!(index.contains(digest), "{digest} {index}");
            let source = format!("docker://{reference}");
            let raw = skopeo_reads(&["inspect", "--tls-verify=false", "--raw", &source]);
            let manifest = layout.join("blobs").join(digest.replace(':', "/"));
            assert!(
                raw == fs::read(manifest).expect("the manifest"),
                "{reference}"
            );
        }

        // As docker and podman would: every layer is an archive to them.
        let load = |reference: &str, file: &str| {
            let archive = checkout.folder.path().join(format!("{name}-{file}"));
            let archive = format!("docker-archive:{}:mesh/{name}:1", text(&archive));
            let source = format!("docker://{reference}");
            skopeo(&["copy", "--src-tls-verify=false", &source, &archive])
                .status
                .success()
        };
        let at = |suffix: &str| format!("{target}/{name}:1.2.3{suffix}");
        assert!(load(&at(""), "image.tar"));
        assert!(!load(&at("-artifact"), "artifact.tar"), "one tag would do");
    }
    // Every platform of the native tracer is what a container runtime of it gets.
    let native = native.first().expect("the native tracer");
    let (reference, digest) = native.split_once('@').expect("a digest");
    assert_eq!(reference, format!("{target}/{NATIVE}:1.2.3"));
    let source = format!("docker://{reference}");
    let raw = skopeo_reads(&["inspect", "--tls-verify=false", "--raw", &source]);
    let layout = checkout.folder.path().join("dist/oci").join(NATIVE);
    let index = fs::read(layout.join("blobs").join(digest.replace(':', "/")));
    assert!(raw == index.expect("the index"));
    let index: Value = serde_json::from_slice(&raw).expect("JSON");
    for manifest in index["manifests"].as_array().expect("manifests") {
        let platform = manifest["platform"]["architecture"].as_str().expect("text");
        let archive = checkout
            .folder
            .path()
            .join(format!("native-{platform}.tar"));
        let archive = format!("docker-archive:{}:mesh/{NATIVE}:1", text(&archive));
        let platform = format!("--override-arch={platform}");
        skopeo_reads(&[
            &platform,
            "copy",
            "--src-tls-verify=false",
            &source,
            &archive,
        ]);
    }
    // The second time there is nothing to send, and nothing changes.
    assert_eq!(checkout.pushes(&[&target, "1.2.3"]), pinned);
}

#[test]
fn skopeo_reads_the_layout_itself() {
    let checkout = Checkout::new();
    for name in &checkout.names {
        let layout = checkout.folder.path().join("dist/oci").join(name);
        // Of an index skopeo takes the manifest for this machine.
        let version = env!("CARGO_PKG_VERSION");
        let image = format!("oci:{}:{version}", text(&layout));
        let inspected = skopeo_reads(&["inspect", &image]);
        let inspected: Value = serde_json::from_slice(&inspected).expect("JSON");
        let title = &inspected["Labels"]["org.opencontainers.image.title"];
        assert_eq!(title, name.as_str());
    }
}

#[test]
fn credentials_come_from_the_docker_configuration() {
    let registry = Registry::start(Some(HTPASSWD));
    let checkout = Checkout::new();
    let host = &registry.address;
    let target = format!("{host}/mesh");

    let why = checkout.fails(&[&target]);
    assert!(
        why.contains(&format!("error: {host} wants credentials")),
        "{why}"
    );
    assert!(why.contains(&format!("run `docker login {host}`")), "{why}");

    checkout.log_in(host, WRONG);
    let why = checkout.fails(&[&target]);
    assert!(why.contains("refuses the credentials that"), "{why}");
    assert!(why.contains("config.json has for it"), "{why}");
    assert!(
        !why.contains("wrong"),
        "a password is no matter for a log: {why}"
    );

    checkout.log_in(host, GOOD);
    // Without a tag, every image has its filter's version.
    let version = env!("CARGO_PKG_VERSION");
    let pinned = checkout.pushes(&[&target]);
    assert!(
        pinned
            .iter()
            .any(|line| line.contains(&format!(":{version}@sha256:")))
    );
}

#[test]
fn without_a_registry_it_says_what_to_do() {
    let checkout = Checkout::new();
    // Nobody listens there any more.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let why = checkout.fails(&[&format!("{address}/mesh")]);
    assert!(
        why.contains(&format!("no registry answers at http://{address}")),
        "{why}"
    );
    assert!(why.contains("Connection refused"), "{why}");
    assert!(why.contains("is REGISTRY right?"), "{why}");

    let why = checkout.fails(&["mesh"]);
    assert!(why.contains("expected host[:port]/namespace"), "{why}");

    fs::remove_dir_all(checkout.folder.path().join("dist")).expect("removed");
    let why = checkout.fails(&[&format!("{address}/mesh")]);
    assert!(why.ends_with("run `make images`"), "{why}");
}
