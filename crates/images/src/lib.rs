//! OCI images of the released filters and of the native tracer: one image layout for each, and the
//! push to a registry.
//!
//! The layout of a filter has two images of the same module, because no single one satisfies every reader:
//!
//! - the *image*: one `tar+gzip` layer with `plugin.wasm` in it, the *compat* variant of the Wasm
//!   image specification. Istio's agent, Envoy Gateway, docker, podman, skopeo and oras read it;
//! - the *artifact*: the module itself as a layer beside its configuration, which Istio's agent,
//!   Envoy Gateway and oras read. docker and podman cannot: to them every layer is a tar archive. A
//!   manifest with the module and the archive as its two layers would please both readings of
//!   Istio's agent, and docker no more than the artifact does.
//!
//! Both are single manifests: Istio's agent compares a pinned digest with that of the manifest,
//! never with an index. The native tracer is machine code, so its image is an index with a manifest
//! for each processor, which container runtimes read and Istio's agent does not. Packing depends on nothing but the module and the commit, so that two
//! builds of one commit have one digest.

#![forbid(unsafe_code)]

mod archive;
mod dependencies;
mod error;
mod layout;
mod native;
mod project;
mod push;
mod sbom;

pub use error::{BuildError, PushError};
pub use layout::{ARTIFACT_SUFFIX, Image, Layout};
pub use project::{NATIVE, Project, Revision, bill_of_materials};
pub use push::{Pushed, Target, push};
