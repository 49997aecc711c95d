//! What is to be rendered.

use crate::{EnvoyVersion, IstioVersion, LogFields, Tracer};

use super::plan::Plan;
use super::{Refused, Rendering, envoy, istio};

/// What a set-up is for, and the filters in it.
///
/// ```
/// use meshtrace_render::{Filter, FilterSetup, Host, IstioVersion, Setup};
///
/// let mut setup = Setup::new(Host::Istio(IstioVersion::V1_29));
/// setup.filters.push(FilterSetup::new(Filter::SpanAttributes, "{}"));
/// let rendering = setup.render().expect("a configuration that fits");
/// for piece in &rendering.pieces {
///     println!("{}: {}\n{}", piece.name, piece.purpose, piece.content);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Setup {
    /// The proxy and its version.
    pub host: Host,
    /// The proxy's own tracer. `None`: what the filters' configurations tell, else OpenTelemetry.
    pub tracer: Option<ProxyTracer>,
    /// Istio: which proxies get it.
    pub role: Role,
    /// Istio: `metadata.namespace` of all resources. `None`: the one that they are applied to.
    pub namespace: Option<String>,
    /// Istio: the label of the workloads, of all resources. `None`: the label of Istio's own ingress
    /// gateway for [`Role::Gateway`], else for each need the one of `istio-manifests/`, or none.
    pub selector: Option<(String, String)>,
    /// Istio: the name of the waypoint's Gateway.
    pub waypoint: String,
    /// Istio: the name of the resources, in place of the filter's; with several filters, the
    /// beginning of their names.
    pub name: Option<String>,
    /// Envoy: the file of the access log.
    pub log: String,
    /// The fields of the access log.
    pub log_fields: LogFields,
    /// Envoy: host and port of the collector, for the cluster that a report names. `None`: port
    /// 4318 (gRPC: 4317) of 127.0.0.1.
    pub collector: Option<(String, u16)>,
    /// The filters. Their order here is of no meaning.
    pub filters: Vec<FilterSetup>,
}

impl Setup {
    /// A set-up without filters.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            host,
            tracer: None,
            role: Role::Sidecar,
            namespace: None,
            selector: None,
            waypoint: "waypoint".to_owned(),
            name: None,
            log: "/dev/stdout".to_owned(),
            log_fields: LogFields::Plain,
            collector: None,
            filters: Vec::new(),
        }
    }

    /// Renders all pieces. `meshtrace check` finds nothing in them but the placeholders of a module
    /// without a URL.
    ///
    /// # Errors
    /// When a filter refuses its configuration, when the configurations contradict each other or
    /// the tracer, and when the host cannot have it. The sentence says what to do.
    pub fn render(&self) -> Result<Rendering, Refused> {
        let plan = Plan::new(self)?;
        match self.host {
            Host::Envoy(version) => envoy::render(self, &plan, version),
            Host::Istio(version) => istio::render(self, &plan, version),
        }
    }
}

/// One filter of a [`Setup`].
#[derive(Clone, Debug)]
pub struct FilterSetup {
    /// The filter.
    pub filter: Filter,
    /// Its configuration as JSON. Empty: its defaults.
    pub config: Vec<u8>,
    /// The module: a path or `file://…`, `https://…`, and for Istio `oci://…`. `None`: for Envoy
    /// `dist/<filter>.wasm`, for Istio a placeholder that `meshtrace check` finds.
    pub url: Option<String>,
    /// The SHA-256 of the image's manifest, or of the file behind `https://`: 64 hexadecimal digits.
    pub sha256: Option<String>,
}

impl FilterSetup {
    /// A filter with a configuration as JSON, without a URL.
    #[must_use]
    pub fn new(filter: Filter, config: impl Into<Vec<u8>>) -> Self {
        Self {
            filter,
            config: config.into(),
            url: None,
            sha256: None,
        }
    }
}

/// The kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A standalone Envoy.
    Envoy(EnvoyVersion),
    /// The proxies of a mesh of Istio.
    Istio(IstioVersion),
}

impl Host {
    pub(super) fn envoy(self) -> EnvoyVersion {
        match self {
            Self::Envoy(version) => version,
            Self::Istio(version) => version.envoy(),
        }
    }
}

/// The proxies of a mesh that get it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Sidecars.
    #[default]
    Sidecar,
    /// Gateways.
    Gateway,
    /// A waypoint.
    Waypoint,
}

/// The proxy's own tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyTracer {
    /// There is none, or it is turned off.
    None,
    /// There is this one.
    Some(Tracer),
}

impl ProxyTracer {
    pub(super) fn get(self) -> Option<Tracer> {
        match self {
            Self::None => None,
            Self::Some(tracer) => Some(tracer),
        }
    }
}

/// A filter, or the native tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `access_log_trace.wasm`: it sees the headers as they came.
    AccessLogTrace,
    /// `trace_context.wasm`.
    TraceContext,
    /// `mesh_tracing.wasm`.
    MeshTracing,
    /// `libmeshtrace.so`.
    Native,
    /// `route_sampling.wasm`.
    RouteSampling,
    /// `span_attributes.wasm`.
    SpanAttributes,
}

impl Filter {
    /// All of them, in the order in which they stand in a chain.
    pub const ALL: [Self; 6] = [
        Self::AccessLogTrace,
        Self::TraceContext,
        Self::MeshTracing,
        Self::Native,
        Self::RouteSampling,
        Self::SpanAttributes,
    ];

    /// Its name: the module's, and `native` for the native tracer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TraceContext => "trace_context",
            Self::MeshTracing => "mesh_tracing",
            Self::Native => "native",
            Self::AccessLogTrace => "access_log_trace",
            Self::RouteSampling => "route_sampling",
            Self::SpanAttributes => "span_attributes",
        }
    }

    /// The filter with this name, written with dashes or underscores.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace('-', "_").to_ascii_lowercase();
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    pub(super) fn dashed(self) -> String {
        self.name().replace('_', "-")
    }

    /// The key of its configuration in that of `mesh_tracing`.
    pub(super) const fn stage(self) -> Option<&'static str> {
        match self {
            Self::TraceContext => Some("trace_context"),
            Self::RouteSampling => Some("sampling"),
            Self::SpanAttributes => Some("span_attributes"),
            Self::AccessLogTrace => Some("access_log"),
            Self::MeshTracing | Self::Native => None,
        }
    }
}
