//! The mesh configuration: providers.

use serde_json::{Value, json};

use super::super::input::Role;
use super::super::refusal::Refused;
use super::super::rendering::{Kind, Piece};
use super::Mesh;
use crate::istio_provider;

/// The provider of the access log.
pub(super) const LOG: &str = "json-with-trace";

impl Mesh<'_> {
    pub(super) fn mesh_config(&self) -> Result<Option<Piece>, Refused> {
        let mut providers = Vec::new();
        let mut what = Vec::new();
        if let Some(fields) = &self.plan.log {
            providers.push(istio_provider(LOG, fields));
            what.push("the format of the access log");
        }
        if self.setup.role == Role::Waypoint
            && let Some(provider) = self.collector()
        {
            providers.push(provider);
            what.push("the collector, which a waypoint knows by a provider alone");
        }
        if providers.is_empty() {
            return Ok(None);
        }
        let purpose = format!(
            "In `meshConfig` of the installation, which kubectl does not apply: {}.",
            what.join("; ")
        );
        let value = json!({"extensionProviders": providers});
        Piece::new(Kind::MeshConfig, "mesh-config", purpose, &[value]).map(Some)
    }

    /// A provider that nothing selects: it makes Istio tell waypoints the collector's cluster.
    fn collector(&self) -> Option<Value> {
        let collector = self.plan.collector.as_ref()?;
        let mut parts = collector.cluster.split('|');
        let port: u16 = parts.nth(1)?.parse().ok()?;
        let service = parts.nth(1)?;
        Some(json!({
            "name": "meshtrace-collector",
            "opentelemetry": {"service": service, "port": port},
        }))
    }
}
