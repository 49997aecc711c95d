//! What only an EnvoyFilter can put into a proxy.

use serde_json::{Value, json};

use super::super::envoy::upstream_codec;
use super::super::input::{Filter, Role};
use super::super::part::Config;
use super::super::placed::Placed;
use super::super::refusal::Refused;
use super::super::rendering::Piece;
use super::{Mesh, patches, plugin};
use crate::early::EarlyMutation;
use crate::{IstioVersion, priority, request_headers};

const POLICY: &str = "FAIL_OPEN";

impl Mesh<'_> {
    pub(super) fn envoy_filters(&self) -> Result<Vec<Piece>, Refused> {
        let all = [
            self.context()?,
            self.sampling()?,
            self.steps()?,
            self.upstream()?,
            self.headers()?,
        ];
        Ok(all.into_iter().flatten().collect())
    }

    /// The `match.context` of listeners that both ways have.
    fn any(&self) -> &'static str {
        match self.setup.role {
            Role::Gateway => "GATEWAY",
            Role::Sidecar | Role::Waypoint => "ANY",
        }
    }

    fn inbound(&self) -> &'static str {
        match self.setup.role {
            Role::Gateway => "GATEWAY",
            Role::Sidecar | Role::Waypoint => "SIDECAR_INBOUND",
        }
    }

    fn context(&self) -> Result<Option<Piece>, Refused> {
        let Some(context) = &self.plan.context else {
            return Ok(None);
        };
        let merge = |place: &str, mutation: &EarlyMutation| {
            let mut fields = Config::new();
            if mutation.manager.generate_request_id == Some(true) {
                fields.insert("generate_request_id".to_owned(), json!(true));
            }
            let list = json!([mutation.extension]);
            fields.insert("early_header_mutation_extensions".to_owned(), list);
            patches::manager(place, fields)
        };
        let mut all = match (context.is_edge, &context.outbound) {
            (false, _) => vec![merge(self.any(), &context.mutation)],
            (true, None) => vec![merge(self.inbound(), &context.mutation)],
            (true, Some(outbound)) => vec![
                merge(self.inbound(), &context.mutation),
                // What the application itself sends is believed.
                merge("SIDECAR_OUTBOUND", outbound),
            ],
        };
        let both = [Some(&context.mutation), context.outbound.as_ref()];
        let removed = both.into_iter().flatten().map(|own| &own.virtual_host);
        if let Some(removed) = removed.into_iter().find(|own| **own != json!({})) {
            all.push(patches::routes("VIRTUAL_HOST", self.any(), removed));
        }
        let (order, suffix, what) = match context.is_edge {
            true => (
                priority::EDGE,
                "-edge",
                "trace_context: before the tracer, what callers send to tracers is removed",
            ),
            false => (
                priority::CONTEXT,
                "-early",
                "trace_context: before the tracer, its own format is made of what arrived",
            ),
        };
        let piece = self.envoy_filter(
            self.name(Filter::TraceContext, true, suffix),
            what,
            order,
            &self.selection(Some("early")),
            all,
        )?;
        let outbound = context.outbound.iter().flat_map(|own| &own.limits);
        let mut limits: Vec<_> = context.mutation.limits.iter().chain(outbound).collect();
        limits.dedup();
        Ok(Some(
            piece.with_notes(limits.into_iter().map(ToString::to_string)),
        ))
    }

    fn sampling(&self) -> Result<Option<Piece>, Refused> {
        let Some(settings) = &self.plan.sampling else {
            return Ok(None);
        };
        let mut manager = settings.manager.as_object().cloned().unwrap_or_default();
        // A merge cannot set a number to 0: a Telemetry does.
        manager.remove("tracing");
        let mut all = vec![
            patches::manager(self.any(), manager),
            patches::routes("VIRTUAL_HOST", self.any(), &settings.virtual_host),
        ];
        all.extend(settings.routes.iter().map(crate::RouteTracing::to_patch));
        let piece = self.envoy_filter(
            self.name(Filter::RouteSampling, true, "-settings"),
            "route_sampling: what makes the tracer follow it",
            priority::SAMPLING,
            &self.selection(Some("sampling")),
            all,
        )?;
        Ok(Some(piece))
    }

    /// The steps of plugins: they stand in front of every filter, so that their plugin is behind.
    fn steps(&self) -> Result<Option<Piece>, Refused> {
        let own = |placed: &&Placed| placed.filter != Filter::AccessLogTrace;
        let mut steps = self.plan.downstream.iter().filter(own);
        let Some((placed, step)) = steps.find_map(|placed| Some((placed, placed.step.as_ref()?)))
        else {
            return Ok(None);
        };
        let contexts = match (self.setup.role, plugin::is_both_ways(placed)) {
            (Role::Gateway, _) => vec!["GATEWAY"],
            (_, true) => vec!["SIDECAR_INBOUND", "SIDECAR_OUTBOUND"],
            (_, false) => vec!["SIDECAR_INBOUND"],
        };
        let all = contexts
            .into_iter()
            .map(|place| patches::first(place, step));
        let what = format!(
            "{}: the step that tells it the proxy's own ids",
            placed.filter.name()
        );
        let piece = self.envoy_filter(
            self.name(placed.filter, false, "-ids"),
            &what,
            // Applied before access_log_trace, it stands behind it.
            priority::SAMPLING,
            &self.selection_of(placed),
            all.collect(),
        )?;
        Ok(Some(piece))
    }

    /// `access_log_trace` with its step, in front of every other filter.
    pub(super) fn in_front(&self, placed: &Placed) -> Result<Piece, Refused> {
        let place = self.inbound();
        let name = format!("meshtrace.{}", placed.name);
        let (filter, extension) = self.loaded(placed, &name, true);
        let mut all = vec![patches::first(place, &filter)];
        all.extend(placed.step.iter().map(|step| patches::first(place, step)));
        all.extend(
            extension
                .iter()
                .map(|value| patches::extension(place, value)),
        );
        self.envoy_filter(
            self.name(placed.filter, true, ""),
            "access_log_trace and the step that tells it the proxy's own ids, in front of all filters",
            priority::ACCESS_LOG,
            &self.selection_of(placed),
            all,
        )
    }

    /// A filter of Wasm: with a mounted file in place, else discovered, as Istio's agent fetches
    /// images for what is discovered alone.
    fn loaded(&self, placed: &Placed, name: &str, may_discover: bool) -> (Value, Option<Value>) {
        if placed.module.is_file() || !may_discover {
            let filter = placed.http_filter(name, placed.module.mounted(), POLICY);
            return (filter, None);
        }
        let extension = placed.http_filter(name, placed.module.discovered(), POLICY);
        (patches::discovery(name), Some(extension))
    }

    /// One EnvoyFilter for all filters behind the tracer: their list ends with the codec.
    fn upstream(&self) -> Result<Option<Piece>, Refused> {
        let Some(first) = self.plan.upstream.first() else {
            return Ok(None);
        };
        // Where a fetch fails, the agent puts RBAC there, which Envoy 1.37 refuses behind the
        // tracer; 1.38 was not run.
        let may_discover = self.version >= IstioVersion::V1_31;
        let mut filters = Vec::new();
        let mut extensions = Vec::new();
        for placed in &self.plan.upstream {
            let name = format!("meshtrace.{}", placed.name);
            let (filter, extension) = self.loaded(placed, &name, may_discover);
            filters.push(filter);
            extensions.extend(extension);
        }
        filters.push(upstream_codec());
        let mut all = vec![patches::router(self.any(), &filters)];
        all.extend(
            extensions
                .iter()
                .map(|value| patches::extension(self.any(), value)),
        );
        let names: Vec<_> = self
            .plan
            .upstream
            .iter()
            .map(|placed| placed.filter.name())
            .collect();
        let what = format!("{}: behind the tracer", names.join(" and "));
        let piece = self.envoy_filter(
            self.name(first.filter, true, "-upstream"),
            &what,
            priority::UPSTREAM,
            &self.selection(Some("upstream")),
            all,
        )?;
        let is_mounted = |placed: &&Placed| !may_discover && !placed.module.is_file();
        let mounted = self.plan.upstream.iter().find(is_mounted).map(|placed| {
            format!(
                "{} is mounted: {} takes no image behind the tracer. --url file:///… names another path.",
                placed.filter.name(), self.version
            )
        });
        Ok(Some(piece.with_notes(mounted)))
    }

    /// The headers that leave by filter state.
    fn headers(&self) -> Result<Option<Piece>, Refused> {
        let Some((leaving, removed)) = self.plan.by_state() else {
            return Ok(None);
        };
        let Some(placed) = self.plan.all().find(|placed| placed.by_state.is_some()) else {
            return Ok(None);
        };
        let parts = request_headers::route_configuration(&leaving, &removed);
        let contexts = match (self.setup.role, plugin::is_both_ways(placed)) {
            (Role::Gateway, _) => vec!["GATEWAY"],
            (_, true) => vec!["SIDECAR_INBOUND", "SIDECAR_OUTBOUND"],
            (_, false) => vec!["SIDECAR_INBOUND"],
        };
        let all = contexts
            .into_iter()
            .map(|place| patches::routes("ROUTE_CONFIGURATION", place, &parts));
        let piece = self.envoy_filter(
            self.name(placed.filter, false, "-headers"),
            "the headers that leave by filter state; a pod without the filter loses them",
            priority::UPSTREAM,
            &self.selection_of(placed),
            all.collect(),
        )?;
        Ok(Some(piece))
    }
}
