//! Why a set-up is not rendered.

use core::fmt;

use meshtrace_config::ConfigError;
use serde_json::Value;

use super::input::{Filter, Host, ProxyTracer, Setup};
use super::part::Part;
use super::stages::reads_the_same;
use crate::{EnvoyVersion, Tracer};

/// Why a set-up is not rendered, and what to do: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Refused {}

/// Refuses filters that contradict each other, the tracer or the host.
pub(super) fn contradictions(
    setup: &Setup,
    parts: &[Part],
    tracer: Option<Tracer>,
) -> Result<(), Refused> {
    if parts.is_empty() {
        return Err(Refused::new("no filter: name one, such as mesh-tracing"));
    }
    for (place, part) in parts.iter().enumerate() {
        for other in parts.iter().skip(place + 1) {
            pair(part, other)?;
        }
        host(setup, part)?;
        beside(setup, part, tracer)?;
    }
    Ok(())
}

fn pair(one: &Part, other: &Part) -> Result<(), Refused> {
    let (name, second) = (one.filter.name(), other.filter.name());
    if one.filter == other.filter {
        if one.is_upstream() != other.is_upstream() {
            return Ok(());
        }
        return Err(Refused::new(format!(
            "{name} twice in one place: put both configurations into one, or give one of them \
             {{\"placement\": \"upstream\"}} where the filter has that key"
        )));
    }
    let all = [one, other];
    let is_whole = |part: &&&Part| matches!(part.filter, Filter::MeshTracing | Filter::Native);
    let Some(whole) = all.iter().find(is_whole) else {
        return Ok(());
    };
    let Some(stage) = all.iter().find(|part| !is_whole(part)) else {
        return Err(Refused::new(format!(
            "{name} and {second} are both the proxy's tracer: take one"
        )));
    };
    let Some(key) = stage.filter.stage() else {
        return Ok(());
    };
    if whole.reports() || whole.config.contains_key(key) {
        return Err(Refused::new(format!(
            "{} beside {}, which has it as a stage: put its configuration under `{key}` of {}, and \
             leave {} out",
            stage.filter.name(),
            whole.filter.name(),
            whole.filter.name(),
            stage.filter.name()
        )));
    }
    Ok(())
}

fn host(setup: &Setup, part: &Part) -> Result<(), Refused> {
    if part.filter != Filter::Native {
        return Ok(());
    }
    let refuse = |sentence: &str| Err(Refused::new(format!("native: {sentence}")));
    match setup.host {
        Host::Istio(_) => refuse(
            "the module must be mounted into each proxy first, which no resource of Istio does; take \
             mesh-tracing, which has the same configuration, or the files of istio-manifests/native \
             (docs/native.md, In Istio)",
        ),
        Host::Envoy(version) if version < EnvoyVersion::V1_38 => refuse(&format!(
            "{version} has no tracer of dynamic modules, which came with Envoy 1.38; take \
             mesh-tracing, which has the same configuration"
        )),
        Host::Envoy(_) => Ok(()),
    }
}

fn beside(setup: &Setup, part: &Part, tracer: Option<Tracer>) -> Result<(), Refused> {
    let name = part.filter.name();
    if part.reports() {
        return match setup.tracer {
            None | Some(ProxyTracer::None) => Ok(()),
            Some(_) => Err(Refused::new(format!(
                "{name} with `report` is the tracer, and the proxy's own one would write its context \
                 over it: --tracer none, or remove `report`"
            ))),
        };
    }
    upstream(part, tracer)?;
    log(part, tracer)?;
    let Some(tracer) = tracer else {
        return without_tracer(part);
    };
    let context = part.stage(Filter::TraceContext);
    if let Some(context) = context.filter(|_| part.filter == Filter::MeshTracing)
        && !reads_the_same(context, tracer)
    {
        return Err(Refused::new(format!(
            "{name}.trace_context beside a tracer that has read before any filter runs, and writes \
             behind it: give it as trace-context, which is rendered on both sides of the tracer, and \
             remove it here; or add `report`"
        )));
    }
    Ok(())
}

/// What the log is told of the tracer.
fn log(part: &Part, tracer: Option<Tracer>) -> Result<(), Refused> {
    let Some(told) = part
        .stage(Filter::AccessLogTrace)
        .and_then(|log| log.get("tracer"))
    else {
        return Ok(());
    };
    let told = match told {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    let has_b3 = told
        .iter()
        .any(|format| matches!(*format, "b3" | "b3multi"));
    let has_w3c = told.contains(&"tracecontext");
    let (fits, wanted) = match tracer {
        None => (told.contains(&"none"), "\"none\""),
        Some(Tracer::OpenTelemetry) => (has_w3c && !has_b3, "\"tracecontext\""),
        Some(Tracer::ZipkinB3) => (has_b3 && !has_w3c, "\"b3\""),
        Some(Tracer::ZipkinB3WithW3c) => (has_b3 && has_w3c, "[\"b3\", \"tracecontext\"]"),
    };
    // `null` is: not known.
    if fits || told.is_empty() {
        return Ok(());
    }
    Err(Refused::new(format!(
        "access_log_trace.tracer: {}, which is not the proxy's tracer: set {wanted}, or name another \
         --tracer",
        told.join(", ")
    )))
}

/// Behind the tracer a filter reads what that writes.
fn upstream(part: &Part, tracer: Option<Tracer>) -> Result<(), Refused> {
    let named = part.config.get("tracer").and_then(Value::as_str);
    let Some(named) = named.filter(|_| part.is_upstream()) else {
        return Ok(());
    };
    let writes: &[&str] = match tracer {
        None => &[],
        Some(Tracer::OpenTelemetry) => &["tracecontext"],
        Some(Tracer::ZipkinB3) => &["b3", "b3multi"],
        Some(Tracer::ZipkinB3WithW3c) => &["b3", "b3multi", "tracecontext"],
    };
    if writes.contains(&named) {
        return Ok(());
    }
    let name = part.filter.name();
    Err(Refused::new(match writes.last() {
        None => format!(
            "{name}.placement: \"upstream\" is behind a tracer, and there is none: remove it and \
             `tracer`, or name the proxy's --tracer"
        ),
        Some(wanted) => format!(
            "{name}.tracer: {named:?}, which the proxy's tracer does not write: set {wanted:?}, or \
             name another --tracer"
        ),
    }))
}

fn without_tracer(part: &Part) -> Result<(), Refused> {
    if part.stage(Filter::RouteSampling).is_some() {
        return Err(Refused::new(
            "route_sampling decides for the proxy's own tracer, and there is none: take mesh-tracing \
             with `sampling` and `report`, or name the --tracer",
        ));
    }
    let log = part.stage(Filter::AccessLogTrace);
    if log.is_some_and(|log| log.contains_key("ids")) {
        return Err(Refused::new(
            "access_log_trace.ids: the ids are those of the proxy's own tracer, and there is none: \
             remove `ids`, or name the --tracer",
        ));
    }
    let attributes = part.stage(Filter::SpanAttributes);
    let emit = attributes.map(|stage| stage.get("emit"));
    let leaves = |emit: Option<&Value>| {
        emit.is_some_and(|emit| {
            emit.get("baggage").is_some() || emit.get("request_header_prefix").is_some()
        })
    };
    if emit.is_some_and(|emit| !leaves(emit)) {
        return Err(Refused::new(
            "span_attributes puts attributes on the spans of the proxy's own tracer, and there is \
             none: take mesh-tracing with `span_attributes` and `report`, set `emit.baggage` or \
             `emit.request_header_prefix`, or name the --tracer",
        ));
    }
    Ok(())
}
