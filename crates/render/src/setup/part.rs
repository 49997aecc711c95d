//! One filter as it was given: its configuration, read and accepted by the filter's own code.

use meshtrace_config::{ConfigError, Draft, both};
use meshtrace_pipeline::{self as pipeline, Composition, Proxy};
use meshtrace_plugin_config::{MeshTracingConfig, native};
use serde_json::{Map, Value, json};

use super::input::{Filter, FilterSetup, ProxyTracer, Setup};
use super::module::Module;
use super::refusal::Refused;
use crate::Tracer;

pub(super) type Config = Map<String, Value>;

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) filter: Filter,
    pub(super) config: Config,
    pub(super) module: Module,
}

impl Part {
    pub(super) fn read(setup: &Setup, given: &FilterSetup) -> Result<Self, Refused> {
        let filter = given.filter;
        compiled(filter, &given.config)?;
        let config = match given.config.trim_ascii().is_empty() {
            true => Config::new(),
            false => serde_json::from_slice(&given.config)
                .map_err(|error| Refused::new(format!("{}: {error}", filter.name())))?,
        };
        Ok(Self {
            filter,
            config,
            module: Module::read(setup, given)?,
        })
    }

    pub(super) fn is_upstream(&self) -> bool {
        self.config.get("placement").and_then(Value::as_str) == Some("upstream")
    }

    /// Whether it reports the proxy's spans itself.
    pub(super) fn reports(&self) -> bool {
        self.filter == Filter::Native
            || self.filter == Filter::MeshTracing && self.config.contains_key("report")
    }

    /// The configuration of the stage of `filter`: its own, or a part of `mesh_tracing`'s.
    pub(super) fn stage(&self, filter: Filter) -> Option<&Config> {
        if self.filter == filter {
            return Some(&self.config);
        }
        match self.filter {
            Filter::MeshTracing | Filter::Native => self.config.get(filter.stage()?)?.as_object(),
            _ => None,
        }
    }

    /// The tracer that the configuration tells.
    fn tracer(&self) -> Option<ProxyTracer> {
        if self.reports() {
            return Some(ProxyTracer::None);
        }
        let told = self
            .stage(Filter::AccessLogTrace)
            .filter(|_| self.filter != Filter::MeshTracing)
            .unwrap_or(&self.config)
            .get("tracer")?;
        let reads = |format: &str| match told {
            Value::Array(all) => all.iter().any(|one| one == format),
            one => one == format,
        };
        let b3 = reads("b3") || reads("b3multi");
        Some(match reads("tracecontext") {
            _ if reads("none") => ProxyTracer::None,
            true if b3 => ProxyTracer::Some(Tracer::ZipkinB3WithW3c),
            true => ProxyTracer::Some(Tracer::OpenTelemetry),
            false if b3 => ProxyTracer::Some(Tracer::ZipkinB3),
            false => return None,
        })
    }
}

/// The proxy's own tracer: as it is said, as a configuration tells it, or OpenTelemetry.
pub(super) fn tracer_of(setup: &Setup, parts: &[Part]) -> Option<Tracer> {
    let told = || parts.iter().find_map(Part::tracer);
    let tracer = setup.tracer.or_else(told);
    tracer.map_or(Some(Tracer::OpenTelemetry), ProxyTracer::get)
}

/// A part's configuration with `value` in the place of a key that is absent.
pub(super) fn fill(config: &mut Config, key: &str, value: Value) {
    config.entry(key).or_insert(value);
}

pub(super) fn bytes(config: &Config) -> Vec<u8> {
    Value::Object(config.clone()).to_string().into_bytes()
}

/// The request headers that a filter writes as filter state: those that leave, and those that never
/// do.
#[derive(Clone, Debug, Default)]
pub(super) struct ByState {
    pub(super) leaving: Vec<String>,
    pub(super) removed: Vec<String>,
}

/// Compiles a configuration by the code that runs in the proxy.
pub(super) fn compiled(filter: Filter, json: &[u8]) -> Result<Option<ByState>, ConfigError> {
    match filter {
        Filter::TraceContext => by_state::<pipeline::TraceContext>(json),
        Filter::MeshTracing => by_state::<pipeline::MeshTracing>(json),
        Filter::Native => {
            let refused = Draft::<MeshTracingConfig>::read(json).compile(native::refuse);
            let refused = refused.map_err(|error| error.below(Filter::MeshTracing.name()));
            both(refused, by_state::<pipeline::MeshTracing>(json))
        }
        Filter::AccessLogTrace => by_state::<pipeline::AccessLogTrace>(json),
        Filter::RouteSampling => by_state::<pipeline::RouteSampling>(json),
        Filter::SpanAttributes => by_state::<pipeline::SpanAttributes>(json),
    }
}

fn by_state<C: Composition>(json: &[u8]) -> Result<Option<ByState>, ConfigError> {
    // The keys are in the environment of the proxy, not in this one.
    let proxy = Proxy::with_environment(&|_| Some(b"set".to_vec()));
    let composition = C::from_json(json, &proxy)?;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    Ok(composition.by_filter_state().map(|headers| ByState {
        leaving: headers.leaving().map(text).collect(),
        removed: headers.removed().map(text).collect(),
    }))
}

/// The environment variables that the filter reads at start.
pub(super) fn variables(part: &Part) -> Vec<String> {
    let mut names = Vec::new();
    let attributes = part.stage(Filter::SpanAttributes);
    let attributes = attributes.and_then(|stage| stage.get("attributes")?.as_array());
    for attribute in attributes.into_iter().flatten() {
        names.push(attribute.pointer("/from/env"));
        let steps = attribute.get("transform").and_then(Value::as_array);
        let keys = steps.into_iter().flatten();
        names.extend(keys.map(|step| step.pointer("/hmac_sha256/key_env")));
    }
    let force = part.stage(Filter::RouteSampling);
    names.push(force.and_then(|stage| stage.get("force")?.get("value_env")));
    let mut names: Vec<_> = names
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The formats in the list under a key; `None` without the key, or where it is a text.
pub(super) fn formats<'c>(config: &'c Config, key: &str) -> Option<Vec<&'c str>> {
    let list = config.get(key)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

/// The formats that a tracer reads, in its order.
pub(super) fn read_by(tracer: Tracer) -> Value {
    match tracer {
        Tracer::OpenTelemetry => json!(["tracecontext"]),
        Tracer::ZipkinB3 => json!(["b3", "b3multi"]),
        Tracer::ZipkinB3WithW3c => json!(["b3", "b3multi", "tracecontext"]),
    }
}
