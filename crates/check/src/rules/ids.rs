//! The step that copies the proxy's own ids into headers.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::chain::HttpFilter;
use crate::model::plugin::{Host, Plugin};

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for manager in &model.managers {
        let running: Vec<_> = manager
            .filters
            .iter()
            .filter(|filter| !filter.disabled)
            .collect();
        for (place, filter) in running.iter().enumerate() {
            let Some(plugin) = model.plugin(filter) else {
                continue;
            };
            // Where the file has only a part of the list, the step may be in another file.
            let has_all = manager.is_whole || plugin.host == Host::EnvoyFilter;
            for (name, operator) in wanted(plugin) {
                let Some(header) = name.text() else { continue };
                let step = running
                    .iter()
                    .take(place)
                    .find_map(|filter| step(filter, header));
                match step {
                    Some(step) => removal(step, header, findings),
                    // Until Envoy 1.37 there is no %SPAN_ID%. There the name in the configuration
                    // only makes the filter remove the header.
                    None if has_all && operator == "%TRACE_ID%" => {
                        missing(&running, place, name, header, operator, findings);
                    }
                    None => {}
                }
            }
        }
    }
}

/// The headers from which a plugin reads its proxy's ids, with the operator whose value each needs.
fn wanted<'t>(plugin: &Plugin<'t>) -> Vec<(Node<'t>, &'static str)> {
    if plugin.report().is_some() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for filter in [Filter::AccessLogTrace, Filter::RouteSampling] {
        let ids = plugin.stage(filter).and_then(|stage| stage.get("ids"));
        let header = |key: &str| ids.and_then(|ids| ids.get(key));
        all.extend(header("trace_id_header").map(|name| (name, "%TRACE_ID%")));
        all.extend(header("span_id_header").map(|name| (name, "%SPAN_ID%")));
    }
    all
}

/// The mutation by which a filter writes `header`.
fn step<'t>(filter: &HttpFilter<'t>, header: &str) -> Option<Node<'t>> {
    if !filter.is("header_mutation") {
        return None;
    }
    let mutations = filter.config?.at(&["mutations", "request_mutations"])?;
    mutations.items().find(|mutation| {
        let key = mutation.text_at(&["append", "header", "key"]);
        key.is_some_and(|key| key.eq_ignore_ascii_case(header))
    })
}

fn missing(
    running: &[&HttpFilter<'_>],
    place: usize,
    name: Node<'_>,
    header: &str,
    operator: &str,
    findings: &mut Findings,
) {
    let is_behind = running
        .iter()
        .skip(place)
        .any(|filter| step(filter, header).is_some());
    let message = if is_behind {
        format!(
            "the step that writes {header} stands behind this filter; move it directly in front"
        )
    } else {
        format!(
            "no step in front of this filter writes {operator} into {header}, so that the ids are \
             not known; add the header_mutation that `meshtrace render access-log-trace CONFIG \
             --envoy VERSION` prints, or remove `ids`"
        )
    };
    findings.add(Code::IdsWithoutStep, name, message);
}

/// Checks that a client's own header is removed, because without a span no value replaces it.
fn removal(step: Node<'_>, header: &str, findings: &mut Findings) {
    let before = step
        .parent()
        .into_iter()
        .flat_map(Node::items)
        .take_while(|own| *own != step);
    let is_removed = before
        .filter_map(|mutation| mutation.text_at(&["remove"]))
        .any(|name| name.eq_ignore_ascii_case(header));
    if !is_removed {
        let message = format!(
            "where the tracer has no span nothing is written over {header}, and a client's own \
             passes for the proxy's; put `- remove: {header}` in front"
        );
        findings.add(Code::StepWithoutRemoval, step, message);
    }
}
