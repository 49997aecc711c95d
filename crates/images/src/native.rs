//! The image of the native tracer: one manifest for each processor, under one index.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oci_spec::image::{Arch, Descriptor, MediaType, Os, PlatformBuilder};

use crate::error::BuildError;
use crate::layout::{
    Blobs, LICENCE, Layout, annotations, canonical, index, named, one_layer, sbom, write,
};
use crate::project::{NATIVE, Project};

const MODULE: &str = "libmeshtrace.so";
/// The first bytes of every shared library of Linux.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// A processor: the name of its folder, and that of its platform.
const PROCESSORS: [(&str, Arch); 2] = [("x86_64", Arch::Amd64), ("aarch64", Arch::ARM64)];

/// Packs `<modules>/<processor>/libmeshtrace.so` of each processor into `<out>/native/`, with the
/// bills of materials beside it. A processor whose module is missing is left out.
pub(crate) fn build(
    project: &Project,
    modules: &Path,
    licence: &[u8],
    out: &Path,
) -> Result<Layout, BuildError> {
    let (native, revision) = (&project.native, &project.revision);
    let mut found = Vec::new();
    for (folder, architecture) in PROCESSORS {
        let path = modules.join(folder).join(MODULE);
        if !path.exists() {
            continue;
        }
        let module = fs::read(&path).map_err(BuildError::file(&path))?;
        if !module.starts_with(ELF_MAGIC) {
            return Err(BuildError::NotALibrary(path));
        }
        let sbom = sbom(native, revision, &module)?;
        found.push((architecture, module, sbom));
    }
    if found.is_empty() {
        return Err(BuildError::NoModule(modules.join("*").join(MODULE)));
    }
    let pack = |blobs: &Blobs<'_>| {
        let manifest = |(architecture, module, sbom): &(Arch, Vec<u8>, Vec<u8>)| {
            let files = [
                (MODULE, module.as_slice()),
                ("sbom.spdx.json", sbom),
                (LICENCE, licence),
            ];
            let image = one_layer(blobs, native, revision, &files, architecture.clone(), None)?;
            for_platform(image, architecture)
        };
        let mut manifests = index(found.iter().map(manifest).collect::<Result<_, _>>()?)?;
        let annotations: HashMap<_, _> = annotations(native, revision);
        manifests.set_annotations(Some(annotations));
        let index = blobs.add(MediaType::ImageIndex, &canonical(&manifests)?)?;
        Ok(vec![named(index, &native.version)])
    };
    let layout = Layout::write(NATIVE, out, pack)?;
    for (architecture, _, sbom) in &found {
        write(
            &out.join(format!("{NATIVE}-{architecture}.spdx.json")),
            sbom,
        )?;
    }
    Ok(layout)
}

fn for_platform(mut image: Descriptor, architecture: &Arch) -> Result<Descriptor, BuildError> {
    let platform = PlatformBuilder::default()
        .os(Os::Linux)
        .architecture(architecture.clone())
        .build()?;
    image.set_platform(Some(platform));
    Ok(image)
}
