//! `meshtrace render`.

#![expect(
    clippy::indexing_slicing,
    reason = "a key of a `serde_json::Value` is added where it is not there"
)]

use clap::{Args, Subcommand, ValueEnum};
use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_config::ConfigError;
use meshtrace_pipeline::{self as pipeline, Composition, Proxy};
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{
    EnvoyVersion, IdsFrom, IstioNames, IstioVersion, Tracer, access_log, access_log_fields,
    early_mutation, envoy_tags, expose_ids, istio_tags, route_configuration,
    route_configuration_patch, sampling_settings,
};
use meshtrace_sampling::SamplingConfig;
use serde_json::{Value, json};

use crate::filter;
use crate::input::Input;
use crate::output::{limits, yaml};

/// The filters that need configuration beside them.
#[derive(Debug, Subcommand)]
pub(crate) enum Filter {
    /// Custom tags that put the attributes on spans, and the filter itself
    ///
    /// For Envoy: the parts of an HTTP connection manager (`tracing.custom_tags`, `http_filters`), to be put into
    /// yours. For Istio: a WasmPlugin and a Telemetry, to be applied.
    #[command(
        alias = "span_attributes",
        after_help = "Examples:\n  \
        meshtrace render span-attributes --envoy 1.37\n  \
        meshtrace render span-attributes attributes.json --istio 1.29 > span-attributes.yaml"
    )]
    SpanAttributes(SpanAttributes),
    /// The settings around the filter that make the proxy's own tracer follow its decision
    ///
    /// Three YAML documents: parts of the HTTP connection manager, of each virtual host, and, where rules can do without
    /// the filter, the `tracing` blocks of routes.
    #[command(
        alias = "route_sampling",
        after_help = "Examples:\n  \
        meshtrace render route-sampling rules.json --tracer opentelemetry"
    )]
    RouteSampling(BesideTracer),
    /// The JSON access log, and the step that tells the filter the proxy's own ids
    ///
    /// An HTTP connection manager's `access_log`, and the filter that belongs directly before access_log_trace.
    #[command(
        alias = "access_log_trace",
        after_help = "Examples:\n  \
        meshtrace render access-log-trace ids.json --envoy 1.39"
    )]
    AccessLogTrace(AccessLogTrace),
    /// The early header mutation that lets the proxy's own tracer continue what the filter reads
    ///
    /// An HTTP connection manager's `early_header_mutation_extensions`, for Envoy 1.36 to 1.40.
    #[command(
        alias = "trace_context",
        after_help = "Examples:\n  \
        meshtrace render trace-context --tracer opentelemetry\n  \
        echo '{\"incoming\": \"restart\"}' | meshtrace render trace-context - --tracer zipkin"
    )]
    TraceContext(BesideTracer),
    /// The route configuration that writes the headers of a filter with `"request_headers": "filter_state"`
    ///
    /// For Envoy: `request_headers_to_remove` and `request_headers_to_add` of a route configuration, to be put into
    /// yours. With --istio: an EnvoyFilter, to be applied. Without it the filter's headers do not leave.
    #[command(
        alias = "request_headers",
        after_help = "Examples:\n  \
        echo '{\"request_headers\": \"filter_state\"}' | meshtrace render request-headers trace-context -\n  \
        meshtrace render request-headers mesh-tracing mesh.json --istio 1.29 --context GATEWAY"
    )]
    RequestHeaders(RequestHeaders),
}

#[derive(Args, Debug)]
pub(crate) struct SpanAttributes {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    target: Target,
    /// Envoy: the path of the module
    #[arg(
        long,
        value_name = "PATH",
        default_value = "dist/span_attributes.wasm",
        conflicts_with = "istio"
    )]
    module: String,
    /// Istio: the URL of the module
    #[arg(
        long,
        value_name = "URL",
        default_value = "oci://registry.example.com/meshtrace/span_attributes:0.1.0",
        conflicts_with = "envoy"
    )]
    url: String,
    /// Istio: the name of both manifests
    #[arg(long, default_value = "span-attributes", conflicts_with = "envoy")]
    name: String,
    /// Istio: the namespace of both manifests; without it they are for the one that they are applied to
    #[arg(long, conflicts_with = "envoy")]
    namespace: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// For this version of Envoy: 1.36 to 1.40
    #[arg(long, value_name = "VERSION")]
    envoy: Option<EnvoyVersion>,
    /// For this version of Istio: 1.28 to 1.31
    #[arg(long, value_name = "VERSION")]
    istio: Option<IstioVersion>,
}

#[derive(Args, Debug)]
pub(crate) struct AccessLogTrace {
    #[command(flatten)]
    input: Input,
    /// For this version of Envoy: 1.36 to 1.40
    #[arg(long, value_name = "VERSION")]
    envoy: EnvoyVersion,
    /// Where the lines go
    #[arg(long, value_name = "PATH", default_value = "/dev/stdout")]
    log: String,
}

#[derive(Args, Debug)]
pub(crate) struct BesideTracer {
    #[command(flatten)]
    input: Input,
    /// The proxy's own tracer
    #[arg(long, ignore_case = true)]
    tracer: TracerName,
}

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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TracerName {
    /// envoy.tracers.opentelemetry
    #[value(aliases = ["otel", "tracecontext", "w3c"])]
    Opentelemetry,
    /// envoy.tracers.zipkin with USE_B3, its default
    #[value(aliases = ["b3", "zipkin-b3", "zipkin_b3"])]
    Zipkin,
    /// envoy.tracers.zipkin with USE_B3_WITH_W3C_PROPAGATION
    #[value(aliases = ["zipkin_with_w3c", "zipkin-w3c", "zipkin_w3c", "b3-with-w3c", "b3_with_w3c"])]
    ZipkinWithW3c,
}

impl From<TracerName> for Tracer {
    fn from(name: TracerName) -> Self {
        match name {
            TracerName::Opentelemetry => Self::OpenTelemetry,
            TracerName::Zipkin => Self::ZipkinB3,
            TracerName::ZipkinWithW3c => Self::ZipkinB3WithW3c,
        }
    }
}

impl Filter {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        match self {
            Self::SpanAttributes(command) => command.run(),
            Self::RouteSampling(command) => command.route_sampling(),
            Self::AccessLogTrace(command) => command.run(),
            Self::TraceContext(command) => command.trace_context(),
            Self::RequestHeaders(command) => command.run(),
        }
    }
}

impl SpanAttributes {
    fn run(&self) -> Result<String, String> {
        let json = self.input.read()?;
        let sentence = |error: ConfigError| error.to_string();
        if let Some(version) = self.target.istio {
            let names = IstioNames {
                name: self.name.clone(),
                namespace: self.namespace.clone(),
                url: self.url.clone(),
            };
            let rendered = istio_tags(&json, version, &names).map_err(sentence)?;
            let mut comments = vec![format!(
                "span_attributes for {version}: the filter, for what comes into sidecars, and the tags."
            )];
            comments.extend(limits(&rendered.limits));
            let plugin = yaml(&rendered.wasm_plugin, &comments)?;
            let telemetry = yaml(&rendered.telemetry, &[])?;
            return Ok(format!("{plugin}---\n{telemetry}"));
        }
        let version = self.target.envoy.ok_or("neither --envoy nor --istio")?;
        let rendered = envoy_tags(&json, version, &self.module).map_err(sentence)?;
        let mut comments = vec![format!(
            "span_attributes for {version}: for an HTTP connection manager with a tracing provider; the filters stand \
             before the router."
        )];
        comments.extend(limits(&rendered.limits));
        let parts = json!({
            "http_filters": rendered.http_filters,
            "tracing": {"custom_tags": rendered.custom_tags},
        });
        yaml(&parts, &comments)
    }
}

impl AccessLogTrace {
    fn run(&self) -> Result<String, String> {
        let json = self.input.read()?;
        let sentence = |error: ConfigError| error.below("access_log_trace").to_string();
        let config: AccessLogTraceConfig = meshtrace_config::read(&json).map_err(sentence)?;
        let ids = AccessLogIds::new(&config).map_err(sentence)?;
        let fields = access_log_fields(&ids, IdsFrom::Filter);
        let mut parts = json!({"access_log": [access_log(&self.log, &fields)]});
        let mut comments = vec![format!(
            "access_log_trace for {}: for an HTTP connection manager.",
            self.envoy
        )];
        if let Some(step) = expose_ids(&config.ids, self.envoy) {
            parts["http_filters"] = json!([step]);
            comments.push("The filter stands directly before access_log_trace.".to_owned());
        }
        yaml(&parts, &comments)
    }
}

impl BesideTracer {
    fn trace_context(&self) -> Result<String, String> {
        let json = self.input.read()?;
        let sentence = |error: ConfigError| error.below("trace_context").to_string();
        let config: TraceContextConfig = meshtrace_config::read(&json).map_err(sentence)?;
        let rendered = early_mutation(&config, self.tracer.into()).map_err(sentence)?;
        let mut parts = rendered.manager.to_json();
        parts["early_header_mutation_extensions"] = json!([rendered.extension]);
        let mut comments = vec![
            "For the HTTP connection manager. Mutations run in the order of the list: this one stands in front of \
             route_sampling's, which reads what this one writes."
                .to_owned(),
        ];
        comments.extend(limits(&rendered.limits));
        let manager = yaml(&parts, &comments)?;
        if rendered.virtual_host == json!({}) {
            return Ok(manager);
        }
        let for_each = "For each virtual host.".to_owned();
        Ok(format!(
            "{manager}---\n{}",
            yaml(&rendered.virtual_host, &[for_each])?
        ))
    }

    fn route_sampling(&self) -> Result<String, String> {
        let json = self.input.read()?;
        let sentence = |error: ConfigError| error.below("route_sampling").to_string();
        let config: SamplingConfig = meshtrace_config::read(&json).map_err(sentence)?;
        let rendered = sampling_settings(&config, self.tracer.into()).map_err(sentence)?;
        let part = |value: &Value, what: &str| yaml(value, &[what.to_owned()]);
        let mut documents = vec![
            part(
                &rendered.manager,
                "For the HTTP connection manager. Mutations run in the order of the list: one of trace_context stands in \
                 front of this one, which reads the parent that it writes.",
            )?,
            part(&rendered.virtual_host, "For each virtual host.")?,
        ];
        for route in &rendered.routes {
            let what = format!("For the route {:?}, which needs no filter.", route.route);
            documents.push(part(&json!({"tracing": route.tracing}), &what)?);
        }
        Ok(documents.join("---\n"))
    }
}

impl RequestHeaders {
    fn run(&self) -> Result<String, String> {
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
