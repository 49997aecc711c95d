//! Filters beside the proxy's own tracer.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::chain::{Early, Manager, Tracer, Tracing};
use crate::model::plugin::{Host, Plugin, Spot, formats};
use crate::model::{Model, Resource};

use super::suggest::list;

const READ_AND_WRITTEN: &[&str] = &["tracecontext", "b3", "b3multi"];

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for manager in &model.managers {
        order(manager, findings);
        let own = &manager.tracing;
        for filter in manager.filters.iter().chain(&manager.upstream) {
            let Some(plugin) = model.plugin(filter) else {
                continue;
            };
            let early: Vec<_> = manager.early.iter().map(|(_, kind)| *kind).collect();
            beside(plugin, own, &early, findings);
            if manager.is_whole {
                settings(plugin, manager, &early, findings);
                of_log(plugin, own, manager, findings);
            }
        }
    }
    let early: Vec<_> = model
        .managers
        .iter()
        .filter(|manager| !manager.is_whole)
        .flat_map(|manager| manager.early.iter().map(|(_, kind)| *kind))
        .collect();
    if let Some((tracing, _)) = model.tracer_of_gateway() {
        for plugin in model.taken().filter(|plugin| plugin.host == Host::Gateway) {
            beside(plugin, &tracing, &[], findings);
        }
    }
    for plugin in model.taken() {
        if !matches!(plugin.host, Host::Istio | Host::EnvoyFilter) {
            continue;
        }
        let Some(resource) = model.resource_of(plugin.node) else {
            continue;
        };
        if let Some((tracing, _)) = model.tracer_for(resource) {
            beside(plugin, &tracing, &early, findings);
        }
        percentage(plugin, model.percentage_for(resource), findings);
    }
    envoy_filters(model, findings);
}

/// Whether a format is in the list. Both forms of B3 count as one format.
fn is_among(format: &str, formats: &[&str]) -> bool {
    let is_b3 = |format: &str| matches!(format, "b3" | "b3multi");
    formats
        .iter()
        .any(|other| *other == format || is_b3(format) && is_b3(other))
}

fn beside(plugin: &Plugin<'_>, tracing: &Tracing<'_>, early: &[Early], findings: &mut Findings) {
    let Tracing::On(tracer, tracing) = tracing else {
        return;
    };
    if plugin.spot == Spot::Upstream {
        return wrong_tracer(plugin, *tracer, findings);
    }
    if plugin.spot != Spot::Listener || is_misplaced(plugin) {
        return;
    }
    if let Some(report) = plugin.report() {
        let message = format!(
            "mesh_tracing reports spans while {} is on (line {}{}): each request has two spans of \
             this proxy, and the tracer writes its own context over the filter's; turn the tracer \
             off{}, or remove `report`",
            tracer.title(),
            tracing.key_position().line,
            match tracing.input() == report.input() {
                true => "",
                false => " of another file",
            },
            match plugin.host {
                Host::Istio | Host::EnvoyFilter =>
                    " (Telemetry: tracing: [{disableSpanReporting: true}])",
                Host::Gateway => " (no telemetry.tracing in the EnvoyProxy)",
                _ => " (no `tracing` in the connection manager)",
            }
        );
        findings.add(Code::TwoTracers, report, message);
        return;
    }
    // Then the tracer writes no headers, so those of the filter reach the next hop.
    let is_silent = tracing.get("no_context_propagation").and_then(Node::bool) == Some(true);
    if plugin.has(Filter::TraceContext) && !is_silent {
        context(plugin, *tracer, early, findings);
    }
    if plugin.has(Filter::RouteSampling) {
        parents(plugin, *tracer, findings);
    }
}

/// Whether it is configured for upstream filters and stands among a listener's. Another rule says so,
/// and nothing else counts then.
fn is_misplaced(plugin: &Plugin<'_>) -> bool {
    let placement = plugin.map().and_then(|map| map.text_at(&["placement"]));
    plugin.spot == Spot::Listener && placement == Some("upstream")
}

fn wrong_tracer(plugin: &Plugin<'_>, tracer: Tracer, findings: &mut Findings) {
    let Some(named) = plugin.map().and_then(|map| map.get("tracer")) else {
        return;
    };
    let (Some(format), Some(writes)) = (named.text(), tracer.writes()) else {
        return;
    };
    if !is_among(format, writes) {
        let message = format!(
            "{} writes {}, not {format}, so that the filter finds nothing; set \"tracer\": {:?}",
            tracer.title(),
            list(writes.iter().map(ToString::to_string).collect()),
            writes.last().copied().unwrap_or_default()
        );
        findings.add(Code::WrongTracer, named, message);
    }
}

fn context(plugin: &Plugin<'_>, tracer: Tracer, early: &[Early], findings: &mut Findings) {
    let Some(reads) = tracer.reads() else { return };
    let stage = plugin.stage(Filter::TraceContext);
    let is_early = early.contains(&Early::Context);
    let extract = formats(stage, "extract", READ_AND_WRITTEN);
    let inject = match stage.and_then(|stage| stage.get("inject")) {
        Some(text) if !text.is_list() => Vec::new(),
        _ => formats(stage, "inject", &["tracecontext", "b3multi"]),
    };
    let render = match tracer {
        Tracer::Zipkin => "zipkin",
        Tracer::ZipkinWithW3c => "zipkin-with-w3c",
        _ => "opentelemetry",
    };
    let incoming = stage.and_then(|stage| stage.get("incoming"));
    let mode = incoming.and_then(|incoming| incoming.text().or(incoming.text_at(&["mode"])));
    if let (Some(incoming), Some("restart" | "ignore"), false) = (incoming, mode, is_early) {
        let message = format!(
            "{} has read the caller's context before any filter runs, so that the proxy's own span \
             continues the caller's trace; put this into an early header mutation: meshtrace \
             render trace-context CONFIG --tracer {render}",
            tracer.title()
        );
        findings.add(Code::IncomingTooLate, incoming, message);
        return;
    }
    let stale: Vec<_> = inject
        .iter()
        .filter(|format| !is_among(format, reads))
        .collect();
    let unread: Vec<_> = extract
        .iter()
        .filter(|format| !is_among(format, reads))
        .collect();
    let names = |formats: &[&&str]| list(formats.iter().map(ToString::to_string).collect());
    let what = if !unread.is_empty() && !is_early {
        format!(
            "{} reads no {}, so that such a caller's trace ends here and the proxy's span begins a \
             new one, whatever this filter writes before the tracer does",
            tracer.title(),
            names(&unread).replace(" or ", " and no ")
        )
    } else if !stale.is_empty() {
        format!(
            "{} writes its own span into {} after this filter, while {} goes on with the caller's: \
             the application reads two contexts",
            tracer.title(),
            list(reads.iter().map(ToString::to_string).collect()),
            names(&stale)
        )
    } else {
        return;
    };
    let format = if tracer == Tracer::Zipkin {
        "b3multi"
    } else {
        "tracecontext"
    };
    let message = format!(
        "{what}; put trace_context behind the tracer, {{\"placement\": \"upstream\", \"tracer\": \
         \"{format}\"}} among the upstream filters, and what `meshtrace render trace-context \
         --tracer {render}` prints in front of it"
    );
    findings.add(Code::ContextBesideTracer, plugin.node, message);
}

/// Finds formats that `route_sampling` reads as a parent and that the tracer does not read.
fn parents(plugin: &Plugin<'_>, tracer: Tracer, findings: &mut Findings) {
    let Some(reads) = tracer.reads() else { return };
    let stage = plugin.stage(Filter::RouteSampling);
    let decides = stage.is_some_and(decides);
    if !decides || plugin.report().is_some() {
        return;
    }
    let extract = formats(stage, "extract", READ_AND_WRITTEN);
    let other: Vec<_> = extract
        .iter()
        .filter(|format| !is_among(format, reads))
        .map(ToString::to_string)
        .collect();
    if other.is_empty() {
        return;
    }
    let at = stage.and_then(|stage| stage.get("extract").or(Some(stage)));
    let wanted = format!("{reads:?}");
    let message = format!(
        "a request with {} alone begins a trace here, as {} does not read it, but the rules take \
         it for one with a parent and do not decide; set \"extract\": {wanted}",
        list(other),
        tracer.title()
    );
    findings.add(Code::ParentFormats, at.unwrap_or(plugin.node), message);
}

/// Whether the rules decide anything.
fn decides(stage: Node<'_>) -> bool {
    stage
        .get("rules")
        .is_some_and(|rules| rules.items().next().is_some())
        || stage
            .get("default")
            .is_some_and(|sample| sample.text() != Some("unchanged"))
}

/// Checks the settings that `route_sampling` needs around it.
fn settings(plugin: &Plugin<'_>, manager: &Manager<'_>, early: &[Early], findings: &mut Findings) {
    if plugin.spot != Spot::Listener
        || !plugin.has(Filter::RouteSampling)
        || plugin.report().is_some()
        || is_misplaced(plugin)
    {
        return;
    }
    let Some(stage) = plugin.stage(Filter::RouteSampling) else {
        return;
    };
    let header = stage.get_exactly("request_header");
    let is_usual = header.is_none_or(|header| header.text() == Some("x-envoy-force-trace"));
    if !decides(stage) || !is_usual {
        return;
    }
    let parent = stage.get("parent");
    if let Some(parent) = parent.filter(|parent| parent.text() != Some("respect"))
        && !early.contains(&Early::Sampling)
    {
        let message = "the tracer has read the caller's decision before any filter runs, so that \
                       this is `respect`; put the rules into an early header mutation: meshtrace \
                       render route-sampling CONFIG --tracer …";
        findings.add(Code::ParentTooLate, parent, message);
    }
    let Tracing::On(_, tracing) = manager.tracing else {
        if matches!(manager.tracing, Tracing::Off) {
            findings.add(
                Code::SamplingSettings,
                plugin.node,
                "the connection manager has no `tracing`, so that no tracer follows the rules; add \
                 one, or use mesh_tracing",
            );
        }
        return;
    };
    let mut missing = Vec::new();
    let random = tracing.get("random_sampling");
    let percent = random.map_or(Some(100.0), |random| match random.get("value") {
        Some(value) => value.number(),
        // A message without fields has the value 0.
        None => Some(0.0),
    });
    if percent != Some(0.0) {
        missing.push("random_sampling: {value: 0}, or the tracer keeps what the rules drop");
    }
    if !early.contains(&Early::Sampling) {
        missing.push("its early header mutation, or a client's x-client-trace-id decides");
    }
    let packs = manager
        .node
        .at(&["request_id_extension", "typed_config", "pack_trace_reason"]);
    if packs.and_then(Node::bool) != Some(false) {
        missing.push("pack_trace_reason: false, or x-request-id forces every next Envoy");
    }
    if let Some(routes) = manager.routes
        && !removes(routes, "x-envoy-force-trace")
    {
        missing.push("request_headers_to_remove: [x-envoy-force-trace], or the next hop is forced");
    }
    if missing.is_empty() {
        return;
    }
    let message = format!(
        "route_sampling lacks settings around it: {}; `meshtrace render route-sampling CONFIG \
         --tracer …` prints all of them",
        missing.join("; ")
    );
    findings.add(Code::SamplingSettings, plugin.node, message);
}

/// Whether a route configuration, or one of its virtual hosts, removes a header.
fn removes(routes: Node<'_>, name: &str) -> bool {
    let own = |node: Node<'_>| {
        node.list("request_headers_to_remove").any(|header| {
            header
                .scalar()
                .is_some_and(|header| header.eq_ignore_ascii_case(name))
        })
    };
    own(routes)
        || routes
            .list("virtual_hosts")
            .any(|host| own(host) || host.list("routes").any(own))
}

/// Checks a percentage of Istio that is used beside rules.
fn percentage(plugin: &Plugin<'_>, percentage: Option<Node<'_>>, findings: &mut Findings) {
    if !plugin.has(Filter::RouteSampling) || plugin.report().is_some() {
        return;
    }
    if let Some(percentage) = percentage.filter(|value| value.number() != Some(0.0)) {
        let message = "beside route_sampling this keeps what the rules drop; for its proxies set \
                       randomSamplingPercentage: 0 (istio-manifests/telemetry/route-sampling.yaml)";
        findings.add(Code::SamplingSettings, percentage, message);
    }
}

/// Checks what the configuration of `access_log_trace` says about the tracer.
fn of_log(
    plugin: &Plugin<'_>,
    tracing: &Tracing<'_>,
    manager: &Manager<'_>,
    findings: &mut Findings,
) {
    let Some(stage) = plugin
        .stage(Filter::AccessLogTrace)
        .filter(|_| plugin.report().is_none())
    else {
        return;
    };
    let named = stage.get("tracer");
    let told: Vec<&str> = match named {
        Some(all) if all.is_list() => all.items().filter_map(Node::scalar).collect(),
        Some(one) => one.text().into_iter().collect(),
        None => Vec::new(),
    };
    match tracing {
        Tracing::On(tracer, tracing) => {
            let reads = tracer.reads().unwrap_or_default();
            let differs = !told.is_empty()
                && !reads.is_empty()
                && (told.iter().any(|format| !is_among(format, reads))
                    || *tracer == Tracer::ZipkinWithW3c && !is_among("tracecontext", &told));
            if let Some(named) = named.filter(|_| differs) {
                let wanted = match tracer {
                    Tracer::OpenTelemetry => "\"tracecontext\"",
                    Tracer::Zipkin => "\"b3\"",
                    _ => "[\"b3\", \"tracecontext\"]",
                };
                let message = format!(
                    "the connection manager has {}; set \"tracer\": {wanted}",
                    tracer.title()
                );
                findings.add(Code::LogTracer, named, message);
            }
            let flag = |node: Option<Node<'_>>| node.and_then(Node::bool).unwrap_or(false);
            let router = manager.filters.iter().find(|filter| filter.is_router());
            let child = router.and_then(|router| router.config?.get("start_child_span"));
            let spawns = flag(tracing.get("spawn_upstream_span")) || flag(child);
            differing(stage, "spawn_upstream_span", spawns, findings);
            if matches!(tracer, Tracer::Zipkin | Tracer::ZipkinWithW3c) {
                let shared = tracing.at(&["provider", "typed_config", "shared_span_context"]);
                let shared = shared.and_then(Node::bool).unwrap_or(true);
                differing(stage, "shared_span_context", shared, findings);
            }
        }
        Tracing::Off => {
            let tells = told.iter().any(|format| *format != "none");
            if let Some(named) = named.filter(|_| tells) {
                let message = "the connection manager has no tracer; set \"tracer\": \"none\"";
                findings.add(Code::LogTracer, named, message);
            }
        }
        Tracing::Unknown => {}
    }
}

fn differing(stage: Node<'_>, key: &str, actual: bool, findings: &mut Findings) {
    let told = stage.get(key);
    if let Some(told) = told.filter(|told| told.bool().is_some_and(|told| told != actual)) {
        let message = format!(
            "the connection manager's {key} is {actual}; say the same here, or log lines name \
             another span"
        );
        findings.add(Code::LogTracer, told, message);
    }
}

/// Checks the order of early mutations in one list.
fn order(manager: &Manager<'_>, findings: &mut Findings) {
    let place = |kind: Early| manager.early.iter().position(|(_, own)| *own == kind);
    if let (Some(sampling), Some(context)) = (place(Early::Sampling), place(Early::Context))
        && sampling < context
        && let Some((at, _)) = manager.early.get(sampling)
    {
        let message = "route_sampling's early header mutation reads the parent that \
                       trace_context's writes, and runs before it; move it behind";
        findings.add(Code::EarlyOrder, *at, message);
    }
}

/// Checks the early mutations of several EnvoyFilters.
fn envoy_filters(model: &Model<'_>, findings: &mut Findings) {
    let mut all: Vec<(&Resource<'_>, Early, f64)> = Vec::new();
    for manager in model.managers.iter().filter(|manager| !manager.is_whole) {
        let Some(resource) = model.resources.iter().find(|own| own.node == manager.node) else {
            continue;
        };
        let priority = resource.spec().and_then(|spec| spec.get("priority"));
        let priority = priority.and_then(Node::number).unwrap_or(0.0);
        all.extend(
            manager
                .early
                .iter()
                .map(|(_, kind)| (resource, *kind, priority)),
        );
    }
    for (context, kind, first) in &all {
        if *kind != Early::Context {
            continue;
        }
        for (sampling, kind, second) in &all {
            if *kind != Early::Sampling
                || sampling.node == context.node
                || !sampling.may_share_namespace(context)
            {
                continue;
            }
            let spec = sampling.spec().unwrap_or(sampling.node);
            if first > second {
                let message = format!(
                    "at priority {second} route_sampling's early header mutation runs before that \
                     of EnvoyFilter {} (priority {first}), which writes the parent that it reads; \
                     give this one the higher number",
                    context.name
                );
                findings.add(
                    Code::EarlyOrder,
                    spec.get("priority").unwrap_or(spec),
                    message,
                );
            } else if first == second {
                let message = format!(
                    "EnvoyFilter {} and this one both add an early header mutation at priority \
                     {first}, so that the time of creation decides which runs first; set priority \
                     20 there and 30 here",
                    context.name
                );
                findings.add(
                    Code::NoPriority,
                    spec.get("priority").unwrap_or(spec),
                    message,
                );
            }
        }
    }
}
