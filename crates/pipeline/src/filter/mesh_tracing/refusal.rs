//! Refuses keys of the stages that contradict each other.

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_attributes::SpanAttributesConfig;
use meshtrace_config::{ConfigError, Mistakes, each};
use meshtrace_otlp::conventions;
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::{OnMissing, Placement, TraceContextConfig};
use meshtrace_sampling::SamplingConfig;

pub(super) fn refuse_what_report_knows(config: &AccessLogTraceConfig) -> Result<(), ConfigError> {
    let of_a_tracer = [
        (
            "ids",
            config.ids.trace_id_header.is_some() || config.ids.span_id_header.is_some(),
        ),
        ("tracer", config.tracer.is_some()),
        ("extract", config.extract.is_some()),
        ("spawn_upstream_span", config.spawn_upstream_span.is_some()),
        ("shared_span_context", config.shared_span_context.is_some()),
    ];
    let mut mistakes = Mistakes::default();
    for (key, is_set) in of_a_tracer {
        let why = "not with `report`, which opens the span itself and knows its ids";
        mistakes.require(!is_set, key, why);
    }
    mistakes.end()
}

pub(super) fn refuse_what_tells_a_tracer(config: &SamplingConfig) -> Result<(), ConfigError> {
    let of_a_tracer = [
        (
            "request_header",
            config.request_header.is_some(),
            "decides itself and needs no header",
        ),
        (
            "extract",
            config.extract.is_some(),
            "reads what `trace_context.extract` names",
        ),
        ("tracer", config.tracer.is_some(), "is the tracer"),
        (
            "ids.trace_id_header",
            config.ids.trace_id_header.is_some(),
            "knows the trace id",
        ),
    ];
    let mut mistakes = Mistakes::default();
    for (key, is_set, why) in of_a_tracer {
        mistakes.require(!is_set, key, &format!("not with `report`, which {why}"));
    }
    mistakes.end()
}

/// "The keys of attributes … MUST be unique" (OTLP).
pub(super) fn refuse_what_report_says(
    config: &SpanAttributesConfig,
    has_envoy_attributes: bool,
) -> Result<(), ConfigError> {
    let is_said = |key: &str| {
        conventions::KEYS.contains(&key)
            || has_envoy_attributes && conventions::ENVOY_KEYS.contains(&key)
    };
    each(
        "attributes",
        &config.attributes,
        |_, attribute| match is_said(&attribute.key) {
            true => Err(ConfigError::new(
                "key",
                format!(
                    "{:?} is what `report` says itself on its spans, expected another key",
                    attribute.key
                ),
            )),
            false => Ok(()),
        },
    )
    .map(drop)
}

/// Refuses `request_headers` in a stage: one filter changes a request in one way.
pub(super) fn refuse_below_the_top(config: &MeshTracingConfig) -> Result<(), ConfigError> {
    let trace_context = config.trace_context.as_ref();
    let sampling = config.sampling.as_ref();
    let span_attributes = config.span_attributes.as_ref();
    let access_log = config.access_log.as_ref();
    let stages = [
        (
            "trace_context",
            trace_context.and_then(|stage| stage.request_headers),
        ),
        ("sampling", sampling.and_then(|stage| stage.request_headers)),
        (
            "span_attributes",
            span_attributes.and_then(|stage| stage.request_headers),
        ),
        (
            "access_log",
            access_log.and_then(|stage| stage.request_headers),
        ),
    ];
    let mut mistakes = Mistakes::default();
    for (stage, asked) in stages {
        mistakes.require(
            asked.is_none(),
            &format!("{stage}.request_headers"),
            "expected at the top of the configuration, for all stages together",
        );
    }
    mistakes.end()
}

pub(super) fn refuse_upstream(placement: Placement) -> Result<(), ConfigError> {
    match placement {
        Placement::Downstream => Ok(()),
        Placement::Upstream => Err(ConfigError::new(
            "placement",
            "\"downstream\" alone: this filter stands among the listener's",
        )),
    }
}

pub(super) fn refuse_what_report_decides(config: &TraceContextConfig) -> Result<(), ConfigError> {
    let mut mistakes = Mistakes::default();
    mistakes.keep(refuse_upstream(config.placement));
    mistakes.require(
        config.on_missing != Some(OnMissing::Pass),
        "on_missing",
        "not \"pass\" with `report`, which starts a trace where none came in",
    );
    mistakes.require(
        !config.generate_sampled,
        "generate_sampled",
        "not with `report`, which decides about the traces that start here",
    );
    mistakes.end()
}

/// Compiles the stage `access_log`. It reads repeated headers as a `trace_context` beside it does.
#[inline(never)]
pub(super) fn access_log_stage(
    config: &MeshTracingConfig,
) -> Result<Option<AccessLogIds>, ConfigError> {
    let Some(stage) = &config.access_log else {
        return Ok(None);
    };
    let ids = AccessLogIds::new(stage).map_err(|error| error.below("access_log"))?;
    Ok(Some(match &config.trace_context {
        Some(stage) => ids.beside(stage.on_repeated.unwrap_or_default()),
        None => ids,
    }))
}
