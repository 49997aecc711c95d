//! What a set-up needs, before it is written for one kind of host.

use meshtrace_pipeline::MeshTracing;
use serde_json::{Map, Value};

use super::input::{Filter, Setup};
use super::part::{Config, Part, bytes, compiled, tracer_of, variables};
use super::placed::Placed;
use super::refusal::Refused;
use super::{refusal, stages};
use crate::early::EarlyMutation;
use crate::sampling::SamplingSettings;
use crate::{EnvoyTags, IstioTags, Tracer};

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) tracer: Option<Tracer>,
    /// The filters of the listener, in order.
    pub(super) downstream: Vec<Placed>,
    /// The filters behind the tracer, in order.
    pub(super) upstream: Vec<Placed>,
    pub(super) context: Option<Context>,
    pub(super) sampling: Option<SamplingSettings>,
    pub(super) tags: Option<Tags>,
    /// The fields of the access log.
    pub(super) log: Option<Map<String, Value>>,
    /// What the access log is told of `spawn_upstream_span`.
    pub(super) spawns: Option<bool>,
    /// The request headers that must not reach the next hop.
    pub(super) removed: Vec<String>,
    pub(super) collector: Option<Collector>,
    /// The configuration of the native tracer.
    pub(super) native: Option<Config>,
    /// What a user must know besides.
    pub(super) notes: Vec<String>,
}

/// The early header mutation of `trace_context`.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) mutation: EarlyMutation,
    /// Whether callers are not believed.
    pub(super) is_edge: bool,
    /// The mutation for what the application of a sidecar sends, which is believed.
    pub(super) outbound: Option<EarlyMutation>,
}

#[derive(Debug)]
pub(super) enum Tags {
    Envoy(EnvoyTags),
    Istio(IstioTags),
}

/// The cluster to which spans are reported.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) cluster: String,
    pub(super) is_grpc: bool,
}

impl Plan {
    pub(super) fn new(setup: &Setup) -> Result<Self, Refused> {
        let parts = setup.filters.iter().map(|given| Part::read(setup, given));
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        parts.sort_by_key(|part| part.filter);
        let tracer = tracer_of(setup, &parts);
        refusal::contradictions(setup, &parts, tracer)?;
        let mut plan = Self {
            tracer,
            downstream: Vec::new(),
            upstream: Vec::new(),
            context: None,
            sampling: None,
            tags: None,
            log: None,
            spawns: None,
            removed: Vec::new(),
            collector: None,
            native: None,
            notes: Vec::new(),
        };
        let has_own_upstream = parts
            .iter()
            .any(|part| part.filter == Filter::TraceContext && part.is_upstream());
        for part in parts {
            plan.add(setup, part, has_own_upstream)?;
        }
        // What trace_context writes there is made from what route_sampling has written.
        plan.upstream.reverse();
        plan.finish()?;
        Ok(plan)
    }

    fn add(
        &mut self,
        setup: &Setup,
        mut part: Part,
        has_own_upstream: bool,
    ) -> Result<(), Refused> {
        match part.filter {
            Filter::Native => {
                self.collect(&part)?;
                self.native = Some(part.config);
                return Ok(());
            }
            Filter::TraceContext | Filter::RouteSampling if part.is_upstream() => {
                return self.place_upstream(part);
            }
            Filter::TraceContext => {
                if let Some(tracer) = self.tracer
                    && let Some(behind) =
                        stages::around_context(self, setup, &mut part, tracer, has_own_upstream)?
                {
                    return behind.map_or(Ok(()), |behind| self.place_upstream(behind));
                }
            }
            Filter::MeshTracing if part.reports() => self.collect(&part)?,
            _ => {}
        }
        if !part.reports() {
            stages::around_sampling(self, &mut part)?;
            stages::around_attributes(self, setup, &part)?;
        }
        stages::around_log(self, setup, &mut part)?;
        let step = stages::step(&part, setup.host.envoy());
        let name = part.filter.name().to_owned();
        let placed = self.placed(part, name, step)?;
        self.downstream.push(placed);
        Ok(())
    }

    fn place_upstream(&mut self, part: Part) -> Result<(), Refused> {
        let name = format!("{}_upstream", part.filter.name());
        let placed = self.placed(part, name, None)?;
        self.upstream.push(placed);
        Ok(())
    }

    fn placed(&self, part: Part, name: String, step: Option<Value>) -> Result<Placed, Refused> {
        let by_state = compiled(part.filter, &bytes(&part.config))?;
        Ok(Placed {
            filter: part.filter,
            name,
            variables: variables(&part),
            edits: by_state.is_none() && stages::edits(&part),
            config: part.config,
            module: part.module,
            by_state,
            step,
            shares_module: false,
        })
    }

    fn collect(&mut self, part: &Part) -> Result<(), Refused> {
        let config = meshtrace_plugin_config::mesh_tracing(&bytes(&part.config))
            .map_err(|error| error.below(<MeshTracing as meshtrace_pipeline::Composition>::NAME))?;
        if let Some(report) = config.report {
            self.collector = Some(Collector {
                cluster: report.cluster,
                is_grpc: report.protocol == meshtrace_otlp::Protocol::Grpc,
            });
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Refused> {
        let own: Vec<_> = self.all().map(|placed| placed.filter).collect();
        let count = |filter: Filter| own.iter().filter(|own| **own == filter).count();
        for placed in self.downstream.iter_mut().chain(&mut self.upstream) {
            placed.shares_module = count(placed.filter) > 1;
        }
        let mut seen: Vec<(&str, &String)> = Vec::new();
        for placed in self.all() {
            let state = placed.by_state.iter();
            for header in state.flat_map(|state| state.leaving.iter().chain(&state.removed)) {
                if let Some((other, _)) = seen.iter().find(|(_, name)| *name == header) {
                    return Err(Refused::new(format!(
                        "{other} and {} both say by filter state how {header} leaves, and the last \
                         one wins: use mesh_tracing, whose stages see each other's, or \"request_headers\": \
                         \"edit\" in one of them",
                        placed.name
                    )));
                }
                seen.push((&placed.name, header));
            }
        }
        Ok(())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Placed> {
        self.downstream.iter().chain(&self.upstream)
    }

    /// The headers that filters write as filter state: those that leave, and those that do not.
    pub(super) fn by_state(&self) -> Option<(Vec<String>, Vec<String>)> {
        let mut all = self.all().filter_map(|placed| placed.by_state.as_ref());
        let first = all.next()?.clone();
        Some(all.fold((first.leaving, first.removed), |mut sum, state| {
            sum.0.extend(state.leaving.clone());
            sum.1.extend(state.removed.clone());
            sum
        }))
    }

    pub(super) fn remove(&mut self, headers: &Value) {
        let headers = headers
            .get("request_headers_to_remove")
            .and_then(Value::as_array);
        for header in headers.into_iter().flatten().filter_map(Value::as_str) {
            if !self.removed.iter().any(|own| own == header) {
                self.removed.push(header.to_owned());
            }
        }
    }

    /// The word for the tracer in names and heads, as in `istio-manifests/`.
    pub(super) fn tracer_word(&self) -> &'static str {
        match self.tracer {
            None => "none",
            Some(Tracer::OpenTelemetry) => "otel",
            Some(Tracer::ZipkinB3) => "zipkin-b3",
            Some(Tracer::ZipkinB3WithW3c) => "zipkin",
        }
    }
}
