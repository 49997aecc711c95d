//! What each stage needs around it.

use meshtrace_access_log::AccessLogIds;
use meshtrace_config::ConfigError;
use serde_json::{Value, json};

use super::input::{Filter, Host, Role, Setup};
use super::part::{Config, Part, bytes, fill, formats, read_by};
use super::plan::{Context, Plan, Tags};
use super::refusal::Refused;
use crate::{
    EnvoyVersion, IdsFrom, Tracer, access_log_fields_as, early_mutation, envoy_tags, expose_ids,
    istio_tags, sampling_settings,
};

/// The keys of `trace_context` that have no meaning behind the tracer.
const DOWNSTREAM_ONLY: [&str; 6] = [
    "extract",
    "incoming",
    "on_missing",
    "on_conflict",
    "on_repeated",
    "request_headers",
];

/// The mutation before the tracer, and the filter behind it.
///
/// `None`: the filter can stand in front of the tracer as it is. `Some(None)`: another filter that
/// was given stands behind it.
pub(super) fn around_context(
    plan: &mut Plan,
    setup: &Setup,
    part: &mut Part,
    tracer: Tracer,
    has_own_upstream: bool,
) -> Result<Option<Option<Part>>, Refused> {
    if reads_the_same(&part.config, tracer) {
        beside_zipkin_with_w3c(&mut part.config);
        return Ok(None);
    }
    let below = |error: ConfigError| error.below("trace_context");
    let typed = |config: &Config| meshtrace_plugin_config::trace_context(&bytes(config));
    let config = typed(&part.config).map_err(below)?;
    let mutation = early_mutation(&config, tracer).map_err(below)?;
    plan.remove(&mutation.virtual_host);
    let is_edge = does_not_believe(&part.config);
    let mut outbound = None;
    if is_edge && matches!(setup.host, Host::Istio(_)) && setup.role == Role::Sidecar {
        let mut own = part.config.clone();
        own.remove("incoming");
        let config = typed(&own).map_err(below)?;
        let mutation = early_mutation(&config, tracer).map_err(below)?;
        plan.remove(&mutation.virtual_host);
        outbound = Some(mutation);
    }
    plan.context = Some(Context {
        mutation,
        is_edge,
        outbound,
    });
    if has_own_upstream {
        return Ok(Some(None));
    }
    let mut behind = part.clone();
    for key in DOWNSTREAM_ONLY {
        if let Some(value) = behind.config.remove(key)
            && matches!(key, "on_missing" | "on_conflict" | "on_repeated")
        {
            plan.notes.push(format!(
                "`{key}: {value}` has no effect beside a tracer, which makes the proxy's context itself."
            ));
        }
    }
    let (own, inject) = match tracer {
        Tracer::OpenTelemetry => ("tracecontext", json!(["b3multi"])),
        Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => {
            ("b3multi", json!(["tracecontext", "b3multi"]))
        }
    };
    behind
        .config
        .insert("placement".to_owned(), json!("upstream"));
    behind.config.insert("tracer".to_owned(), json!(own));
    fill(&mut behind.config, "inject", inject);
    Ok(Some(Some(behind)))
}

/// Whether a filter in front of the tracer is enough: Zipkin with W3C reads and writes all that the
/// filter does.
pub(super) fn reads_the_same(config: &Config, tracer: Tracer) -> bool {
    let known = |key: &str| {
        let formats = formats(config, key).unwrap_or_default();
        formats
            .iter()
            .all(|format| matches!(*format, "tracecontext" | "b3" | "b3multi"))
    };
    tracer == Tracer::ZipkinB3WithW3c
        && !does_not_believe(config)
        && known("extract")
        && known("inject")
}

fn does_not_believe(config: &Config) -> bool {
    let incoming = config.get("incoming");
    let mode =
        incoming.and_then(|incoming| incoming.as_str().or_else(|| incoming.get("mode")?.as_str()));
    mode.is_some_and(|mode| mode != "continue")
}

/// The order in which the tracer reads, and what it has read and leaves stale.
fn beside_zipkin_with_w3c(config: &mut Config) {
    let own = config.contains_key("inject") || config.contains_key("clear");
    fill(config, "extract", read_by(Tracer::ZipkinB3WithW3c));
    if !own {
        fill(config, "inject", json!(["tracecontext"]));
        fill(config, "clear", json!(["b3"]));
    }
}

/// The configuration of a stage, where the part has it.
fn stage_mut(part: &mut Part, filter: Filter) -> Option<&mut Config> {
    if part.filter == filter {
        return Some(&mut part.config);
    }
    match part.filter {
        Filter::MeshTracing => part.config.get_mut(filter.stage()?)?.as_object_mut(),
        _ => None,
    }
}

/// The path of a stage's configuration in a refusal.
fn path(part: &Part, filter: Filter) -> String {
    match (part.filter == filter, filter.stage()) {
        (false, Some(stage)) => format!("{}.{stage}", part.filter.name()),
        _ => filter.name().to_owned(),
    }
}

pub(super) fn around_sampling(plan: &mut Plan, part: &mut Part) -> Result<(), Refused> {
    let path = path(part, Filter::RouteSampling);
    let (Some(tracer), Some(config)) = (plan.tracer, stage_mut(part, Filter::RouteSampling)) else {
        return Ok(());
    };
    fill(config, "extract", read_by(tracer));
    let typed = meshtrace_plugin_config::route_sampling(&bytes(config));
    let settings = typed.and_then(|config| sampling_settings(&config, tracer));
    let settings = settings.map_err(|error| error.below(&path))?;
    plan.remove(&settings.virtual_host);
    plan.sampling = Some(settings);
    Ok(())
}

pub(super) fn around_attributes(
    plan: &mut Plan,
    setup: &Setup,
    part: &Part,
) -> Result<(), Refused> {
    let Some(config) = part.stage(Filter::SpanAttributes) else {
        return Ok(());
    };
    if plan.tracer.is_none() {
        return Ok(());
    }
    let json = bytes(config);
    plan.tags = Some(match setup.host {
        Host::Envoy(version) => Tags::Envoy(envoy_tags(&json, version, "")?),
        Host::Istio(version) => Tags::Istio(istio_tags(&json, version)?),
    });
    Ok(())
}

pub(super) fn around_log(plan: &mut Plan, setup: &Setup, part: &mut Part) -> Result<(), Refused> {
    let path = path(part, Filter::AccessLogTrace);
    let reports = part.reports();
    let Some(config) = stage_mut(part, Filter::AccessLogTrace) else {
        return Ok(());
    };
    if !reports {
        fill(
            config,
            "tracer",
            match plan.tracer {
                None => json!("none"),
                Some(Tracer::OpenTelemetry) => json!("tracecontext"),
                Some(Tracer::ZipkinB3) => json!("b3"),
                Some(Tracer::ZipkinB3WithW3c) => json!(["b3", "tracecontext"]),
            },
        );
        // As istiod configures the tracer; for Envoy it is rendered with it.
        if plan.tracer.is_some() {
            let is_istio = matches!(setup.host, Host::Istio(_));
            let is_gateway = is_istio && setup.role == Role::Gateway;
            fill(config, "spawn_upstream_span", json!(is_gateway));
            plan.spawns = config.get("spawn_upstream_span").and_then(Value::as_bool);
            if is_istio && plan.tracer != Some(Tracer::OpenTelemetry) {
                fill(config, "shared_span_context", json!(false));
            }
        }
    }
    let typed = meshtrace_plugin_config::access_log_trace(&bytes(config));
    let ids = typed.and_then(|config| AccessLogIds::new(&config));
    let ids = ids.map_err(|error| error.below(&path))?;
    plan.log = Some(access_log_fields_as(
        setup.log_fields,
        &ids,
        IdsFrom::Filter,
    ));
    Ok(())
}

/// The filter that writes the proxy's own ids into the headers that the configuration names.
pub(super) fn step(part: &Part, envoy: EnvoyVersion) -> Option<Value> {
    if part.reports() {
        return None;
    }
    let stages = [Filter::AccessLogTrace, Filter::RouteSampling];
    let mut whole: Option<Value> = None;
    for stage in stages.into_iter().filter_map(|filter| part.stage(filter)) {
        let ids = stage.get("ids").cloned().unwrap_or_default();
        let text = |key: &str| ids.get(key).and_then(Value::as_str).map(str::to_owned);
        let ids = meshtrace_access_log::IdsConfig {
            trace_id_header: text("trace_id_header"),
            span_id_header: text("span_id_header"),
        };
        let Some(step) = expose_ids(&ids, envoy) else {
            continue;
        };
        match whole.as_mut().and_then(mutations) {
            None => whole = Some(step),
            Some(all) => {
                let mut step = step;
                let more = mutations(&mut step)
                    .map(core::mem::take)
                    .unwrap_or_default();
                let more: Vec<_> = more.into_iter().filter(|own| !all.contains(own)).collect();
                // Removals come first, as each of them would take what was written.
                let (removals, others): (Vec<_>, Vec<_>) = more
                    .into_iter()
                    .partition(|own| own.get("remove").is_some());
                all.splice(0..0, removals);
                all.extend(others);
            }
        }
    }
    let mut step = whole?;
    if part.filter != Filter::AccessLogTrace
        && let Some(name) = step.get_mut("name")
    {
        *name = json!(format!("meshtrace.expose_ids_for_{}", part.filter.name()));
    }
    Some(step)
}

fn mutations(step: &mut Value) -> Option<&mut Vec<Value>> {
    step.pointer_mut("/typed_config/mutations/request_mutations")?
        .as_array_mut()
}

/// Whether the filter edits request headers, as far as its stages say.
pub(super) fn edits(part: &Part) -> bool {
    let has = |filter: Filter, pointer: &str| {
        let value = part.stage(filter).map(|stage| Value::Object(stage.clone()));
        let found = value.as_ref().and_then(|value| value.pointer(pointer));
        found.is_some_and(|found| !matches!(found, Value::Null | Value::Bool(false)))
    };
    part.reports()
        || part.stage(Filter::TraceContext).is_some()
        || part.stage(Filter::RouteSampling).is_some()
        || has(Filter::SpanAttributes, "/emit/request_header_prefix")
        || has(Filter::SpanAttributes, "/emit/baggage")
        || has(Filter::AccessLogTrace, "/ids/trace_id_header")
        || has(Filter::AccessLogTrace, "/ids/span_id_header")
}
