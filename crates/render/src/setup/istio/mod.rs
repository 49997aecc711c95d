//! The resources for the proxies of an Istio mesh.

mod filters;
mod mesh;
mod patches;
mod plugin;
mod selection;
mod telemetry;

use serde_json::Value;

use self::selection::Selection;
use super::input::{Filter, Role, Setup};
use super::part::Config;
use super::placed::Placed;
use super::plan::Plan;
use super::refusal::Refused;
use super::rendering::{Kind, Piece, Rendering};
use crate::IstioVersion;

pub(super) fn render(
    setup: &Setup,
    plan: &Plan,
    version: IstioVersion,
) -> Result<Rendering, Refused> {
    let mesh = Mesh {
        setup,
        plan,
        version,
    };
    let mut pieces = Vec::new();
    for placed in &plan.downstream {
        pieces.push(mesh.plugin_or_filter(placed)?);
    }
    pieces.extend(mesh.envoy_filters()?);
    pieces.extend(mesh.telemetries()?);
    pieces.extend(mesh.mesh_config()?);
    if let Some(piece) = pieces.first_mut() {
        piece.notes.extend(plan.notes.iter().cloned());
    }
    let mut head = vec![
        version.to_string().replacen(' ', ": ", 1),
        format!("Tracer: {}", mesh.tracer_word()),
    ];
    let labels = mesh.labels(&pieces);
    if !labels.is_empty() {
        head.push(format!("Labels of the pods: {}", labels.join(", ")));
    }
    Ok(Rendering { head, pieces })
}

/// One rendering.
struct Mesh<'s> {
    setup: &'s Setup,
    plan: &'s Plan,
    version: IstioVersion,
}

impl Mesh<'_> {
    /// A filter that reports turns the proxy's own tracer off, whichever that is.
    fn tracer_word(&self) -> &'static str {
        match self.plan.collector {
            Some(_) => "any",
            None => self.plan.tracer_word(),
        }
    }

    /// The labels of single needs, which the pods of an application lack yet.
    fn labels(&self, pieces: &[Piece]) -> Vec<String> {
        let needs = ["early", "upstream", "sampling", "access-log"];
        let labels = needs.map(|need| format!("meshtrace-{need}: enabled"));
        let is_asked = |label: &String| pieces.iter().any(|piece| piece.content.contains(label));
        labels.into_iter().filter(is_asked).collect()
    }

    fn has_extensions(&self) -> bool {
        self.version >= IstioVersion::V1_30
    }

    /// The name of a resource: as asked for, or the filter's with the tracer beside which it stands.
    fn name(&self, filter: Filter, needs_tracer: bool, suffix: &str) -> String {
        let word = match needs_tracer {
            true => format!("-{}", self.tracer_word()),
            false => String::new(),
        };
        let own = format!("{}{word}", filter.dashed());
        let base = match &self.setup.name {
            None => own,
            Some(name) if self.setup.filters.len() == 1 => name.clone(),
            Some(name) => format!("{name}-{own}"),
        };
        format!("{base}{suffix}{}", self.role_suffix())
    }

    fn role_suffix(&self) -> &'static str {
        match self.setup.role {
            Role::Sidecar => "",
            Role::Gateway => "-gateway",
            Role::Waypoint => "-waypoint",
        }
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = Config::new();
        metadata.insert("name".to_owned(), name.into());
        if let Some(namespace) = &self.setup.namespace {
            metadata.insert("namespace".to_owned(), namespace.as_str().into());
        }
        Value::Object(metadata)
    }

    /// The proxies of a need that has this label in `istio-manifests/`; `None`: all of a namespace.
    fn selection(&self, need: Option<&str>) -> Selection {
        match (self.setup.role, &self.setup.selector) {
            (Role::Waypoint, _) => Selection::Waypoint(self.setup.waypoint.clone()),
            (_, Some((key, value))) => Selection::Label(key.clone(), value.clone()),
            (Role::Gateway, None) => Selection::label("istio", "ingressgateway"),
            (Role::Sidecar, None) => need.map_or(Selection::All, |need| {
                Selection::label(&format!("meshtrace-{need}"), "enabled")
            }),
        }
    }

    /// The proxies of a filter that stands among a listener's.
    fn selection_of(&self, placed: &Placed) -> Selection {
        self.selection(match placed.filter {
            // It goes together with an EnvoyFilter and a Telemetry.
            Filter::RouteSampling => Some("sampling"),
            Filter::AccessLogTrace if placed.step.is_some() => Some("access-log"),
            _ if self.plan.sampling.is_some() && placed.filter == Filter::MeshTracing => {
                Some("sampling")
            }
            _ => None,
        })
    }

    /// A filter with a step before it stands in front of all others, by an EnvoyFilter; the others
    /// are plugins.
    fn plugin_or_filter(&self, placed: &Placed) -> Result<Piece, Refused> {
        if placed.step.is_some() && placed.filter == Filter::AccessLogTrace {
            return self.in_front(placed);
        }
        let name = self.name(placed.filter, placed.filter == Filter::TraceContext, "");
        let kind = match self.has_extensions() {
            true => "TrafficExtension",
            false => "WasmPlugin",
        };
        let purpose = format!(
            "{}: the filter, for {}{}.",
            placed.filter.name(),
            self.selection_of(placed).text(self.setup.role),
            plugin::direction(self.setup.role, placed)
        );
        let resource = self.plugin(placed, &name, kind);
        Piece::new(Kind::Resource, name, purpose, &[resource])
    }
}
