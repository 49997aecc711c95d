//! What is in a layout, read as its readers read it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;

use common::{build, build_filters, files, project, root};
use meshtrace_images::{ARTIFACT_SUFFIX, BuildError, Image, Layout, NATIVE};
use serde_json::{Value, json};

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn blob(folder: &Path, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    fs::read(folder.join("blobs").join(digest)).expect("the blob")
}

fn manifest(folder: &Path, image: &Image) -> Value {
    serde_json::from_slice(&blob(folder, &json!(image.digest))).expect("a manifest")
}

#[test]
fn two_builds_of_one_commit_are_the_same_bytes() {
    let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
    let (first, second) = (first.expect("a folder"), second.expect("a folder"));
    let names: Vec<_> = build(first.path())
        .into_iter()
        .map(|layout| layout.name)
        .collect();
    let project = project();
    assert_eq!(names, project.filters().chain([NATIVE]).collect::<Vec<_>>());
    // Into a folder that has images already: what is there is replaced.
    build(second.path());
    build(second.path());
    let (first, second) = (files(first.path()), files(second.path()));
    assert!(first.len() > 5, "{:?}", first.keys());
    assert!(first == second, "{:?} {:?}", first.keys(), second.keys());
}

/// The files of a layer, read by another implementation than the one that wrote it.
fn unpacked(folder: &Path, digest: &Value) -> Vec<(String, Vec<u8>)> {
    let compressed = blob(folder, digest);
    let mut archive = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(compressed.as_slice());
    reader.read_to_end(&mut archive).expect("gzip");
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut files = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        files.push((name, content));
    }
    files
}

/// The platforms of an index.
fn platforms(folder: &Path, image: &Image) -> Vec<String> {
    let index = manifest(folder, image);
    let manifests = index["manifests"].as_array().expect("manifests");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    manifests
        .iter()
        .map(|one| &one["platform"])
        .map(|one| format!("{}/{}", text(&one["os"]), text(&one["architecture"])))
        .collect()
}

/// Container runtimes choose by the platform, and an image volume shows the files of the layer.
#[test]
fn the_native_tracer_is_an_index_with_a_library_for_each_processor() {
    let out = tempfile::tempdir().expect("a folder");
    let layouts = build(out.path());
    let layout = layouts.last().expect("the native tracer");
    let folder = out.path().join(&layout.name);
    let [image] = layout.images.as_slice() else {
        panic!("{:?}", layout.images)
    };
    assert_eq!(layout.name, NATIVE);
    let index = manifest(&folder, image);
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(
        index["annotations"]["org.opencontainers.image.version"],
        image.tag.as_str()
    );
    let manifests = index["manifests"].as_array().expect("manifests");
    let mut packed = Vec::new();
    for (processor, platform) in [("x86_64", "amd64"), ("aarch64", "arm64")] {
        let library = root().join(format!("dist/{processor}/libmeshtrace.so"));
        // `make build` says where it had no toolchain for a processor.
        let Ok(library) = fs::read(library) else {
            continue;
        };
        packed.push(format!("linux/{platform}"));
        let of_platform = |one: &&Value| one["platform"]["architecture"] == platform;
        let one = manifests.iter().find(of_platform).expect("its manifest");
        let manifest: Value =
            serde_json::from_slice(&blob(&folder, &one["digest"])).expect("a manifest");
        let layers = manifest["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 1);
        let files = unpacked(&folder, &layers[0]["digest"]);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["libmeshtrace.so", "sbom.spdx.json", "LICENSE"]);
        assert!(files[0].1 == library, "{processor}");
        let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"]["digest"]))
            .expect("a configuration");
        assert_eq!(config["architecture"], platform);

        let sbom = json(&out.path().join(format!("{NATIVE}-{platform}.spdx.json")));
        let packages = sbom["packages"].as_array().expect("packages");
        let named = |name: &str| packages.iter().find(|package| package["name"] == name);
        let own = named("meshtrace-native").expect("the tracer");
        assert!(own["checksums"][0]["checksumValue"].is_string());
        assert!(named("serde_json").is_some());
        assert!(named("proxy-wasm").is_none(), "that is the filters'");
        let inside: Value = serde_json::from_slice(&files[1].1).expect("JSON");
        assert_eq!(inside, sbom);
    }
    assert_eq!(platforms(&folder, image), packed);
    assert!(!packed.is_empty());
}

#[test]
fn the_image_is_one_archive_with_the_module_first() {
    let out = tempfile::tempdir().expect("a folder");
    for layout in build_filters(out.path()) {
        let folder = out.path().join(&layout.name);
        let module = fs::read(root().join(format!("dist/{}.wasm", layout.name))).expect("built");
        let [image, _] = layout.images.as_slice() else {
            panic!("{:?}", layout.images)
        };
        let manifest = manifest(&folder, image);
        let oci = |kind: &str| format!("application/vnd.oci.image.{kind}");
        assert_eq!(manifest["mediaType"], oci("manifest.v1+json"));
        assert_eq!(manifest["config"]["mediaType"], oci("config.v1+json"));
        let layers = manifest["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 1);
        assert_eq!(layers[0]["mediaType"], oci("layer.v1.tar+gzip"));
        let annotations = &manifest["annotations"];
        assert_eq!(annotations["module.wasm.image/variant"], "compat");
        assert_eq!(
            annotations["org.opencontainers.image.licenses"],
            "Apache-2.0"
        );
        assert_eq!(
            annotations["org.opencontainers.image.version"],
            image.tag.as_str()
        );

        let files = unpacked(&folder, &layers[0]["digest"]);
        assert!(files[0].1 == module, "{}", layout.name);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["plugin.wasm", "sbom.spdx.json", "LICENSE"]);

        let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"]["digest"]))
            .expect("a configuration");
        assert_eq!(config["os"], "linux");
        let labels = &config["config"]["Labels"];
        assert_eq!(
            labels["org.opencontainers.image.title"],
            layout.name.as_str()
        );
        assert_eq!(
            config["rootfs"]["diff_ids"].as_array().map(Vec::len),
            Some(1)
        );
    }
}

#[test]
fn the_artifact_is_the_module_and_its_configuration() {
    let out = tempfile::tempdir().expect("a folder");
    for layout in build_filters(out.path()) {
        let folder = out.path().join(&layout.name);
        let module = fs::read(root().join(format!("dist/{}.wasm", layout.name))).expect("built");
        let artifact = layout.images.last().expect("the artifact");
        assert!(artifact.tag.ends_with(ARTIFACT_SUFFIX), "{}", artifact.tag);
        let manifest = manifest(&folder, artifact);
        let layers = manifest["layers"].as_array().expect("layers");
        let types: Vec<_> = layers.iter().map(|layer| &layer["mediaType"]).collect();
        let expected = ["config.v1+json", "content.layer.v1+wasm"];
        let expected = expected.map(|kind| json!(format!("application/vnd.module.wasm.{kind}")));
        assert_eq!(types, expected.iter().collect::<Vec<_>>());
        assert!(
            blob(&folder, &layers[1]["digest"]) == module,
            "{}",
            layout.name
        );
    }
}

#[test]
fn the_bill_of_materials_names_the_module_and_what_is_linked() {
    let out = tempfile::tempdir().expect("a folder");
    for layout in build_filters(out.path()) {
        let sbom = json(&out.path().join(format!("{}.spdx.json", layout.name)));
        let packages = sbom["packages"].as_array().expect("packages");
        let named = |name: &str| packages.iter().find(|package| package["name"] == name);
        let filter = named(&layout.name).expect("the filter");
        assert_eq!(
            filter["checksums"][0]["checksumValue"]
                .as_str()
                .map(str::len),
            Some(64)
        );
        let sdk = named("proxy-wasm").expect("the SDK");
        assert_eq!(sdk["licenseDeclared"], "Apache-2.0");
        for on_the_developers_machine in ["syn", "serde_derive", "wasm-bindgen-test", "tokio"] {
            assert!(named(on_the_developers_machine).is_none());
        }
        assert!(
            packages
                .iter()
                .all(|package| package["licenseDeclared"] != "NOASSERTION")
        );
    }
}

#[test]
fn what_was_not_built_is_said() {
    let (empty, out) = (tempfile::tempdir(), tempfile::tempdir());
    let (empty, out) = (empty.expect("a folder"), out.expect("a folder"));
    let build = || Layout::build_all(&project(), empty.path(), out.path()).expect_err("no module");
    let why = build();
    assert!(matches!(why, BuildError::NoModule(_)), "{why}");
    assert!(
        why.to_string().ends_with("is missing: run `make build`"),
        "{why}"
    );
    for filter in project().filters() {
        fs::write(empty.path().join(format!("{filter}.wasm")), "hello").expect("a file");
    }
    assert!(matches!(build(), BuildError::NotAModule(_)));
    assert!(files(out.path()).is_empty());
    for filter in project().filters() {
        fs::write(empty.path().join(format!("{filter}.wasm")), "\0asm").expect("a file");
    }
    let why = build();
    assert!(
        why.to_string()
            .ends_with("*/libmeshtrace.so is missing: run `make build`"),
        "{why}"
    );
    fs::create_dir(empty.path().join("aarch64")).expect("a folder");
    let module = empty.path().join("aarch64/libmeshtrace.so");
    fs::write(&module, "hello").expect("a file");
    assert!(matches!(build(), BuildError::NotALibrary(_)));
    // A machine without the other toolchain packs what it has.
    fs::write(&module, "\x7fELF").expect("a file");
    let layouts = Layout::build_all(&project(), empty.path(), out.path()).expect("layouts");
    let native = layouts.last().expect("the native tracer");
    assert_eq!(
        platforms(&out.path().join(NATIVE), &native.images[0]),
        ["linux/arm64"]
    );
}
