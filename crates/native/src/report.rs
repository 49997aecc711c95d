//! Decides which finished spans are reported, and describes them.

use core::time::Duration;

use meshtrace_counters::Counter as _;
use meshtrace_headers::Headers;
use meshtrace_otlp::conventions::{self, End};
use meshtrace_otlp::{self as otlp, Attributes, Counter, RoleConfig};
use meshtrace_pipeline::Stage;
use meshtrace_propagation::Direction;

use crate::fate::{AsksFor, Fate, Place};
use crate::plugin::{Plugin, is_told};
use crate::span::{Family, Kind, Parts, Verdict};
use crate::tags::{NODE_ID, Tags, some};
use crate::worker::Worker;

/// A span of `family` has ended. It is reported, or waits for the end of its request.
pub(crate) fn finish(worker: &Worker, family: &Family, mut parts: Box<Parts>) {
    match parts.kind {
        Kind::Request => {
            family.ended.set(Some(parts.tags.request_end()));
            settle(worker, family, parts);
        }
        Kind::Attempt => {
            end_attempt(family, &mut parts);
            wait(family, parts);
        }
        Kind::OtherCall => match verdict(family) {
            Verdict::Open => wait(family, parts),
            Verdict::Report => {
                report(worker, family, &parts, None);
                worker.give_back_parts(parts);
            }
            Verdict::Drop => worker.give_back_parts(parts),
        },
    }
    release(worker, family);
}

fn wait(family: &Family, parts: Box<Parts>) {
    if let Ok(mut waiting) = family.waiting.try_borrow_mut() {
        waiting.push(parts);
    }
}

/// An attempt has ended.
fn end_attempt(family: &Family, parts: &mut Parts) {
    let attempts = &family.attempts;
    attempts.end();
    attempts.grpc_status.set(parts.tags.grpc_status());
    parts.place.begun_then = attempts.begun.get();
    let told = parts.tags.upstream();
    if !told.is_empty()
        && let Ok(mut upstream) = family.upstream.try_borrow_mut()
    {
        upstream.clear();
        upstream.extend_from_slice(told);
    }
    if parts.tags.is_answered()
        && let Ok(mut waiting) = family.waiting.try_borrow_mut()
    {
        for earlier in &mut *waiting {
            let is_attempt = earlier.kind == Kind::Attempt && !earlier.tags.is_answered();
            if is_attempt && earlier.place.was_beside(parts.place) {
                earlier.place.is_beaten = true;
            }
        }
    }
}

/// Reports the spans that wait, or drops them, once all is known of them.
pub(crate) fn release(worker: &Worker, family: &Family) {
    if family.ended.get().is_none() {
        return;
    }
    let Ok(mut waiting) = family.waiting.try_borrow_mut() else {
        return;
    };
    let verdict = verdict(family);
    let is_open = family.attempts.open.get() > 0;
    let mut place = 0;
    while let Some(parts) = waiting.get(place) {
        // An attempt beside it may have an answer.
        if is_open && parts.kind == Kind::Attempt && parts.tags.is_canceled() {
            place += 1;
            continue;
        }
        let parts = waiting.remove(place);
        if verdict == Verdict::Report {
            report(worker, family, &parts, None);
        }
        worker.give_back_parts(parts);
    }
}

/// The attempt of the place `next` has told what it sends. Reports the earlier ones of which nothing
/// more will be known: the request may stay open for hours.
#[cold]
pub(crate) fn release_settled(worker: &Worker, family: &Family, next: Place) {
    // What is kept is decided at the end.
    if !family.is_sampled() {
        return;
    }
    let Ok(mut waiting) = family.waiting.try_borrow_mut() else {
        return;
    };
    for parts in waiting.extract_if(.., |parts| parts.place.is_settled_by(next)) {
        report(worker, family, &parts, None);
        worker.give_back_parts(parts);
    }
}

/// Whether the spans of the request are reported.
fn verdict(family: &Family) -> Verdict {
    match family.is_sampled() {
        true => Verdict::Report,
        false => family.verdict.get(),
    }
}

/// A request has ended. Decides whether its spans are reported, where it is not sampled.
fn settle(worker: &Worker, family: &Family, parts: Box<Parts>) {
    let reason = match family.is_sampled() {
        true => None,
        false => {
            let reason = reason_to_keep(worker, family, &parts);
            family.verdict.set(match reason {
                Some(_) => Verdict::Report,
                None => Verdict::Drop,
            });
            reason
        }
    };
    match verdict(family) {
        Verdict::Report => report(worker, family, &parts, reason),
        Verdict::Open | Verdict::Drop => count_not_sampled(worker),
    }
    worker.give_back_parts(parts);
}

/// The end of the request itself.
fn fate_of_request(family: &Family) -> Fate {
    // A translator of gRPC-Web in front of the router puts the status into the body, where Envoy does
    // not look for it.
    Fate::Request {
        grpc_status: family.attempts.grpc_status.get(),
    }
}

/// What became of a span.
fn fate(family: &Family, parts: &Parts, request: &conventions::Request<'_>) -> Fate {
    match parts.kind {
        Kind::Request => fate_of_request(family),
        Kind::OtherCall => Fate::OtherCall,
        Kind::Attempt => {
            let is_last = parts.place.begun_then == family.attempts.begun.get();
            Fate::Attempt {
                request: family.ended.get().filter(|_| is_last),
                is_beaten: parts.place.is_beaten,
                asks_for: match (request.is_upgrade(), request.is_grpc()) {
                    (true, _) => AsksFor::Upgrade,
                    (false, true) => AsksFor::Grpc,
                    (false, false) => AsksFor::Http,
                },
            }
        }
    }
}

fn reason_to_keep(worker: &Worker, family: &Family, parts: &Parts) -> Option<&'static [u8]> {
    let keep = worker.plugin.keep;
    let tags = &parts.tags;
    let duration = Duration::from_nanos(parts.ended.saturating_sub(parts.started));
    let is_late = keep.slower_than.is_some_and(|limit| duration > limit);
    let grpc_status = family.attempts.grpc_status.get();
    if !(is_late || keep.errors && tags.is_suspicious(grpc_status)) {
        return None;
    }
    let request = family.block.request();
    let is_slow = is_late && !request.is_long_lived();
    let reason = tags.end(fate_of_request(family), b"", request.is_connect(), |end| {
        let is_error = keep.errors && end.is_server_error();
        match is_slow && !end.client_went_away() {
            _ if is_error => Some("error"),
            true => Some("slow"),
            false => None,
        }
    })?;
    let second = parts.ended / 1_000_000_000;
    let kept = match worker.kept.get() {
        (of, kept) if of == second => kept,
        _ => 0,
    };
    if kept >= keep.per_second {
        count(worker, Counter::KeepLimited);
        return None;
    }
    worker.kept.set((second, kept + 1));
    count(worker, Counter::Kept);
    Some(reason.as_bytes())
}

/// Counts without a lock: most requests are not sampled.
pub(crate) fn count_not_sampled(worker: &Worker) {
    let (metrics, handle) = (&worker.plugin.metrics, worker.plugin.handle);
    metrics.add_bits(handle, Stage::Report, 1 << Counter::NotSampled.index());
}

fn count(worker: &Worker, counter: Counter) {
    let metrics = &worker.plugin.metrics;
    metrics.add_to(Stage::Report, counter.index(), 1);
}

/// The role of a request's own span, which Envoy does not give. In an outbound listener, a request
/// without a span for each attempt has a CLIENT span.
fn kind_of_request(worker: &Worker, family: &Family) -> otlp::Kind {
    match worker.plugin.role {
        RoleConfig::Client => otlp::Kind::Client,
        RoleConfig::Auto
            if family.direction == Direction::Outbound && !family.has_attempt.get() =>
        {
            otlp::Kind::Client
        }
        RoleConfig::Auto | RoleConfig::Server | RoleConfig::Gateway => otlp::Kind::Server,
    }
}

fn report(worker: &Worker, family: &Family, parts: &Parts, reason: Option<&[u8]>) {
    let headers = family.block.headers();
    let request = family.block.request();
    let (Some(start), Some(span_id), Ok(mut attributes), Ok(upstream)) = (
        family.start(),
        parts.span_id,
        worker.attributes.try_borrow_mut(),
        family.upstream.try_borrow(),
    ) else {
        return;
    };
    let [of_request, of_kind, at_end, own_node] = &mut *attributes;
    for part in [
        &mut *of_request,
        &mut *of_kind,
        &mut *at_end,
        &mut *own_node,
    ] {
        part.clear();
    }
    let kind = match parts.kind {
        Kind::Request => kind_of_request(worker, family),
        Kind::Attempt | Kind::OtherCall => otlp::Kind::Client,
    };
    let route = worker.mesh_tracing.template(start.chosen(), &headers);
    let mut name = request.name(route);
    let plugin = &worker.plugin;
    if parts.kind == Kind::OtherCall {
        name = conventions::Name::new(&parts.operation);
    } else {
        request.describe(of_request);
        describe_target((request, route), kind, (family, parts), plugin, of_kind);
    }
    if parts.kind != Kind::Request
        && let Some(id) = worker.node_id()
    {
        of_request.text(NODE_ID, id);
    }
    if let Some(reason) = reason {
        at_end.text(conventions::KEPT, reason);
    }
    let fate = fate(family, parts, &request);
    let upstream = match parts.tags.upstream() {
        [] if parts.kind == Kind::Request => &upstream,
        told => told,
    };
    let is_connect = request.is_connect();
    let may_be_operation =
        plugin.report.names_operation() && route.is_none() && parts.kind != Kind::OtherCall;
    let describe = |end: &End<'_>| {
        let status = end.describe(kind, at_end);
        if plugin.report.has_envoy_attributes() {
            end.describe_as_envoy(kind, at_end);
        }
        (status, may_be_operation.then(|| end.operation()).flatten())
    };
    let (status, operation) = parts.tags.end(fate, upstream, is_connect, describe);
    if may_be_operation {
        // The decorator of a route names the operation also where no cluster does.
        let decorator = some(&parts.operation).map(conventions::Name::new);
        name = decorator.or(operation).unwrap_or(name);
    }
    let mut of_node = plugin.of_node.attributes();
    let is_own_node = parts.tags.has_custom(|key| plugin.of_node.has(key));
    if is_own_node {
        own_node.copy(of_node);
    }
    add_gathered(
        worker,
        headers,
        &parts.tags,
        &mut [&mut *of_request, of_kind, at_end, own_node],
    );
    if is_own_node {
        of_node = own_node;
    }
    let all: [&Attributes; 4] = [of_node, of_request, of_kind, at_end];
    if all.iter().any(|part| part.dropped() > 0) {
        count(worker, Counter::Truncated);
    }
    let duration = parts.ended.saturating_sub(parts.started);
    // That a request failed says nothing about how many others there are: no `th` is claimed.
    let tracestate: &[u8] = match start.is_sampled() {
        true => &family.tracestate,
        false => b"",
    };
    let span = otlp::Span {
        trace_id: start.trace_id(),
        span_id,
        parent: parts.parent,
        parent_is_remote: parts.kind == Kind::Request,
        sampled: start.is_sampled(),
        tracestate,
        name: name.as_bytes(),
        kind,
        start: parts.start_time,
        end: parts.start_time.saturating_add(duration),
        attributes: &all,
        status,
    };
    let origin = (parts.kind == Kind::Request).then(|| {
        let is_outgoing = match plugin.role {
            RoleConfig::Client => true,
            RoleConfig::Auto => family.direction == Direction::Outbound,
            RoleConfig::Server | RoleConfig::Gateway => false,
        };
        Counter::origin(is_outgoing, parts.parent.is_some())
    });
    worker.queue.push(&span, parts.ended, origin);
}

/// Adds the target of the request: for a SERVER span as it came in, for a CLIENT span as it left.
fn describe_target<'r>(
    (request, route): (conventions::Request<'r>, Option<&[u8]>),
    kind: otlp::Kind,
    (family, parts): (&'r Family, &'r Parts),
    plugin: &Plugin,
    attributes: &mut Attributes,
) {
    let has_envoy_attributes = plugin.report.has_envoy_attributes();
    if has_envoy_attributes {
        request.describe_as_envoy(attributes);
    }
    if kind == otlp::Kind::Server {
        if has_envoy_attributes {
            request.describe_url_as_envoy(attributes);
        }
        return request.describe_server(route, attributes);
    }
    let is_last = parts.place.number == family.attempts.begun.get();
    let rewritten = family.sent.rewritten().filter(|_| is_last);
    let mut sent = request;
    if !parts.sent_target.is_empty() {
        sent.target = &parts.sent_target;
    }
    if !parts.sent_authority.is_empty() {
        sent.authority = &parts.sent_authority;
    }
    if let Some(authority) = &rewritten {
        sent.authority = authority;
    }
    let is_redirect = parts.tags.is_redirect();
    if family.sent.is_unknown(is_last && is_redirect) {
        sent.authority = b"";
    }
    // The template is for the path as it came in, so it is left out where the path has changed.
    let route = route.filter(|_| sent.path() == request.path());
    sent.describe_client(route, attributes);
    if has_envoy_attributes {
        sent.describe_url_as_envoy(attributes);
    }
}

/// Adds the attributes that the configuration names, and Envoy's tags that no attribute reports.
fn add_gathered(worker: &Worker, headers: Headers<'_>, tags: &Tags, parts: &mut [&mut Attributes]) {
    let plugin = &worker.plugin;
    let is_told = |key: &str| is_told(&plugin.report, &plugin.of_node, key);
    if !worker.mesh_tracing.has_attributes() {
        return tags.add_unchanged(|_| false, (plugin.told, is_told), parts);
    }
    worker.with_arena(|arena| {
        let mut tally = meshtrace_attributes::Tally::default();
        let gathered = worker.mesh_tracing.gather(headers, arena, &mut tally);
        if let Some(attributes) = parts.first_mut() {
            for attribute in &gathered {
                attributes.text(attribute.key, attribute.value.as_bytes());
            }
        }
        let is_configured = |key: &str| gathered.iter().any(|attribute| attribute.key == key);
        tags.add_unchanged(is_configured, (plugin.told, is_told), parts);
        let (metrics, handle) = (&plugin.metrics, plugin.handle);
        metrics.add_bits(handle, Stage::Attributes, tally.bits());
    });
}
