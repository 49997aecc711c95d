//! Header edits, after which Envoy chooses the route again.

use crate::document::Node;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::chain::{HttpFilter, Manager};
use crate::model::plugin::Host;

const ADVICE: &str = "make it the first filter with envoy.filters.http.cors directly behind it, or \
                      set \"request_headers\": \"filter_state\" (docs/request-headers.md)";

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for manager in model.managers.iter().filter(|manager| manager.is_whole) {
        in_chain(model, manager, findings);
    }
    for plugin in model
        .plugins
        .iter()
        .filter(|plugin| plugin.host == Host::Istio && plugin.code.is_some())
    {
        // `phase` is beside `wasm` in a TrafficExtension.
        let around = plugin.node.parent();
        let phase = plugin
            .node
            .get("phase")
            .or_else(|| around.and_then(|around| around.get("phase")));
        let is_late = !matches!(phase.and_then(Node::scalar), Some("AUTHN" | "1"));
        if is_late && plugin.edits() {
            let message = format!(
                "{} edits request headers, after which Envoy chooses the route again; without \
                 phase AUTHN it stands behind authentication and authorisation, so that a request \
                 may take a route that they did not see; set phase: AUTHN, or \"request_headers\": \
                 \"filter_state\" (docs/request-headers.md)",
                plugin.title()
            );
            findings.add(Code::Rerouted, phase.unwrap_or(plugin.node), message);
        }
    }
}

fn in_chain(model: &Model<'_>, manager: &Manager<'_>, findings: &mut Findings) {
    let running: Vec<_> = manager
        .filters
        .iter()
        .filter(|filter| !filter.disabled)
        .collect();
    let edits = |filter: &&HttpFilter<'_>| {
        model
            .plugin(filter)
            .filter(|plugin| plugin.edits())
            .is_some()
    };
    let Some(first) = running.iter().position(&edits) else {
        return;
    };
    let Some(last) = running.iter().rposition(edits) else {
        return;
    };
    let asked = Asked::of(manager);
    let title = |place: usize| {
        running
            .get(place)
            .and_then(|filter| model.plugin(filter))
            .map_or("the filter", |plugin| plugin.title())
    };
    let risk = |filter: &&&HttpFilter<'_>| changes(filter).is_some_and(|change| asked.by(&change));
    if let Some(filter) = running.iter().take(first).find(|filter| risk(filter))
        && let Some(at) = running.get(first)
    {
        let message = format!(
            "{} edits request headers behind {:?}, which may change them too: Envoy then chooses \
             the route again, by headers that it did not have before, and a request may pass an \
             authorisation that was not asked; {ADVICE}",
            title(first),
            filter.name
        );
        findings.add(Code::Rerouted, at.node, message);
        return;
    }
    let next = running
        .get(last + 1)
        .filter(|filter| risk(filter) && !asks_for_route(filter));
    if let Some(next) = next
        && let Some(at) = running.get(last)
    {
        let message = format!(
            "{} edits request headers, and {:?} directly behind it changes them before it asks for \
             the route: Envoy then chooses another route than without the filter; put \
             envoy.filters.http.cors between the two, or set \"request_headers\": \"filter_state\" \
             (docs/request-headers.md)",
            title(last),
            next.name
        );
        findings.add(Code::Rerouted, at.node, message);
    }
    let trace = [
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
    ];
    let by_trace = asked
        .headers
        .iter()
        .find(|(name, _)| trace.iter().any(|trace| name.eq_ignore_ascii_case(trace)));
    if let Some((name, at)) = by_trace {
        let message = format!(
            "a route asks for {name}, which {} edits, so that the request's own route depends on \
             the edit; match on another header, or set \"request_headers\": \"filter_state\"",
            title(first)
        );
        findings.add(Code::Rerouted, *at, message);
    }
}

/// The parts of a request that a filter may change.
enum Change<'t> {
    /// The filter changes only these headers.
    Headers(Vec<&'t str>),
    /// The filter may change everything but the path.
    Any,
    /// The filter may change everything, also the path.
    Everything,
}

fn changes<'t>(filter: &HttpFilter<'t>) -> Option<Change<'t>> {
    if filter.plugin.is_some() {
        return None;
    }
    if filter.is("header_mutation") {
        let mutations = filter
            .config
            .and_then(|config| config.at(&["mutations", "request_mutations"]))
            .into_iter()
            .flat_map(Node::items);
        let names = mutations.filter_map(|mutation| {
            mutation
                .text_at(&["append", "header", "key"])
                .or_else(|| mutation.text_at(&["remove"]))
        });
        let names: Vec<_> = names.collect();
        return (!names.is_empty()).then_some(Change::Headers(names));
    }
    let any = [
        "ext_authz",
        "jwt_authn",
        "oauth2",
        "gcp_authn",
        "basic_auth",
    ];
    if any.iter().any(|kind| filter.is(kind)) {
        return Some(Change::Any);
    }
    let everything = ["lua", "wasm", "ext_proc", "golang", "dynamic_modules"];
    everything
        .iter()
        .any(|kind| filter.is(kind))
        .then_some(Change::Everything)
}

/// Whether the filter reads the route before it changes headers.
fn asks_for_route(filter: &HttpFilter<'_>) -> bool {
    ["ext_authz", "cors", "rbac", "jwt_authn"]
        .iter()
        .any(|kind| filter.is(kind))
}

/// The conditions of the routes.
struct Asked<'t> {
    is_known: bool,
    routes: usize,
    headers: Vec<(&'t str, Node<'t>)>,
    /// Whether a route asks for dynamic metadata, which filters write.
    metadata: bool,
}

impl<'t> Asked<'t> {
    fn of(manager: &Manager<'t>) -> Self {
        let mut asked = Self {
            is_known: manager.routes.is_some(),
            routes: 0,
            headers: Vec::new(),
            metadata: false,
        };
        let hosts = manager
            .routes
            .into_iter()
            .flat_map(|routes| routes.list("virtual_hosts"));
        for host in hosts {
            if host.get("matcher").is_some() {
                asked.is_known = false;
            }
            let own = host.parent().and_then(Node::parent);
            asked.add(own.and_then(|routes| routes.get("vhost_header")));
            for route in host.list("routes") {
                asked.routes += 1;
                for header in route
                    .get("match")
                    .into_iter()
                    .flat_map(|of| of.list("headers"))
                {
                    let name = header.text_at(&["name"]).unwrap_or_default();
                    asked.headers.push((name, header));
                }
                let conditions = route
                    .get("match")
                    .into_iter()
                    .flat_map(|of| of.list("dynamic_metadata"));
                asked.metadata |= conditions.count() > 0;
                // A header that names the cluster, or that chooses one of several.
                asked.add(route.at(&["route", "cluster_header"]));
                if let Some(weighted) = route.at(&["route", "weighted_clusters"]) {
                    asked.add(weighted.get("header_name"));
                    for cluster in weighted.list("clusters") {
                        asked.add(cluster.get("cluster_header"));
                    }
                }
            }
        }
        asked
    }

    /// Adds the header that is named here.
    fn add(&mut self, name: Option<Node<'t>>) {
        if let Some(name) = name
            && let Some(text) = name.scalar().filter(|text| !text.is_empty())
        {
            self.headers.push((text, name));
        }
    }

    /// Whether the change can lead to another route.
    fn by(&self, change: &Change<'_>) -> bool {
        let is_helper = |name: &str| name.to_ascii_lowercase().starts_with("x-active-");
        match change {
            Change::Headers(names) if !self.is_known => names.iter().any(|name| !is_helper(name)),
            _ if !self.is_known => true,
            Change::Headers(names) => names.iter().any(|name| {
                let is_asked = self
                    .headers
                    .iter()
                    .any(|(asked, _)| asked.eq_ignore_ascii_case(name));
                let is_target = matches!(
                    name.to_ascii_lowercase().as_str(),
                    ":path" | ":authority" | "host"
                );
                is_asked || is_target && self.routes > 1
            }),
            Change::Any => !self.headers.is_empty() || self.metadata,
            Change::Everything => !self.headers.is_empty() || self.metadata || self.routes > 1,
        }
    }
}
