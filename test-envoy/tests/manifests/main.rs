//! The files below istio-manifests/: that they are well formed, and that each does what its head
//! and the guide say.

mod by_istio;
mod files;
mod head;
mod heads;
mod istio;
mod mesh_tracing;
mod native;
mod plugins;
mod rendered_by_istio;
mod rendered_mesh_tracing;
mod reported;
mod reroute;
mod rules;
mod which_tracer;
