//! Filters that are switched off, for all requests or for those of a route.

use std::collections::BTreeSet;

use crate::document::Node;
use crate::finding::{Code, Findings};
use crate::model::Model;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    let mut disabled = Vec::new();
    for manager in &model.managers {
        for filter in &manager.filters {
            if let Some(plugin) = model.plugin(filter) {
                names.insert(filter.name);
                if filter.disabled {
                    disabled.push((filter, plugin));
                }
            }
        }
    }
    if names.is_empty() {
        return;
    }
    let mut routes = Vec::new();
    let own = model.managers.iter().filter_map(|manager| manager.routes);
    for table in own.chain(model.routes.iter().copied()) {
        of_routes(table, &names, &mut routes);
    }
    for (filter, plugin) in disabled {
        let is_turned_on = routes
            .iter()
            .any(|(name, _, is_off)| *name == filter.name && !is_off);
        if !is_turned_on {
            let message = format!(
                "{} is `disabled` here, and no route in these files turns it on (typed_per_filter_config, \
                 {:?}): no request meets it; remove `disabled`",
                plugin.title(),
                filter.name
            );
            let at = filter.node.get("disabled").unwrap_or(filter.node);
            findings.add(Code::SwitchedOff, at, message);
        }
    }
    // A dump has a table of routes in its connection manager and among the tables.
    let mut told = BTreeSet::new();
    for (name, at, is_off) in routes {
        let around = at.parent().and_then(Node::parent);
        let text = around.map(|around| around.to_json().to_string());
        if is_off && told.insert((at.input(), name, text)) {
            let message = format!(
                "{name:?} is switched off here: no request of this route, or of this virtual host, meets \
                 the filter; remove this where its requests are to be traced"
            );
            findings.add(Code::SwitchedOff, at, message);
        }
    }
}

/// What routes say of the filters of these names: the name, the place, and whether they switch it off.
fn of_routes<'t>(
    node: Node<'t>,
    names: &BTreeSet<&str>,
    found: &mut Vec<(&'t str, Node<'t>, bool)>,
) {
    if let Some(own) = node.get("typed_per_filter_config") {
        for (name, config) in own.entries().filter(|(name, _)| names.contains(name)) {
            let is_off = config.get("disabled").and_then(Node::bool) == Some(true);
            found.push((name, config, is_off));
        }
    }
    for (_, value) in node.entries() {
        of_routes(value, names, found);
    }
    for item in node.items() {
        of_routes(item, names, found);
    }
}
