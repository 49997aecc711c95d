//! The pieces for a standalone Envoy.

use serde_json::{Value, json};

use super::clusters;
use super::input::Setup;
use super::part::Config;
use super::placed::{Placed, dynamic_module, text};
use super::plan::{Plan, Tags};
use super::refusal::Refused;
use super::rendering::{Kind, Piece, Rendering};
use crate::{EnvoyVersion, access_log, request_headers};

const EARLY: &str = "early_header_mutation_extensions";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
/// A filter that fails is loaded anew: Envoy's default answers 503 from then on.
const POLICY: &str = "FAIL_RELOAD";

pub(super) fn render(
    setup: &Setup,
    plan: &Plan,
    version: EnvoyVersion,
) -> Result<Rendering, Refused> {
    let mut clusters = Vec::new();
    let mut pieces = vec![manager(setup, plan, &mut clusters)?];
    pieces.extend(early(plan)?);
    if let Some(routes) = routes(plan) {
        let purpose = "In every route configuration of these connection managers:";
        pieces.push(Piece::new(
            Kind::Envoy,
            "route-configuration",
            purpose,
            &[routes],
        )?);
    }
    for route in plan.sampling.iter().flat_map(|settings| &settings.routes) {
        let purpose = format!(
            "In the route {:?}, whose rule needs no filter:",
            route.route
        );
        let value = json!({"tracing": route.tracing});
        let name = format!("route-{}", file_name(&route.route));
        pieces.push(Piece::new(Kind::Envoy, name, purpose, &[value])?);
    }
    if let Some(collector) = &plan.collector {
        clusters.push(clusters::collector(collector, setup.collector.as_ref()));
    }
    if let Some(piece) = bootstrap(plan, clusters)? {
        pieces.push(piece);
    }
    let mut head = vec![version.to_string().replacen(' ', ": ", 1)];
    head.push(format!("Tracer: {}", plan.tracer_word()));
    if plan.native.is_some() {
        head.pop();
        head.push("Tracer: libmeshtrace.so, found by ENVOY_DYNAMIC_MODULES_SEARCH_PATH".to_owned());
    }
    Ok(Rendering { head, pieces })
}

fn manager(setup: &Setup, plan: &Plan, clusters: &mut Vec<Value>) -> Result<Piece, Refused> {
    let mut manager = Config::new();
    let mut notes = plan.notes.clone();
    let mut tracing = Config::new();
    if let Some(context) = &plan.context {
        merge(&mut manager, context.mutation.manager.to_json());
    }
    if let Some(sampling) = &plan.sampling {
        // Its percentages come last: nothing of a client's reaches the tracer that could force one.
        merge(&mut manager, sampling.manager.clone());
        manager.remove(EARLY);
    }
    if let Some(Value::Object(own)) = manager.remove("tracing") {
        tracing.extend(own);
    }
    if let Some(spawns) = plan.spawns {
        tracing.insert("spawn_upstream_span".to_owned(), json!(spawns));
    }
    let mut filters = Vec::new();
    for placed in &plan.downstream {
        filters.extend(placed.step.clone());
        filters.push(filter(placed, clusters));
    }
    if let Some(Tags::Envoy(tags)) = &plan.tags {
        tracing.insert("custom_tags".to_owned(), json!(tags.custom_tags));
        // The first one is the filter itself.
        filters.extend(tags.http_filters.iter().skip(1).cloned());
        notes.extend(tags.limits.iter().map(ToString::to_string));
    }
    if let Some(native) = &plan.native {
        tracing.extend(native_tracer(native));
        filters.push(json!({
            "name": "mesh_tracing_export",
            "disabled": true,
            "typed_config": {
                "@type": format!("{FILTERS}.dynamic_modules.v3.DynamicModuleFilter"),
                "dynamic_module_config": dynamic_module(),
                "filter_name": "mesh_tracing_export",
            },
        }));
    }
    if let Some(log) = &plan.log {
        manager.insert(
            "access_log".to_owned(),
            json!([access_log(&setup.log, log)]),
        );
    }
    filters.push(router(plan, clusters));
    manager.insert("http_filters".to_owned(), json!(filters));
    if !tracing.is_empty() {
        manager.insert("tracing".to_owned(), Value::Object(tracing));
    }
    let purpose = match (plan.tracer, plan.downstream.is_empty()) {
        (Some(_), true) => "In the HTTP connection manager, beside your `tracing.provider`:",
        (Some(_), false) => {
            "In the HTTP connection manager, beside your `tracing.provider`; other filters stand \
             before the router:"
        }
        (None, _) if plan.native.is_some() => {
            "In the HTTP connection manager; other filters stand before the router:"
        }
        (None, _) => {
            "In the HTTP connection manager, without `tracing`; other filters stand before the router:"
        }
    };
    let value = Value::Object(manager);
    Ok(Piece::new(Kind::Envoy, "connection-manager", purpose, &[value])?.with_notes(notes))
}

/// The header mutations before the tracer, in order.
fn early(plan: &Plan) -> Result<Option<Piece>, Refused> {
    let mut early = Vec::new();
    let mut notes = Vec::new();
    if let Some(context) = &plan.context {
        early.push(context.mutation.extension.clone());
        notes.extend(context.mutation.limits.iter().map(ToString::to_string));
    }
    let sampling = plan.sampling.as_ref();
    let sampling = sampling.and_then(|settings| settings.manager.get(EARLY)?.as_array());
    // It reads the parent that the mutation before it writes.
    early.extend(sampling.into_iter().flatten().cloned());
    if early.is_empty() {
        return Ok(None);
    }
    let purpose = "In the same connection manager; Envoy runs it before the tracer:";
    let value = json!({EARLY: early});
    let piece = Piece::new(Kind::Envoy, "early-header-mutation", purpose, &[value])?;
    Ok(Some(piece.with_notes(notes)))
}

fn filter(placed: &Placed, clusters: &mut Vec<Value>) -> Value {
    let (code, remote) = placed.module.of_envoy();
    if let Some(cluster) = remote.as_ref().map(clusters::modules)
        && !clusters.contains(&cluster)
    {
        clusters.push(cluster);
    }
    placed.http_filter(&placed.name, code, POLICY)
}

fn router(plan: &Plan, clusters: &mut Vec<Value>) -> Value {
    let mut config = Config::new();
    config.insert(
        "@type".to_owned(),
        json!(format!("{FILTERS}.router.v3.Router")),
    );
    if !plan.upstream.is_empty() {
        let filters = plan.upstream.iter().map(|placed| filter(placed, clusters));
        let filters: Vec<_> = filters.chain([upstream_codec()]).collect();
        config.insert("upstream_http_filters".to_owned(), json!(filters));
    }
    json!({"name": "envoy.filters.http.router", "typed_config": config})
}

/// Envoy wants it last among the filters behind the tracer.
pub(super) fn upstream_codec() -> Value {
    json!({
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": {"@type": format!("{FILTERS}.upstream_codec.v3.UpstreamCodec")},
    })
}

fn native_tracer(config: &Config) -> Config {
    let mut tracing = Config::new();
    tracing.insert("spawn_upstream_span".to_owned(), json!(true));
    let provider = json!({
        "name": "meshtrace",
        "typed_config": {
            "@type": concat!(
                "type.googleapis.com/",
                "envoy.extensions.tracers.dynamic_modules.v3.DynamicModuleTracer"
            ),
            "dynamic_module_config": dynamic_module(),
            "tracer_name": "mesh_tracing",
            "tracer_config": text(config),
        },
    });
    tracing.insert("provider".to_owned(), provider);
    tracing
}

/// The headers that leave by filter state, and those that must not leave.
fn routes(plan: &Plan) -> Option<Value> {
    let mut routes = Config::new();
    if let Some((leaving, removed)) = plan.by_state() {
        merge(
            &mut routes,
            request_headers::route_configuration(&leaving, &removed),
        );
    }
    if !plan.removed.is_empty() {
        let list = routes
            .entry("request_headers_to_remove")
            .or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(plan.removed.iter().map(|name| json!(name)));
        }
    }
    (!routes.is_empty()).then_some(Value::Object(routes))
}

fn bootstrap(plan: &Plan, clusters: Vec<Value>) -> Result<Option<Piece>, Refused> {
    let mut bootstrap = Config::new();
    if !clusters.is_empty() {
        bootstrap.insert("static_resources".to_owned(), json!({"clusters": clusters}));
    }
    if plan.native.is_some() {
        let extension = json!({
            "name": "envoy.bootstrap.dynamic_modules",
            "typed_config": {
                "@type": concat!(
                    "type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.",
                    "DynamicModuleBootstrapExtension"
                ),
                "dynamic_module_config": dynamic_module(),
                "extension_name": "mesh_tracing_flush",
            },
        });
        bootstrap.insert("bootstrap_extensions".to_owned(), json!([extension]));
    }
    if bootstrap.is_empty() {
        return Ok(None);
    }
    let purpose = match plan.collector.is_some() {
        true => "In the bootstrap; the collector's address is --collector:",
        false => "In the bootstrap:",
    };
    let value = Value::Object(bootstrap);
    Piece::new(Kind::Envoy, "bootstrap", purpose, &[value]).map(Some)
}

/// Adds the fields of `more`. Of a field that both have, that of `more` counts; messages are merged.
fn merge(target: &mut Config, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        match (target.get_mut(&key), value) {
            (Some(Value::Object(own)), Value::Object(value)) => merge(own, Value::Object(value)),
            (_, value) => {
                target.insert(key, value);
            }
        }
    }
}

/// A name without characters that a file's name should not have.
fn file_name(name: &str) -> String {
    let keep = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    name.chars().map(keep).collect()
}
