//! Where a module is.

use serde_json::{Value, json};

use super::input::{Filter, FilterSetup, Host, Setup};
use super::refusal::Refused;

/// The registry of a placeholder, which `meshtrace check` finds.
const PLACEHOLDER: &str = "oci://registry.example.com/meshtrace";
/// The version of the placeholder's tag.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The folder in which a sidecar's module is mounted (docs/istio.md).
const MOUNTED: &str = "/etc/meshtrace";

#[derive(Clone, Debug)]
pub(super) struct Module {
    filter: Filter,
    /// As it was given, without `file://`.
    url: Option<String>,
    sha256: Option<String>,
}

impl Module {
    pub(super) fn read(setup: &Setup, given: &FilterSetup) -> Result<Self, Refused> {
        let name = given.filter.name();
        let refuse = |sentence: String| Err(Refused::new(format!("{name}: {sentence}")));
        if let Some(digest) = &given.sha256 {
            let is_hex = digest.len() == 64
                && digest
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hex {
                return refuse(format!(
                    "--sha256 {digest:?}: expected 64 hexadecimal digits in lower case, without `sha256:`"
                ));
            }
            if given.url.is_none() {
                return refuse("--sha256 without --url: name the module too".to_owned());
            }
        }
        let url = given.url.as_deref();
        let scheme = url.and_then(|url| Some(url.split_once("://")?.0));
        match (setup.host, scheme) {
            (_, None | Some("file")) => {}
            (Host::Envoy(_), Some("oci")) => {
                return refuse(
                    "Envoy itself fetches no images; give the path of a file, or https://… with --sha256"
                        .to_owned(),
                );
            }
            (Host::Envoy(_), Some("https" | "http")) if given.sha256.is_none() => {
                return refuse("Envoy fetches nothing without its digest; add --sha256".to_owned());
            }
            (_, Some("https" | "http")) | (Host::Istio(_), Some("oci")) => {}
            (_, Some(other)) => {
                return refuse(format!(
                    "--url {other}://…: expected oci, https, http, file or a path"
                ));
            }
        }
        let file = |url: &str| url.strip_prefix("file://").unwrap_or(url).to_owned();
        Ok(Self {
            filter: given.filter,
            url: url.map(file),
            sha256: given.sha256.clone(),
        })
    }

    /// The path of a file, where the module is one.
    fn file(&self) -> Option<&str> {
        let url = self.url.as_deref()?;
        // Without a scheme, Istio takes it for an image, unless it is a path.
        (!url.contains("://")).then_some(url)
    }

    pub(super) fn is_file(&self) -> bool {
        self.file().is_some_and(|url| url.starts_with('/'))
    }

    /// `code` of Envoy's `VmConfig`, and the host from which Envoy fetches it.
    pub(super) fn of_envoy(&self) -> (Value, Option<Remote>) {
        let path = || format!("dist/{}.wasm", self.filter.name());
        let Some(url) = self.url.as_deref() else {
            return (local(&path()), None);
        };
        let Some(remote) = Remote::read(url) else {
            return (local(url), None);
        };
        let code = json!({"remote": {
            "http_uri": {"uri": url, "cluster": remote.cluster(), "timeout": "30s"},
            "sha256": self.sha256,
        }});
        (code, Some(remote))
    }

    /// `url` and `sha256` of a WasmPlugin.
    pub(super) fn of_istio(&self) -> (String, Option<String>) {
        match (&self.url, self.is_file()) {
            (None, _) => (
                format!("{PLACEHOLDER}/{}:{VERSION}", self.filter.name()),
                Some("0".repeat(64)),
            ),
            (Some(path), true) => (format!("file://{path}"), None),
            (Some(url), false) => (url.clone(), self.sha256.clone()),
        }
    }

    /// `code` of Envoy's `VmConfig` in an EnvoyFilter: a mounted file.
    pub(super) fn mounted(&self) -> Value {
        match self.file().filter(|_| self.is_file()) {
            Some(path) => local(path),
            None => local(&format!("{MOUNTED}/{}.wasm", self.filter.name())),
        }
    }

    /// `code` of Envoy's `VmConfig` in what Istio's agent is asked for: the agent fetches it.
    pub(super) fn discovered(&self) -> Value {
        let (url, sha256) = self.of_istio();
        let uri = match url.contains("://") {
            true => url,
            false => format!("oci://{url}"),
        };
        let mut remote = json!({"http_uri": {"uri": uri, "cluster": "_", "timeout": "30s"}});
        if let (Some(remote), Some(sha256)) = (remote.as_object_mut(), sha256) {
            remote.insert("sha256".to_owned(), json!(sha256));
        }
        json!({"remote": remote})
    }
}

fn local(path: &str) -> Value {
    json!({"local": {"filename": path}})
}

/// The host from which Envoy itself fetches a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl Remote {
    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_tls = scheme == "https";
        let authority = rest.split('/').next()?;
        let usual = if is_tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, usual),
        };
        Some(Self {
            host: host.to_owned(),
            port,
            is_tls,
        })
    }

    pub(super) fn cluster(&self) -> String {
        format!("meshtrace_modules_{}", self.host.replace('.', "_"))
    }
}
