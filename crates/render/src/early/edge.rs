//! A caller whose context is not believed: its headers are gone before the tracer reads.

use meshtrace_config::ConfigError;
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Field, IncomingMode, TraceContextConfig, WhenConfig};
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use super::believed;
use super::names::{
    CALLERS_CLUSTER, CLIENT_TRACE_ID, FORCE_TRACE, REQUEST_ID, SPAN_NAME, helper, name,
};
use crate::cel::{cel, first, has, value, when};
use crate::script::Script;

/// The tracer then starts a new trace, and Envoy makes a new request id.
pub(super) fn script(
    config: &TraceContextConfig,
    mode: IncomingMode,
    conditions: &WhenConfig,
) -> Result<Script, ConfigError> {
    let removed = headers(config, mode);
    let mut script = Script::default();
    let Some(believed) = believed::expression(conditions)? else {
        for header in removed {
            script.remove(header);
        }
        return Ok(script);
    };

    script.remove(helper::BELIEVED);
    script.set(helper::BELIEVED, cel(when(believed, "'1'")));
    // No mutation removes on a condition, so what a believed caller sent is put back.
    for header in removed {
        let both = format!("{} && {}", has(helper::BELIEVED), has(&header));
        script.remove(helper::KEPT);
        script.set(helper::KEPT, cel(when(both, value(&header))));
        script.remove(header.clone());
        script.set(header, first(helper::KEPT));
    }
    script.remove(helper::KEPT);
    script.remove(helper::BELIEVED);
    Ok(script)
}

/// What carries a trace context, or makes Envoy sample, name or describe a span as the caller wants.
fn headers(config: &TraceContextConfig, mode: IncomingMode) -> Vec<String> {
    let mut headers = Vec::new();
    let mut add = |header: &str| {
        if !headers.iter().any(|known| known == header) {
            headers.push(header.to_owned());
        }
    };
    match mode {
        IncomingMode::Ignore => Field::ALL.iter().for_each(|field| add(name(*field))),
        IncomingMode::Continue | IncomingMode::Restart => {
            let formats = Format::EXTRACTED_BY_DEFAULT.iter();
            let fields = formats.flat_map(|format| format.fields());
            fields.for_each(|field| add(name(*field)));
        }
    }
    let obeyed = [
        CLIENT_TRACE_ID,
        FORCE_TRACE,
        REQUEST_ID,
        SPAN_NAME,
        CALLERS_CLUSTER,
    ];
    for header in obeyed {
        add(header);
    }
    for entry in &config.clear {
        let entry = entry.to_ascii_lowercase();
        match Format::deserialize(StrDeserializer::<Error>::new(&entry)) {
            Ok(format) => format.fields().iter().for_each(|field| add(name(*field))),
            Err(_) => add(&entry),
        }
    }
    headers
}
