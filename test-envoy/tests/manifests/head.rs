//! The heads of the files for users: on which versions all of a file is accepted, and beside which
//! tracer it stands.

use std::fs;
use std::path::Path;

use envoy_test_harness::EnvoyBinary;
use meshtrace_test_support::common;

/// The tracers that a head names.
const TRACERS: [&str; 5] = ["any", "none", "otel", "zipkin", "zipkin-b3"];

/// Whose versions a head gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Envoy,
    Istio,
    EnvoyGateway,
}

impl Product {
    const ALL: [Self; 3] = [Self::Envoy, Self::Istio, Self::EnvoyGateway];

    fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::Istio => "Istio",
            Self::EnvoyGateway => "Envoy Gateway",
        }
    }

    /// The minor versions that are known here.
    fn known(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Envoy => 36..=40,
            Self::Istio => 28..=31,
            Self::EnvoyGateway => 9..=9,
        }
    }

    /// The minor versions of Envoy in the proxies of the product's version.
    fn envoys(self, minor: u32) -> Vec<u32> {
        match (self, minor) {
            (Self::Envoy, _) => vec![minor],
            // 1.40 is in the proxies of what comes after 1.31.
            (Self::Istio, 31) => vec![39, 40],
            (Self::Istio, _) => vec![minor + 8],
            (Self::EnvoyGateway, _) => vec![39],
        }
    }
}

/// The first line, or the first two, of a file.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) product: Product,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Of Istio's and Envoy Gateway's files.
    pub(crate) tracer: String,
}

impl Head {
    /// `# Istio: 1.28 to 1.31` or `# Istio: 1.31`, and `# Tracer: otel` below it but for Envoy's
    /// own files.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let line = lines.next().unwrap_or_default();
        let of = |product: &Product| line.strip_prefix(&format!("# {}: ", product.name()));
        let product = Product::ALL
            .into_iter()
            .find(|product| of(product).is_some());
        let product = product.ok_or_else(|| format!("no product and versions: {line:?}"))?;
        let versions = of(&product).unwrap_or_default();
        let (first, last) = versions.split_once(" to ").unwrap_or((versions, versions));
        let minor = |text: &str| -> Result<u32, String> {
            let digits = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
            digits
                .filter(|minor| product.known().contains(minor))
                .ok_or_else(|| format!("no version that is known: {text:?}"))
        };
        let (first, last) = (minor(first)?, minor(last)?);
        if first > last || (versions.contains(" to ") && first == last) {
            return Err(format!("no range: {versions:?}"));
        }
        let tracer = match product {
            Product::Envoy => "any",
            Product::Istio | Product::EnvoyGateway => {
                let line = lines.next().unwrap_or_default();
                let tracer = line.strip_prefix("# Tracer: ").unwrap_or_default();
                if !TRACERS.contains(&tracer) {
                    return Err(format!("no tracer that is known: {line:?}"));
                }
                tracer
            }
        };
        Ok(Self {
            product,
            first,
            last,
            tracer: tracer.to_owned(),
        })
    }

    /// The Envoys within reach that the head promises.
    pub(crate) fn envoys(&self) -> Vec<EnvoyBinary> {
        let minors: Vec<u32> = (self.first..=self.last)
            .flat_map(|minor| self.product.envoys(minor))
            .collect();
        let all = EnvoyBinary::all_supported().expect("the supported Envoys");
        let promised = |envoy: &EnvoyBinary| {
            let exactly =
                |minor: &u32| envoy.is_at_least(1, *minor) && !envoy.is_at_least(1, minor + 1);
            minors.iter().any(exactly)
        };
        all.into_iter().filter(promised).collect()
    }
}

/// The YAML files below a folder of the repository, by their paths from its root.
pub(crate) fn files(folder: &str) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let is_yaml = path.extension().is_some_and(|ending| ending == "yaml");
            if path.is_dir() {
                walk(&path, found);
            } else if is_yaml {
                let path = path.strip_prefix(common::root()).expect("below the root");
                found.push(path.to_str().expect("a path in UTF-8").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&common::root().join(folder), &mut found);
    found.sort();
    found
}

/// The files of istio-manifests/ that users apply, and what each has before its first resource.
pub(crate) fn manifests() -> Vec<(String, Head)> {
    let is_fixture = |path: &String| path.starts_with("istio-manifests/verify/");
    let read = |path: String| {
        let head = Head::parse(&common::text(&path));
        let head = head.unwrap_or_else(|why| panic!("{path}: {why}"));
        (path, head)
    };
    let files = files("istio-manifests").into_iter();
    files.filter(|path| !is_fixture(path)).map(read).collect()
}
