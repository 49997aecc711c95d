//! What the generated manifests have in common: both resources by which Istio loads a plugin, and
//! that a file is what would be written.

use std::fs;

use meshtrace_test_support::common;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// In the place of a digest that only the reader's own push knows.
pub(crate) const NO_DIGEST: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the image of a filter is.
pub(crate) fn image(filter: &str) -> String {
    format!("registry.example.com/meshtrace/{filter}:{VERSION}")
}

/// A way of loading by a resource of Istio's extensions API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) folder: &'static str,
    /// Of Istio, as a head says them.
    pub(crate) versions: &'static str,
}

pub(crate) const KINDS: [Kind; 2] = [
    Kind {
        name: "WasmPlugin",
        folder: "wasmplugin",
        versions: "1.28 to 1.31",
    },
    Kind {
        name: "TrafficExtension",
        folder: "trafficextension",
        versions: "1.30 to 1.31",
    },
];

impl Kind {
    /// The part of a spec that loads `filter`, which is told `configuration`: lines of YAML.
    pub(crate) fn module(self, filter: &str, configuration: &str) -> String {
        let module = format!(
            "# A registry that wants credentials: `imagePullSecret` with a kubernetes.io/dockerconfigjson Secret of this\n\
             # namespace. One that is named and missing is a failed fetch.\n\
             url: oci://{}\n\
             # The digest that `make push` prints, without `sha256:`. A tag may move, and then proxies of one mesh run\n\
             # different modules; with another digest than the registry's nothing is fetched.\n\
             sha256: \"{NO_DIGEST}\"\n\
             # A pinned module never changes: no proxy asks for it twice.\n\
             imagePullPolicy: IfNotPresent\n\
             # Names the plugin in Envoy's log and metrics.\n\
             pluginName: {filter}\n\
             # A module that cannot be fetched or crashes lets requests pass as they are. FAIL_CLOSE and FAIL_RELOAD answer\n\
             # 403 to every request when the fetch fails.\n\
             failStrategy: FAIL_OPEN\n\
             pluginConfig:\n{}",
            image(filter),
            indented(configuration, 2)
        );
        match self.name {
            "TrafficExtension" => format!("wasm:\n{}", indented(&module, 2)),
            _ => module,
        }
    }
}

pub(crate) fn indented(text: &str, by: usize) -> String {
    let line = |line: &str| format!("{}{line}\n", " ".repeat(by));
    text.lines().map(line).collect()
}

/// The files of istio-manifests/, by their paths there, are these; `UPDATE_EXAMPLES=1` makes them
/// so. `update` is the command that does.
pub(crate) fn check_files(files: &[(String, String)], update: &str) {
    let writes = std::env::var_os("UPDATE_EXAMPLES").is_some();
    for (path, text) in files {
        let path = common::root().join("istio-manifests").join(path);
        if writes {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, text).expect("written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == *text,
            "{} is stale. To write it anew: {update}",
            path.display()
        );
    }
}
