//! `meshtrace render`.

mod parts;
mod request_headers;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Subcommand, ValueEnum};
use meshtrace_render::{
    EnvoyVersion, Filter, FilterSetup, Host, IstioVersion, LogFields, ProxyTracer, Role, Setup,
    Tracer,
};

use crate::address::host_and_port;
use crate::input::Input;
use request_headers::RequestHeaders;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
    meshtrace render span-attributes attributes.json --envoy 1.37\n  \
    meshtrace render trace-context --istio 1.31 --tracer zipkin --namespace shop\n  \
    meshtrace render trace-context a.json span-attributes b.json access-log-trace c.json --istio 1.31 \\\n    \
    --url oci://ghcr.io/me/meshtrace/{filter}:0.1.0\n  \
    meshtrace render native mesh.json --envoy 1.40 --collector otel.example.com:4318\n\n\
    Without --envoy and --istio, `trace-context` and `route-sampling` print the parts around the filter alone."
)]
pub(crate) struct Command {
    #[command(subcommand)]
    special: Option<Special>,
    /// The filters, each with the file of its configuration (JSON or YAML) behind it: `-` is standard input, none the
    /// filter's defaults. trace-context, route-sampling, span-attributes, access-log-trace, mesh-tracing, native
    #[arg(value_name = "FILTER [CONFIG]", required = true)]
    filters: Vec<String>,
    /// For this version of Envoy: 1.36 to 1.40
    #[arg(long, value_name = "VERSION", conflicts_with = "istio")]
    envoy: Option<EnvoyVersion>,
    /// For this version of Istio: 1.28 to 1.31
    #[arg(long, value_name = "VERSION")]
    istio: Option<IstioVersion>,
    /// The proxy's own tracer. Default: what the configurations tell, else opentelemetry
    #[arg(long, ignore_case = true)]
    tracer: Option<TracerName>,
    /// The module: a path, file://…, https://…, and for Istio oci://…; {filter} is its name. With several filters also
    /// FILTER=URL, repeated. Default: dist/{filter}.wasm for Envoy, a placeholder for Istio
    #[arg(long, value_name = "[FILTER=]URL", alias = "module")]
    url: Vec<String>,
    /// The digest of the image's manifest, or of the file behind https://: 64 hexadecimal digits
    #[arg(long, value_name = "[FILTER=]DIGEST")]
    sha256: Vec<String>,
    /// Istio: the proxies
    #[arg(long = "for", value_name = "ROLE", default_value = "sidecar")]
    role: RoleName,
    /// Istio: the namespace of all resources. Default: the one that they are applied to
    #[arg(long, requires = "istio")]
    namespace: Option<String>,
    /// Istio: the label of the workloads. Default: the label of each need, for gateways istio=ingressgateway
    #[arg(long, value_name = "KEY=VALUE", requires = "istio")]
    selector: Option<String>,
    /// Istio: the Gateway of the waypoint
    #[arg(
        long,
        value_name = "NAME",
        default_value = "waypoint",
        requires = "istio"
    )]
    waypoint: String,
    /// Istio: the name of the resources, or the beginning of their names. Default: the filter's
    #[arg(long, requires = "istio")]
    name: Option<String>,
    /// Envoy: the file of the access log
    #[arg(long, value_name = "PATH", default_value = "/dev/stdout")]
    log: String,
    /// The fields of the access log
    #[arg(long, value_name = "NAMES", default_value = "plain")]
    log_fields: LogFieldsName,
    /// Envoy: the address of the collector, for the cluster that a report names. Default: 127.0.0.1, port 4318 or 4317
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, requires = "envoy")]
    collector: Option<(String, u16)>,
}

#[derive(Debug, Subcommand)]
enum Special {
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
    /// No tracer, or one that is turned off
    None,
}

impl From<TracerName> for ProxyTracer {
    fn from(name: TracerName) -> Self {
        match name {
            TracerName::Opentelemetry => Self::Some(Tracer::OpenTelemetry),
            TracerName::Zipkin => Self::Some(Tracer::ZipkinB3),
            TracerName::ZipkinWithW3c => Self::Some(Tracer::ZipkinB3WithW3c),
            TracerName::None => Self::None,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFieldsName {
    /// Those of the manifests, in snake case
    Plain,
    /// The 24 that Istio writes by default, and the ids
    Istio,
    /// The Elastic Common Schema: trace.id, http.request.method, …
    Ecs,
}

impl From<LogFieldsName> for LogFields {
    fn from(name: LogFieldsName) -> Self {
        match name {
            LogFieldsName::Plain => Self::Plain,
            LogFieldsName::Istio => Self::Istio,
            LogFieldsName::Ecs => Self::Ecs,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Sidecar,
    Gateway,
    Waypoint,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Sidecar => Self::Sidecar,
            RoleName::Gateway => Self::Gateway,
            RoleName::Waypoint => Self::Waypoint,
        }
    }
}

impl Command {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        if let Some(Special::RequestHeaders(command)) = &self.special {
            return command.run();
        }
        let given = self.given();
        let host = match (self.envoy, self.istio) {
            (Some(version), _) => Host::Envoy(version),
            (None, Some(version)) => Host::Istio(version),
            (None, None) => return self.without_version(&given),
        };
        let mut setup = Setup::new(host);
        setup.tracer = self.tracer.map(ProxyTracer::from);
        setup.role = self.role.into();
        if setup.role != Role::Sidecar && self.istio.is_none() {
            usage(ErrorKind::ArgumentConflict, "--for is of --istio");
        }
        setup.namespace.clone_from(&self.namespace);
        setup.selector = self
            .selector
            .as_deref()
            .map(|text| pair("--selector", text));
        setup.waypoint.clone_from(&self.waypoint);
        setup.name.clone_from(&self.name);
        setup.log.clone_from(&self.log);
        setup.log_fields = self.log_fields.into();
        setup.collector = self.collector.clone();
        for (filter, config) in &given {
            setup.filters.push(FilterSetup {
                filter: *filter,
                config: config.read()?,
                url: value(&self.url, "--url", *filter, given.len()),
                sha256: value(&self.sha256, "--sha256", *filter, given.len()),
            });
        }
        let rendering = setup.render().map_err(|refused| refused.to_string())?;
        Ok(rendering.to_yaml())
    }

    /// The filters, each with its configuration.
    fn given(&self) -> Vec<(Filter, Input)> {
        let mut given: Vec<(Filter, Option<&String>)> = Vec::new();
        for word in &self.filters {
            match (Filter::named(word), given.last_mut()) {
                (Some(filter), _) => given.push((filter, None)),
                (None, Some((_, config @ None))) => *config = Some(word),
                (None, last) => {
                    let names = Filter::ALL.map(|filter| filter.name().replace('_', "-"));
                    let behind = match last {
                        Some((filter, _)) => {
                            format!(", or no second file behind {}", filter.name())
                        }
                        None => String::new(),
                    };
                    let message = format!(
                        "{word:?} is no filter: expected one of {}{behind}",
                        names.join(", ")
                    );
                    usage(ErrorKind::InvalidValue, &message);
                }
            }
        }
        let is_stdin =
            |config: &&(Filter, Option<&String>)| config.1.is_some_and(|file| file == "-");
        if given.iter().filter(is_stdin).count() > 1 {
            usage(
                ErrorKind::InvalidValue,
                "standard input (-) is one configuration, not several",
            );
        }
        let input = |config: Option<&String>| Input::of(config.map(String::as_str));
        given
            .into_iter()
            .map(|(filter, config)| (filter, input(config)))
            .collect()
    }

    fn without_version(&self, given: &[(Filter, Input)]) -> Result<String, String> {
        let [(filter, config)] = given else {
            usage(ErrorKind::MissingRequiredArgument, MISSING);
        };
        let may_lack = matches!(filter, Filter::TraceContext | Filter::RouteSampling);
        match self.tracer.map(ProxyTracer::from) {
            Some(ProxyTracer::Some(tracer)) if may_lack => {
                let text = parts::around(*filter, &config.read()?, tracer);
                text.unwrap_or_else(|| usage(ErrorKind::MissingRequiredArgument, MISSING))
            }
            None if may_lack => usage(
                ErrorKind::MissingRequiredArgument,
                &format!(
                    "{MISSING}\n  or, for the parts around the filter alone, --tracer <TRACER>"
                ),
            ),
            _ => usage(ErrorKind::MissingRequiredArgument, MISSING),
        }
    }
}

const MISSING: &str =
    "the following required arguments were not provided:\n  <--envoy <VERSION>|--istio <VERSION>>";

/// Ends with the command line's own exit code.
fn usage(kind: ErrorKind, message: &str) -> ! {
    let mut command = crate::Cli::command();
    command.build();
    match command.find_subcommand_mut("render") {
        Some(render) => render.error(kind, message).exit(),
        None => command.error(kind, message).exit(),
    }
}

/// The value for one filter among `[FILTER=]VALUE`.
fn value(values: &[String], option: &str, filter: Filter, filters: usize) -> Option<String> {
    let mut common = None;
    for value in values {
        let own = value.split_once('=');
        let own = own.and_then(|(name, value)| Some((Filter::named(name)?, value)));
        match own {
            Some((own, value)) if own == filter => return Some(value.to_owned()),
            Some(_) => {}
            None => common = Some(value),
        }
    }
    let common = common?;
    if filters > 1 && !common.contains("{filter}") {
        let message = format!(
            "{option} {common} is for one filter, and here are {filters}: write {{filter}} in it, or \
             {option} FILTER=… for each"
        );
        usage(ErrorKind::InvalidValue, &message);
    }
    Some(common.replace("{filter}", filter.name()))
}

fn pair(option: &str, text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => (key.to_owned(), value.to_owned()),
        _ => usage(
            ErrorKind::InvalidValue,
            &format!("{option} {text:?}: expected KEY=VALUE"),
        ),
    }
}
