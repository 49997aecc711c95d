//! The configuration of propagation, compiled.

use meshtrace_config::{ConfigError, Mistakes};
use meshtrace_headers::Headers;

use crate::baggage_source::BaggageSource;
use crate::config::{
    IncomingMode, InjectConfig, OnConflict, OnMissing, Placement, TraceContextConfig,
};
use crate::destination::DestinationPolicy;
use crate::format::{Format, FormatSet, Reading, Writing};
use crate::overrides::Overrides;
use crate::repeats::refuse_repeats;
use crate::trust::{Peer, Trust};
use crate::{OnRepeated, SamplingState};

/// A compiled [`TraceContextConfig`]: what to do with the context of every request.
///
/// Each step of a request has a file: `extract.rs` chooses a context (upstream, `tracer.rs` does),
/// `decide.rs` continues, starts or restarts the trace, `baggage.rs` joins baggage, and `inject.rs`
/// says which headers must change. `managed.rs` lists beforehand the headers that can change.
#[derive(Clone, Debug)]
pub struct Propagation {
    pub(crate) placement: Placement,
    pub(crate) trust: Trust,
    pub(crate) extraction: Extraction,
    pub(crate) start: Start,
    pub(crate) baggage_from: Vec<BaggageSource>,
    /// The policy where no override matches.
    pub(crate) policy: DestinationPolicy,
    pub(crate) overrides: Overrides,
    pub(crate) writing: Writing,
    needs_own_context: bool,
}

/// How a context is chosen.
#[derive(Clone, Debug)]
pub(crate) struct Extraction {
    /// The formats to read, in order.
    pub(crate) formats: Vec<Format>,
    /// The same formats.
    pub(crate) read: FormatSet,
    pub(crate) reading: Reading,
    pub(crate) on_repeated: OnRepeated,
    pub(crate) on_conflict: OnConflict,
}

/// How a trace is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) on_missing: OnMissing,
    /// The decision that a new trace starts with.
    pub(crate) sampled: bool,
    pub(crate) random_flag: bool,
}

impl Propagation {
    /// Compiles `config`.
    ///
    /// # Errors
    /// When two keys contradict each other or a value is impossible, with the key's path.
    #[inline(never)]
    pub fn new(config: &TraceContextConfig) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let extract = match config.placement {
            Placement::Downstream => downstream(config),
            Placement::Upstream => upstream(config),
        };
        let extract = mistakes.keep(extract).unwrap_or_default();
        if config.default_format.is_some() && !preserves(config) {
            let refusal = ConfigError::new(
                "default_format",
                "only with inject \"preserve\"; a list says itself what to write",
            );
            mistakes.add(refusal.judged_by("inject").judged_by("overrides"));
        }
        let policy = mistakes.keep(DestinationPolicy::new(config, &extract, None));
        let overrides = mistakes.keep(Overrides::new(config, &extract));
        mistakes.keep(refuse_repeats("baggage_from", &config.baggage_from));
        let trust = mistakes.keep(Trust::new(config.incoming.as_ref()));
        let ((policy, overrides), trust) = mistakes.finish(policy.zip(overrides).zip(trust))?;
        let propagation = Self {
            placement: config.placement,
            needs_own_context: trust.mode != IncomingMode::Continue,
            trust,
            extraction: Extraction {
                read: extract.iter().copied().collect(),
                formats: extract,
                reading: Reading {
                    b3_strict: config.b3_strict,
                },
                on_repeated: config.on_repeated.unwrap_or_default(),
                on_conflict: config.on_conflict.unwrap_or_default(),
            },
            start: Start {
                on_missing: config.on_missing.unwrap_or_default(),
                sampled: config.generate_sampled,
                random_flag: config.random_flag,
            },
            baggage_from: config.baggage_from.clone(),
            policy,
            overrides,
            writing: Writing {
                on_defer: config.on_defer,
                b3_trace_id_bits: config.b3_trace_id_bits,
            },
        };
        Ok(match propagation.start.on_missing {
            OnMissing::Pass => propagation,
            OnMissing::Generate => propagation.of_participant(),
        })
    }

    /// Whether the context of this caller counts; otherwise `incoming` restarts or ignores it.
    #[must_use]
    pub fn believes(&self, headers: &Headers<'_>, peer: Peer<'_>) -> bool {
        self.trust.mode_for(headers, peer) == IncomingMode::Continue
    }

    /// Whether deciding about a caller needs its address.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        self.trust.needs_address()
    }

    /// Whether deciding about a caller needs the listener's direction.
    #[must_use]
    pub fn needs_direction(&self) -> bool {
        self.trust.needs_direction()
    }

    /// Whether the headers that are sent on depend on the upstream cluster.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        self.overrides.name_clusters()
    }

    /// Whether a request that comes a second time, as after an internal redirect, needs the context
    /// that [`TraceContext::to_bytes`] kept the first time: without it, the headers of the request
    /// would not be trusted, or not be read.
    ///
    /// [`TraceContext::to_bytes`]: crate::TraceContext::to_bytes
    #[must_use]
    pub fn needs_own_context(&self) -> bool {
        self.needs_own_context
    }

    /// The same configuration for a hop that opens spans of its own
    /// ([`participate`](Self::participate)), and so starts a trace wherever it reads none.
    #[must_use]
    pub fn of_participant(mut self) -> Self {
        self.needs_own_context |= !self.reads_what_it_writes();
        self
    }

    /// Whether every destination gets a format that this filter reads.
    fn reads_what_it_writes(&self) -> bool {
        let reads = |policy: &DestinationPolicy| {
            let written = policy.inject.formats(None);
            let mut read = self.extraction.formats.iter();
            read.any(|format| written.contains(*format) && !policy.clear.touches(*format))
        };
        self.policies().all(reads)
    }

    /// The value of W3C's flag `sampled` for this state.
    #[must_use]
    pub fn w3c_sampled(&self, sampling: SamplingState) -> bool {
        self.writing.decision(sampling)
    }

    /// A warning about a configuration that is valid.
    #[must_use]
    pub fn caution(&self) -> Option<&'static str> {
        let downstream = self.placement == Placement::Downstream;
        (downstream && !self.overrides.is_empty()).then_some(
            "trace_context.overrides: beside this proxy's own tracer they hold with placement \
             \"upstream\" only, as the tracer writes its headers after this filter",
        )
    }

    /// The policy for a request with these `headers` to this `cluster`.
    #[must_use]
    pub fn policy_for(&self, headers: &Headers<'_>, cluster: Option<&[u8]>) -> &DestinationPolicy {
        self.overrides
            .find(headers, cluster)
            .unwrap_or(&self.policy)
    }

    /// The policies of all destinations.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &DestinationPolicy> {
        self.overrides.policies().chain([&self.policy])
    }
}

fn downstream(config: &TraceContextConfig) -> Result<Vec<Format>, ConfigError> {
    if config.tracer.is_some() {
        let refusal = ConfigError::new(
            "tracer",
            "only with placement \"upstream\"; downstream the formats to read are in `extract`",
        );
        return Err(refusal.judged_by("placement"));
    }
    let extract = match &config.extract {
        Some(formats) => formats.clone(),
        None => Format::EXTRACTED_BY_DEFAULT.to_vec(),
    };
    refuse_repeats("extract", &extract)?;
    Ok(extract)
}

fn upstream(config: &TraceContextConfig) -> Result<Vec<Format>, ConfigError> {
    let downstream_only = [
        ("extract", config.extract.is_some()),
        ("incoming", config.incoming.is_some()),
        ("on_missing", config.on_missing.is_some()),
        ("on_conflict", config.on_conflict.is_some()),
        ("on_repeated", config.on_repeated.is_some()),
    ];
    let mut mistakes = Mistakes::default();
    for (key, present) in downstream_only {
        mistakes.require(
            !present,
            key,
            "not with placement \"upstream\", where the context is the tracer's own",
        );
    }
    let tracer = config.tracer.ok_or_else(|| {
        ConfigError::new(
            "tracer",
            format!(
                "required with placement \"upstream\": the one format that this proxy's tracer \
             writes, one of {}",
                Format::NAMES
            ),
        )
    });
    let tracer = mistakes.keep(tracer);
    Ok(match mistakes.finish(tracer)? {
        Format::B3 => vec![Format::B3, Format::B3Multi],
        Format::B3Multi => vec![Format::B3Multi, Format::B3],
        tracer => vec![tracer],
    })
}

fn preserves(config: &TraceContextConfig) -> bool {
    let own = config.overrides.iter().map(|entry| entry.inject.as_ref());
    own.chain([config.inject.as_ref()])
        .any(|inject| matches!(inject, Some(InjectConfig::Preserve)))
}
