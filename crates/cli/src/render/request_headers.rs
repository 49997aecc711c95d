//! `meshtrace render request-headers`: the route configuration of a filter that edits no header.

use clap::Args;
use meshtrace_pipeline::{self as pipeline, Composition, Proxy};
use meshtrace_render::{IstioVersion, route_configuration, route_configuration_patch};

use crate::filter;
use crate::input::Input;
use crate::output::yaml;

#[derive(Args, Debug)]
pub(crate) struct RequestHeaders {
    /// The filter
    #[arg(value_parser = filter::parser())]
    filter: meshtrace_check::Filter,
    #[command(flatten)]
    input: Input,
    /// An EnvoyFilter for this version of Istio: 1.28 to 1.31
    #[arg(long, value_name = "VERSION")]
    istio: Option<IstioVersion>,
    /// Istio: the `match.context` of the place in which the filter stands
    #[arg(long, default_value = "SIDECAR_INBOUND", requires = "istio")]
    context: String,
    /// Istio: the name of the manifest
    #[arg(long, default_value = "meshtrace-request-headers", requires = "istio")]
    name: String,
    /// Istio: its namespace; the mesh's root namespace is for the whole mesh. Default: the one that it is applied to
    #[arg(long, requires = "istio")]
    namespace: Option<String>,
    /// Istio: the label of the proxies
    #[arg(
        long,
        value_name = "KEY=VALUE",
        default_value = "meshtrace-request-headers=enabled",
        requires = "istio"
    )]
    label: String,
}

impl RequestHeaders {
    pub(super) fn run(&self) -> Result<String, String> {
        let json = self.input.read()?;
        let (leaving, removed) = match self.filter {
            meshtrace_check::Filter::AccessLogTrace => {
                headers_of::<pipeline::AccessLogTrace>(&json)
            }
            meshtrace_check::Filter::MeshTracing => headers_of::<pipeline::MeshTracing>(&json),
            meshtrace_check::Filter::RouteSampling => headers_of::<pipeline::RouteSampling>(&json),
            meshtrace_check::Filter::SpanAttributes => {
                headers_of::<pipeline::SpanAttributes>(&json)
            }
            meshtrace_check::Filter::TraceContext => headers_of::<pipeline::TraceContext>(&json),
        }?;
        let parts = route_configuration(&leaving, &removed);
        let filter = self.filter.name();
        let Some(version) = self.istio else {
            let what =
                format!("{filter}: for every route configuration of the listeners that it is in.");
            return yaml(&parts, &[what]);
        };
        let label = self
            .label
            .split_once('=')
            .ok_or_else(|| format!("--label {:?}: expected KEY=VALUE", self.label))?;
        let patch = route_configuration_patch(
            &parts,
            &self.context,
            &self.name,
            self.namespace.as_deref(),
            label,
        );
        let what = format!("{filter} for {version}: for the proxies that the filter is in.");
        yaml(&patch, &[what])
    }
}

/// The names of headers: those that leave by filter state, and those that never do.
type Names = (Vec<String>, Vec<String>);

fn headers_of<C: Composition>(json: &[u8]) -> Result<Names, String> {
    let composition = C::from_json(json, &Proxy::UNKNOWN).map_err(|error| error.to_string())?;
    let headers = composition.by_filter_state().ok_or_else(|| {
        format!(
            "{}.request_headers: \"edit\", with which the filter writes the headers itself; expected \"filter_state\"",
            C::NAME
        )
    })?;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    Ok((
        headers.leaving().map(text).collect(),
        headers.removed().map(text).collect(),
    ))
}
