//! A tracer configuration: the data that its spans share.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use meshtrace_config::{ConfigError, Draft};
use meshtrace_otlp::{Keep, NodeAttributes, Protocol, Report, RoleConfig, conventions};
use meshtrace_pipeline::{Change, Composition, MeshTracing, Proxy, SharedData, Stage};
use meshtrace_plugin_config::{MeshTracingConfig, native};

use crate::block::Names;
use crate::call::TracerHandle;
use crate::metrics::Metrics;
use crate::node::node;
use crate::tags::{NODE_ID, Told};

/// The stages with counters. The stage of the access log is not here: Envoy gives the access log
/// the ids.
const STAGES: [Stage; 4] = [
    Stage::Propagation,
    Stage::Sampling,
    Stage::Attributes,
    Stage::Report,
];

/// One tracer configuration of Envoy. The spans of every worker share it.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// A number that no other configuration of this process has.
    pub(crate) number: u64,
    /// The configuration, which each worker compiles for itself.
    json: Box<[u8]>,
    /// The handle is alive as long as a span is, because Envoy's spans keep their configuration.
    pub(crate) handle: TracerHandle,
    pub(crate) names: Names,
    pub(crate) metrics: Metrics,
    pub(crate) report: Report,
    pub(crate) keep: Keep,
    /// The attributes that every span has.
    pub(crate) of_node: NodeAttributes,
    /// Those of Envoy's tags that these attributes and those of the report tell.
    pub(crate) told: Told,
    /// Whether neither these attributes nor those of the configuration have the node's id.
    pub(crate) lacks_node_id: bool,
    pub(crate) role: RoleConfig,
    /// Whether the calls of the export are gRPC.
    pub(crate) is_grpc: bool,
    /// A queue with this number of spans is emptied at once.
    pub(crate) full_batch: u32,
    /// How long a queue waits for more spans, in milliseconds.
    pub(crate) interval_ms: u64,
    pub(crate) shared: Shared,
}

impl Plugin {
    /// Compiles the configuration `json` for Envoy's tracer configuration `handle`.
    pub(crate) fn new(json: &[u8], handle: TracerHandle) -> Result<(Self, Words), ConfigError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);

        let below = |error: ConfigError| error.below(MeshTracing::NAME);
        let draft = Draft::<MeshTracingConfig>::read(json);
        let config = draft.compile(|config| native::refuse(config).map(|()| config.clone()));
        let (mesh_tracing, config) = match (compile(json), config.map_err(below)) {
            (Ok(mesh_tracing), Ok(config)) => (mesh_tracing, config),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
            (Err(error), Err(more)) => return Err(error.and(more)),
        };
        let report = config.report.clone().unwrap_or_default();
        let compiled = Report::new(&report).map_err(|error| below(error.below("report")))?;
        let of_node = compiled.node_attributes(&node, &|key| config.names_attribute(key));
        let read = native::read_names(&config);
        let context = config.trace_context.as_ref();
        let reads_known = config.sampling.is_some()
            || config.span_attributes.is_some()
            || context.is_some_and(|context| !context.overrides.is_empty());
        let plugin = Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            json: json.into(),
            handle,
            names: Names::new(mesh_tracing.managed_names(), read, reads_known),
            metrics: Metrics::define(handle, &STAGES, &mesh_tracing.counters()),
            keep: compiled.keep(),
            lacks_node_id: !of_node.has(NODE_ID) && !config.names_attribute(NODE_ID),
            told: Told::new(|key| is_told(&compiled, &of_node, key)),
            of_node,
            report: compiled,
            role: report.role,
            is_grpc: report.protocol == Protocol::Grpc,
            full_batch: report.batch.max_spans,
            interval_ms: report.batch.interval_ms.into(),
            shared: Shared::default(),
        };
        let caution = native::caution(&config).map(str::to_owned);
        let words = Words {
            summary: mesh_tracing.summary(),
            cautions: mesh_tracing.cautions().into_iter().chain(caution).collect(),
        };
        Ok((plugin, words))
    }

    /// The stages, compiled for one worker.
    pub(crate) fn compile(&self) -> Option<MeshTracing> {
        compile(&self.json).ok()
    }
}

/// What the log says of a configuration that is valid.
#[derive(Debug)]
pub(crate) struct Words {
    /// What the tracer does with it. It follows "the tracer".
    pub(crate) summary: String,
    /// The warnings about it.
    pub(crate) cautions: Vec<String>,
}

/// Whether every span of the configuration says under this key what Envoy's own tag says.
pub(crate) fn is_told(report: &Report, of_node: &NodeAttributes, key: &str) -> bool {
    of_node.has(key) || report.has_envoy_attributes() && conventions::ENVOY_KEYS.contains(&key)
}

fn compile(json: &[u8]) -> Result<MeshTracing, ConfigError> {
    let proxy = Proxy {
        environment: &variable,
        node: &node,
    };
    MeshTracing::from_json(json, &proxy)
}

/// The value of a variable of the process's environment.
fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_encoded_bytes)
}

/// What the workers of a configuration share: the token buckets of its rates, and when they wrote a
/// line about an export that fails.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<BTreeMap<Box<[u8]>, [u8; 8]>>);

impl SharedData for Shared {
    fn update(&self, key: &[u8], change: &mut Change<'_>) -> bool {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let content = shared.get(key).copied();
        if let Some(new) = change(content.as_ref().map(<[u8; 8]>::as_slice)) {
            match shared.get_mut(key) {
                Some(place) => *place = new,
                None => drop(shared.insert(key.into(), new)),
            }
        }
        true
    }
}
