//! An OCI image layout on disk. A build writes it, and a push reads it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REF_NAME,
    ANNOTATION_REVISION, ANNOTATION_SOURCE, ANNOTATION_TITLE, ANNOTATION_VERSION, Arch,
    ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndex, ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, RootFsBuilder, Sha256Digest,
};
use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::archive::{gzip, tar};
use crate::error::{BuildError, PushError};
use crate::native;
use crate::project::{Packed, Project, Revision};
use crate::sbom::spdx;

/// The end of the artifact's tag, after the tag of the image.
pub const ARTIFACT_SUFFIX: &str = "-artifact";

/// An annotation that the specification of Wasm images requires on the compat variant. No known
/// reader uses it.
const VARIANT: &str = "module.wasm.image/variant";
const MODULE_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
const MODULE_CONTENT: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// The first bytes of every module, since version 1 of the format.
const WASM_MAGIC: &[u8] = b"\0asm";
pub(crate) const LICENCE: &str = "LICENSE";

/// One of a layout's images.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// The tag in the layout: the filter's version. The artifact's tag also has
    /// [`ARTIFACT_SUFFIX`].
    pub tag: String,
    /// The digest of the manifest, or of the index: `sha256:` and 64 hexadecimal digits. A `sha256`
    /// in a WasmPlugin is this digest.
    pub digest: String,
    /// What the digest names: a manifest or an index.
    pub(crate) media_type: String,
    /// The digests of the manifests that an index names.
    pub(crate) manifests: Vec<String>,
    pub(crate) blobs: Vec<Blob>,
}

/// A blob that must be in the registry before the manifest that names it.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// The images of one filter, or of the native tracer, in a folder of its name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layout {
    /// The filter's name, or `native`: the last part of the image's name in a registry.
    pub name: String,
    /// The image first, then the artifact. The native tracer has one image.
    pub images: Vec<Image>,
    folder: PathBuf,
}

impl Layout {
    /// Packs every filter of `project` from `<modules>/<name>.wasm` into `<out>/<name>/`, with its
    /// bill of materials beside it as `<out>/<name>.spdx.json`; last the native tracer from
    /// `<modules>/<processor>/libmeshtrace.so` into `<out>/native/`, for the processors that it was
    /// compiled for. What is in these places is replaced.
    ///
    /// # Errors
    /// Where a module is missing or not valid, or a file cannot be written.
    pub fn build_all(
        project: &Project,
        modules: &Path,
        out: &Path,
    ) -> Result<Vec<Self>, BuildError> {
        let licence = project.root.join(LICENCE);
        let licence = fs::read(&licence).map_err(BuildError::file(&licence))?;
        let build = |filter: &Packed| {
            let module = modules.join(format!("{}.wasm", filter.name));
            if !module.exists() {
                return Err(BuildError::NoModule(module));
            }
            let content = fs::read(&module).map_err(BuildError::file(&module))?;
            if !content.starts_with(WASM_MAGIC) {
                return Err(BuildError::NotAModule(module));
            }
            Self::build(filter, &project.revision, &content, &licence, out)
        };
        let mut layouts = project
            .filters
            .iter()
            .map(build)
            .collect::<Result<Vec<_>, _>>()?;
        layouts.push(native::build(project, modules, &licence, out)?);
        Ok(layouts)
    }

    fn build(
        filter: &Packed,
        revision: &Revision,
        module: &[u8],
        licence: &[u8],
        out: &Path,
    ) -> Result<Self, BuildError> {
        let sbom = sbom(filter, revision, module)?;
        let pack = |blobs: &Blobs<'_>| {
            let image = image(blobs, filter, revision, module, &sbom, licence)?;
            let artifact = artifact(blobs, filter, revision, module)?;
            Ok(vec![
                named(image, &filter.version),
                named(artifact, &format!("{}{ARTIFACT_SUFFIX}", filter.version)),
            ])
        };
        let layout = Self::write(&filter.name, out, pack)?;
        write(&out.join(format!("{}.spdx.json", filter.name)), &sbom)?;
        Ok(layout)
    }

    /// Writes `<out>/<name>/` with the images that `pack` adds.
    pub(crate) fn write(
        name: &str,
        out: &Path,
        pack: impl FnOnce(&Blobs<'_>) -> Result<Vec<Descriptor>, BuildError>,
    ) -> Result<Self, BuildError> {
        fs::create_dir_all(out).map_err(BuildError::file(out))?;
        // The folder appears with all its files or not at all, so that nobody pushes half a layout.
        let work = tempfile::tempdir_in(out).map_err(BuildError::file(out))?;
        let images = pack(&Blobs::create(work.path())?)?;
        write(
            &work.path().join("index.json"),
            &canonical(&index(images)?)?,
        )?;
        let version = OciLayoutBuilder::default()
            .image_layout_version("1.0.0")
            .build()?;
        write(&work.path().join("oci-layout"), &canonical(&version)?)?;
        let folder = out.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(BuildError::file(&folder))?;
        }
        fs::rename(work.keep(), &folder).map_err(BuildError::file(&folder))?;
        Self::read(&folder).map_err(|why| BuildError::Specification(why.to_string()))
    }

    /// Reads the layout in `folder`.
    ///
    /// # Errors
    /// Where the folder is no layout.
    pub fn read(folder: &Path) -> Result<Self, PushError> {
        let refused = |why: String| PushError::Layout {
            path: folder.to_owned(),
            why,
        };
        let index = folder.join("index.json");
        let index =
            ImageIndex::from_file(&index).map_err(|why| refused(format!("index.json: {why}")))?;
        let name = folder.file_name().and_then(|name| name.to_str());
        let images = index.manifests().iter().map(|descriptor| {
            let digest = descriptor.digest().to_string();
            let tag = descriptor
                .annotations()
                .as_ref()
                .and_then(|annotations| annotations.get(ANNOTATION_REF_NAME))
                .ok_or_else(|| refused(format!("no tag for {digest}")))?;
            let manifests = match descriptor.media_type() {
                MediaType::ImageIndex => ImageIndex::from_file(blob_path(folder, &digest))
                    .map_err(|why| refused(format!("{digest}: {why}")))?
                    .manifests()
                    .iter()
                    .map(|manifest| manifest.digest().to_string())
                    .collect(),
                _ => Vec::new(),
            };
            let mut blobs = Vec::new();
            let of_itself = manifests.is_empty().then_some(&digest);
            for digest in manifests.iter().chain(of_itself) {
                let manifest = ImageManifest::from_file(blob_path(folder, digest))
                    .map_err(|why| refused(format!("{digest}: {why}")))?;
                let all = manifest.layers().iter().chain([manifest.config()]);
                blobs.extend(all.map(|blob| Blob {
                    digest: blob.digest().to_string(),
                    size: blob.size(),
                }));
            }
            Ok(Image {
                tag: tag.clone(),
                media_type: descriptor.media_type().to_string(),
                manifests,
                digest,
                blobs,
            })
        });
        Ok(Self {
            name: name
                .ok_or_else(|| refused("no name".to_owned()))?
                .to_owned(),
            images: images.collect::<Result<_, _>>()?,
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn content(&self, digest: &str) -> Result<Vec<u8>, PushError> {
        let path = blob_path(&self.folder, digest);
        fs::read(&path).map_err(|why| PushError::Layout {
            path: self.folder.clone(),
            why: format!("{digest}: {why}"),
        })
    }
}

/// The compat variant: one layer, an archive with the module under the name that the agent looks
/// for. The agent takes that file only. So the licence and the bill of materials can be in the same
/// layer and disturb no reader. As a referrer they would need an API that many registries do not
/// have.
fn image(
    blobs: &Blobs<'_>,
    filter: &Packed,
    revision: &Revision,
    module: &[u8],
    sbom: &[u8],
    licence: &[u8],
) -> Result<Descriptor, BuildError> {
    let files = [
        ("plugin.wasm", module),
        ("sbom.spdx.json", sbom),
        (LICENCE, licence),
    ];
    let variant = Some((VARIANT, "compat"));
    // docker and podman accept an image only for the platform of their machine. The agent does not
    // look at it.
    one_layer(blobs, filter, revision, &files, Arch::Amd64, variant)
}

/// An image for Linux of one layer with these files, and one more annotation of its manifest.
pub(crate) fn one_layer(
    blobs: &Blobs<'_>,
    packed: &Packed,
    revision: &Revision,
    files: &[(&str, &[u8])],
    architecture: Arch,
    annotation: Option<(&str, &str)>,
) -> Result<Descriptor, BuildError> {
    let archive = tar(files).map_err(BuildError::file(Path::new(&packed.name)))?;
    let layer = blobs.add(MediaType::ImageLayerGzip, &gzip(&archive))?;
    let mut annotations = annotations(packed, revision);
    let config = ImageConfigurationBuilder::default()
        .created(revision.created.as_str())
        .architecture(architecture)
        .os(Os::Linux)
        .config(
            ConfigBuilder::default()
                .labels(annotations.clone())
                .build()?,
        )
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(vec![format!("sha256:{}", hex_sha256(&archive))])
                .build()?,
        )
        .history(vec![
            HistoryBuilder::default()
                .created(revision.created.as_str())
                .created_by(concat!("meshtrace-images ", env!("CARGO_PKG_VERSION")))
                .build()?,
        ])
        .build()?;
    let config = blobs.add(MediaType::ImageConfig, &canonical(&config)?)?;
    annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(vec![layer])
        .annotations(annotations)
        .build()?;
    blobs.add(MediaType::ImageManifest, &canonical(&manifest)?)
}

/// An index of these manifests.
pub(crate) fn index(manifests: Vec<Descriptor>) -> Result<ImageIndex, BuildError> {
    Ok(ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?)
}

/// The bill of materials of a module, as a file.
pub(crate) fn sbom(
    packed: &Packed,
    revision: &Revision,
    module: &[u8],
) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec_pretty(&spdx(packed, &hex_sha256(module), &revision.created))
        .map_err(|why| BuildError::Specification(why.to_string()))
}

/// The image with exactly two layers, the module and its configuration, as the specification of
/// Wasm images requires.
fn artifact(
    blobs: &Blobs<'_>,
    filter: &Packed,
    revision: &Revision,
    module: &[u8],
) -> Result<Descriptor, BuildError> {
    let runtime = json!({
        "type": "envoy_proxy",
        "abiVersions": ["0.2.1"],
        "config": {"root_ids": [filter.name]},
    });
    let runtime = blobs.add(
        MediaType::Other(MODULE_CONFIG.to_owned()),
        &canonical(&runtime)?,
    )?;
    let module = blobs.add(MediaType::Other(MODULE_CONTENT.to_owned()), module)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::Other(MODULE_CONFIG.to_owned()))
        .config(blobs.add(MediaType::EmptyJSON, b"{}")?)
        .layers(vec![runtime, module])
        .annotations(annotations(filter, revision))
        .build()?;
    blobs.add(MediaType::ImageManifest, &canonical(&manifest)?)
}

pub(crate) fn annotations(packed: &Packed, revision: &Revision) -> HashMap<String, String> {
    let known = [
        (ANNOTATION_TITLE, Some(&packed.name)),
        (ANNOTATION_DESCRIPTION, Some(&packed.description)),
        (ANNOTATION_VERSION, Some(&packed.version)),
        (ANNOTATION_LICENSES, Some(&packed.licence)),
        (ANNOTATION_CREATED, Some(&revision.created)),
        (ANNOTATION_REVISION, revision.commit.as_ref()),
        (ANNOTATION_SOURCE, revision.source.as_ref()),
    ];
    known
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.clone())))
        .collect()
}

pub(crate) fn named(mut descriptor: Descriptor, tag: &str) -> Descriptor {
    let name = HashMap::from([(ANNOTATION_REF_NAME.to_owned(), tag.to_owned())]);
    descriptor.set_annotations(Some(name));
    descriptor
}

/// The blobs of a layout.
#[derive(Debug)]
pub(crate) struct Blobs<'a> {
    layout: &'a Path,
}

impl<'a> Blobs<'a> {
    fn create(layout: &'a Path) -> Result<Self, BuildError> {
        let folder = layout.join("blobs/sha256");
        fs::create_dir_all(&folder).map_err(BuildError::file(&folder))?;
        Ok(Self { layout })
    }

    pub(crate) fn add(
        &self,
        media_type: MediaType,
        content: &[u8],
    ) -> Result<Descriptor, BuildError> {
        let digest: Sha256Digest = hex_sha256(content).parse()?;
        let descriptor = DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest)
            .size(content.len() as u64)
            .build()?;
        let path = blob_path(self.layout, descriptor.digest().as_ref());
        write(&path, content)?;
        Ok(descriptor)
    }
}

fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

/// JSON with sorted keys and without spaces: the same value gives the same bytes.
pub(crate) fn canonical(value: &impl Serialize) -> Result<Vec<u8>, BuildError> {
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, CanonicalFormatter::new());
    value
        .serialize(&mut serializer)
        .map_err(|why| BuildError::Specification(why.to_string()))?;
    Ok(text)
}

fn hex_sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    fs::write(path, content).map_err(BuildError::file(path))
}
