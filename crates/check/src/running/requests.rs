//! The headers with which the requests came, and what the filters did with them.

use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::plugin::Plugin;

use super::{Observed, Sum};

/// The number of requests in the watched seconds that is enough to speak of "every" request.
const FEW: u64 = 5;
/// The number of requests since the start that is enough to speak of "every" request.
const SOME: u64 = 10;
/// The number of reported requests, both of those that came in and of those that were sent, that is
/// enough to speak of the application.
const ENOUGH: u64 = 20;
/// With this number of requests and no dropped one, sampling keeps all requests.
const MANY: u64 = 100;
/// With this number of requests and no kept one, a ratio of 0.01 is not the reason.
const VERY_MANY: u64 = 1000;

pub(super) fn check(model: &Model<'_>, observed: &Observed, findings: &mut Findings) {
    host(observed, findings);
    secrets(observed, findings);
    traffic(model, observed, findings);
    contexts(observed, findings);
    application(model, observed, findings);
    sampling(observed, findings);
}

/// Whether it is one of the counters of which each request moves at least one.
fn is_of_requests(name: &str) -> bool {
    [
        "trace_context.",
        "span_attributes.",
        "route_sampling.",
        "access_log.",
        "report.not_sampled",
    ]
    .iter()
    .any(|stage| name.starts_with(stage))
}

fn host(observed: &Observed, findings: &mut Findings) {
    let is_quiet = observed.sum(is_of_requests).moved == 0;
    let is_now = |sum: Sum| sum.moved > 0 || sum.total > 0 && is_quiet;

    let refused = observed.sum(|name| name == "host_errors");
    if is_now(refused) {
        let message = format!(
            "Envoy refused calls of a filter ({}): header edits, filter state or counters that \
             did not happen; see that `capability_restriction_config` takes nothing away",
            observed.counted(refused)
        );
        observed.find(Code::HostErrors, "host_errors", message, findings);
    }
    for name in [
        "trace_context.edits_dropped",
        "route_sampling.edits_dropped",
        "span_attributes.dropped",
        "access_log.dropped",
    ] {
        let dropped = observed.sum(|other| other == name);
        if is_now(dropped) {
            let message = format!(
                "requests had no room for all that a filter writes ({}); configure fewer formats \
                 or attributes, or see whether one client sends very many headers",
                observed.counted(dropped)
            );
            observed.find(Code::NoRoom, name, message, findings);
        }
    }
}

/// Finds keys that are not in the environment, where the check of the configuration has not found
/// them.
fn secrets(observed: &Observed, findings: &mut Findings) {
    let is_known = findings
        .all
        .iter()
        .any(|(code, ..)| *code == Code::MissingVariable);
    let missing = [
        ("span_attributes.hmac_key_missing", "`hmac_sha256.key_env`"),
        ("route_sampling.force.off", "`force.value_env`"),
    ];
    for (name, key) in missing {
        let sum = observed.sum(|other| other == name);
        if !is_known && sum.total > 0 {
            let message = format!(
                "the variable of {key} is not in the environment of the VM ({}); pass it with \
                 `environment_variables` of `vm_config`, in Istio with `vmConfig.env`",
                observed.counted(sum)
            );
            observed.find(Code::MissingVariable, name, message, findings);
        }
    }
}

fn traffic(model: &Model<'_>, observed: &Observed, findings: &mut Findings) {
    let stages = observed.after.owned().any(|(name, _)| is_of_requests(name));
    let seen = observed.sum(is_of_requests).moved;
    if !stages || seen > 0 {
        return;
    }
    let mut prefixes: Vec<_> = model
        .managers
        .iter()
        .filter(|manager| manager.filters.iter().any(|filter| filter.plugin.is_some()))
        .filter_map(|manager| manager.node.text_at(&["stat_prefix"]))
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let arrived: u64 = prefixes
        .iter()
        .map(|prefix| {
            let name = format!("http.{prefix}.downstream_rq_total");
            let value = |stats: &super::Stats| stats.envoy(&name).unwrap_or(0);
            value(&observed.after).saturating_sub(value(&observed.before))
        })
        .sum();
    let window = observed.window();
    if arrived > 0 {
        let message = format!(
            "{arrived} requests came in {window} to a listener with a filter of meshtrace, and no \
             counter of one moved; see that no filter in front of it answers them, that it is not \
             `disabled`, and that no route switches it off"
        );
        observed.find(Code::PassedBy, "", message, findings);
    } else {
        let message = format!(
            "no request came through a filter in {window}, so that little can be said; send some, \
             or watch for longer: --seconds 60"
        );
        observed.find(Code::NoRequest, "", message, findings);
    }
}

fn contexts(observed: &Observed, findings: &mut Findings) {
    let extracted = observed.sum(|name| name.starts_with("trace_context.extracted."));
    let is_every = |sum: Sum| {
        sum.moved >= FEW && extracted.moved == 0 || sum.total >= SOME && extracted.total == 0
    };
    let malformed = observed
        .sum(|name| name.starts_with("trace_context.malformed.") && !name.ends_with(".tracestate"));
    let missing = observed.sum(|name| name == "trace_context.missing");
    if is_every(malformed) {
        let first = observed
            .after
            .owned()
            .filter(|(name, total)| name.starts_with("trace_context.malformed.") && *total > 0)
            .max_by_key(|(_, total)| *total);
        let message = format!(
            "contexts arrive, and none is valid ({}); what is malformed is not forwarded, so that \
             every request begins a new trace: mend who writes it, or name its real format in \
             `extract`",
            observed.counted(malformed)
        );
        let name = first.map_or("", |(name, _)| name);
        observed.find(Code::AllMalformed, name, message, findings);
    } else if is_every(missing) {
        let message = format!(
            "no request brings a trace context that `extract` names ({}); at an edge that is as \
             it should be, behind other proxies they lose it or write a format that is not named",
            observed.counted(missing)
        );
        observed.find(Code::NoContext, "trace_context.missing", message, findings);
    }
}

/// Finds an application that is asked with a trace and asks others without one.
fn application(model: &Model<'_>, observed: &Observed, findings: &mut Findings) {
    // What a plugin does not believe counts as started, whatever the application sent.
    let believes = |plugin: &Plugin<'_>| {
        let context = plugin.map().and_then(|map| map.get("trace_context"));
        context
            .and_then(|context| context.get("incoming"))
            .is_none()
    };
    if !model.plugins.iter().all(believes) {
        return;
    }
    let sum = |name: &str| observed.sum(|other| other.strip_prefix("report.") == Some(name));
    let came = sum("incoming.joined");
    let [joined, started] = ["outgoing.joined", "outgoing.started"].map(sum);
    // An application that was mended since the start is judged by what it does now.
    let now = came.moved >= ENOUGH && started.moved >= ENOUGH && joined.moved == 0;
    let ever = came.total >= ENOUGH && started.total >= ENOUGH && joined.total == 0;
    if now || ever {
        let message = format!(
            "the application copies no trace header that is read here: reported requests came in with a \
             trace ({}), and of those that it sent ({}) none had one, so that each begins a trace of \
             its own; no proxy can tell which belongs to which: instrument the application with an \
             SDK of OpenTelemetry, or let it copy the headers; where it sends a format that \
             `extract` does not name, add that; only where it sends all of them of its own accord, \
             as a job does, is that right",
            observed.counted(came),
            observed.counted(started)
        );
        let name = "report.outgoing.started";
        observed.find(Code::CopiesNoContext, name, message, findings);
    }
}

fn sampling(observed: &Observed, findings: &mut Findings) {
    let decided = |decision: &'static str| {
        observed.sum(|name| name.starts_with("route_sampling.") && name.ends_with(decision))
    };
    let [kept, dropped] = [".sampled", ".dropped"].map(decided);
    let others = decided(".unchanged").total + decided(".deferred").total;
    let by = |decision: &str, all: Sum| {
        let parent = observed.total(&format!("route_sampling.parent.{decision}"));
        if parent == all.total {
            "all of them as their callers had decided: look at the first proxy of the trace, or \
             set `parent`"
        } else {
            "see the rules, their order, and `default`"
        }
    };
    if dropped.total >= VERY_MANY && kept.total == 0 && others == 0 {
        let message = format!(
            "every request was dropped ({}); {}",
            observed.counted(dropped),
            by("dropped", dropped)
        );
        observed.find(Code::AllDropped, "route_sampling", message, findings);
    } else if kept.total >= MANY && dropped.total == 0 && others == 0 {
        let message = format!(
            "every request was kept ({}); {}",
            observed.counted(kept),
            by("sampled", kept)
        );
        observed.find(Code::AllKept, "route_sampling", message, findings);
    }
}
