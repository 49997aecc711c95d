//! What a configuration of `mesh_tracing` cannot have in the native tracer, and the headers that it
//! reads from Envoy. The tracer and `meshtrace check` refuse the same.

use meshtrace_attributes::{Phase, SourceConfig, SpanAttributesConfig};
use meshtrace_config::{ConfigError, Mistakes, RequestHeaders, each};
use meshtrace_otlp::RoleConfig;
use meshtrace_propagation::{Family, IncomingMode, OnRepeated, TraceContextConfig};
use meshtrace_sampling::SamplingConfig;

use crate::MeshTracingConfig;

/// The name of the tracer: `tracer_name` of Envoy's `DynamicModuleTracer`.
pub const TRACER: &str = "mesh_tracing";
/// The name of the HTTP filter that exports: `filter_name` of Envoy's `DynamicModuleFilter`.
pub const EXPORT_FILTER: &str = "mesh_tracing_export";
/// The name of the bootstrap extension: `extension_name` of Envoy's
/// `DynamicModuleBootstrapExtension`.
pub const FLUSH_EXTENSION: &str = "mesh_tracing_flush";

/// Refuses the name of another tracer.
///
/// # Errors
/// The path `tracer_name`, and what is expected.
pub fn refuse_tracer(name: &[u8]) -> Result<(), ConfigError> {
    refuse_name("tracer_name", "tracer", name, TRACER)
}

/// Refuses the name of another filter, and a configuration of the filter that exports.
///
/// # Errors
/// The path `filter_name` or `filter_config`, and what is expected.
pub fn refuse_filter(name: &[u8], content: &[u8]) -> Result<(), ConfigError> {
    refuse_name("filter_name", "filter", name, EXPORT_FILTER)?;
    match content {
        b"" | b"{}" => Ok(()),
        _ => Err(ConfigError::new(
            "filter_config",
            "not here: the tracer's configuration says where spans go",
        )),
    }
}

/// Refuses the name of another bootstrap extension.
///
/// # Errors
/// The path `extension_name`, and what is expected.
pub fn refuse_extension(name: &[u8]) -> Result<(), ConfigError> {
    refuse_name("extension_name", "extension", name, FLUSH_EXTENSION)
}

fn refuse_name(path: &str, what: &str, name: &[u8], known: &str) -> Result<(), ConfigError> {
    match name == known.as_bytes() {
        true => Ok(()),
        false => Err(ConfigError::new(
            path,
            format!("unknown {what}, expected \"{known}\""),
        )),
    }
}

/// Refuses settings that need what Envoy does not give a tracer, and settings that have no meaning
/// in a tracer.
///
/// # Errors
/// The path of the setting below `mesh_tracing`, and the reason.
pub fn refuse(config: &MeshTracingConfig) -> Result<(), ConfigError> {
    let Some(report) = &config.report else {
        return Err(ConfigError::new(
            "report",
            "required: the module is the proxy's tracer, and reports its spans",
        ));
    };
    let mut mistakes = Mistakes::default();
    mistakes.require(
        report.role != RoleConfig::Gateway,
        "report.role",
        "not \"gateway\": Envoy's own `spawn_upstream_span: true` makes a CLIENT span of each call",
    );
    mistakes.require(
        config.access_log.is_none(),
        "access_log",
        "not here: %TRACE_ID% and %SPAN_ID% of the access log are this tracer's",
    );
    mistakes.require(
        config.request_headers != Some(RequestHeaders::FilterState),
        "request_headers",
        "not \"filter_state\": what a tracer injects makes Envoy choose no route again",
    );
    if let Some(config) = &config.trace_context {
        let refused = refuse_context(config);
        mistakes.keep(refused.map_err(|error| error.below("trace_context")));
    }
    if let Some(config) = &config.sampling {
        let refused = refuse_sampling(config);
        mistakes.keep(refused.map_err(|error| error.below("sampling")));
    }
    if let Some(config) = &config.span_attributes {
        let refused = refuse_attributes(config);
        mistakes.keep(refused.map_err(|error| error.below("span_attributes")));
    }
    mistakes.end()
}

fn refuse_context(config: &TraceContextConfig) -> Result<(), ConfigError> {
    let mut mistakes = Mistakes::default();
    mistakes.require(
        config.on_repeated != Some(OnRepeated::Reject),
        "on_repeated",
        "not \"reject\": Envoy shows a tracer the first line of a header alone",
    );
    mistakes.require(
        config.baggage_from.is_empty(),
        "baggage_from",
        "not here: Envoy shows a tracer no headers of which only the beginning is known",
    );
    let when = config.incoming.as_ref().map(|incoming| &incoming.when);
    mistakes.require(
        when.is_none_or(|when| when.not_from_cidrs.is_none()),
        "incoming.when.not_from_cidrs",
        "not here: Envoy tells a tracer the caller's address only when the request is over",
    );
    mistakes.keep(refuse_families(&config.clear));
    let overrides = each("overrides", &config.overrides, |_, entry| {
        let mut mistakes = Mistakes::default();
        mistakes.require(
            entry.cluster.is_none(),
            "cluster",
            "not here: Envoy tells a tracer the cluster only when the request is over; \
             expected a host",
        );
        mistakes.keep(refuse_families(entry.clear.as_deref().unwrap_or_default()));
        mistakes.end()
    });
    mistakes.keep(overrides);
    mistakes.end()
}

/// The names in `clear` that stand for headers of which only the beginning of the name is known.
const FAMILIES: [&str; 3] = ["jaeger", "ottrace", "instana"];

fn refuse_families(clear: &[String]) -> Result<(), ConfigError> {
    let by_beginning = |name: &str| {
        let family = Family::from_pattern(name);
        FAMILIES.contains(&name) || family.is_some_and(|family| !family.prefix.is_empty())
    };
    each("clear", clear, |_, name| match by_beginning(&name.to_ascii_lowercase()) {
        false => Ok(()),
        true => Err(ConfigError::new(
            "",
            format!(
                "not {name:?}, which has headers of which only the beginning is known: Envoy shows \
                 a tracer none of them; expected the names of single headers"
            ),
        )),
    })
    .map(drop)
}

fn refuse_sampling(config: &SamplingConfig) -> Result<(), ConfigError> {
    each("rules", &config.rules, |_, rule| {
        let unknown = [
            ("match.route", rule.matches.route.is_some()),
            ("match.cluster", rule.matches.cluster.is_some()),
        ];
        let mut mistakes = Mistakes::default();
        for (key, is_set) in unknown {
            mistakes.require(
                !is_set,
                key,
                "not here: Envoy does not tell a tracer when the span starts; expected path, \
                 methods, host or headers",
            );
        }
        mistakes.end()
    })
    .map(drop)
}

fn refuse_attributes(config: &SpanAttributesConfig) -> Result<(), ConfigError> {
    each("attributes", &config.attributes, |_, attribute| {
        let refusal = if matches!(attribute.from, SourceConfig::Property(_)) {
            "not `property`: Envoy shows a tracer none; Envoy's own `custom_tags` are reported"
        } else if attribute.from.phase() == Phase::Response {
            "not `response_header`: Envoy shows a tracer none; Envoy's own `custom_tags` are reported"
        } else {
            return Ok(());
        };
        Err(ConfigError::new("from", refusal))
    })
    .map(drop)
}

/// A warning to the user about a configuration that is valid.
#[must_use]
pub fn caution(config: &MeshTracingConfig) -> Option<&'static str> {
    let context = config.trace_context.as_ref()?;
    let incoming = context.incoming.as_ref()?;
    (incoming.mode == IncomingMode::Ignore).then_some(
        "mesh_tracing.trace_context.incoming: headers that begin with uberctx-, ot-baggage- or \
         x-instana- stay: Envoy shows a tracer no headers of which only the beginning is known",
    )
}

/// The names of the request headers that the configuration reads, besides those that it changes.
/// They are in lower case.
#[must_use]
pub fn read_names(config: &MeshTracingConfig) -> Vec<Box<[u8]>> {
    let mut names: Vec<String> = Vec::new();
    if let Some(context) = &config.trace_context {
        let incoming = context.incoming.as_ref();
        names.extend(incoming.and_then(|incoming| incoming.when.header_absent.clone()));
    }
    if let Some(sampling) = &config.sampling {
        let headers = sampling.rules.iter().flat_map(|rule| &rule.matches.headers);
        names.extend(headers.map(|header| header.name.clone()));
        names.extend(sampling.force.iter().map(|force| force.header.clone()));
    }
    let attributes = config.span_attributes.iter();
    for attribute in attributes.flat_map(|config| &config.attributes) {
        match &attribute.from {
            SourceConfig::Header(name) => names.push(name.clone()),
            SourceConfig::Cookie(_) => names.push("cookie".to_owned()),
            SourceConfig::Baggage(_) => names.push("baggage".to_owned()),
            SourceConfig::JwtClaim(claim) => names.push(claim.header.clone()),
            SourceConfig::Query(_)
            | SourceConfig::Path { .. }
            | SourceConfig::ResponseHeader(_)
            | SourceConfig::Property(_)
            | SourceConfig::Env(_)
            | SourceConfig::Literal(_) => {}
        }
    }
    let names = names.into_iter();
    names
        .map(|name| name.to_ascii_lowercase().into_bytes().into_boxed_slice())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(stages: &str) -> MeshTracingConfig {
        let json = format!(r#"{{"report": {{"cluster": "c"}}{stages}}}"#);
        crate::mesh_tracing(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_tracer_cannot_know_is_refused_with_its_path() {
        for (stages, path) in [
            (r#", "access_log": {}"#, "access_log"),
            (r#", "request_headers": "filter_state""#, "request_headers"),
            (
                r#", "trace_context": {"clear": ["x-a", "jaeger"]}"#,
                "trace_context.clear[1]",
            ),
            (
                r#", "trace_context": {"baggage_from": ["jaeger"]}"#,
                "trace_context.baggage_from",
            ),
            (
                r#", "trace_context": {"on_repeated": "reject"}"#,
                "trace_context.on_repeated",
            ),
            (
                r#", "trace_context": {"overrides": [{"cluster": "c"}]}"#,
                "trace_context.overrides[0].cluster",
            ),
            (
                r#", "trace_context": {"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#,
                "trace_context.incoming.when.not_from_cidrs",
            ),
            (
                r#", "sampling": {"rules": [{"match": {"route": "r"}, "sample": "never"}]}"#,
                "sampling.rules[0].match.route",
            ),
            (
                r#", "span_attributes": {"attributes": [{"key": "a", "from": {"property": ["xds", "cluster_name"]}}]}"#,
                "span_attributes.attributes[0].from",
            ),
            (
                r#", "span_attributes": {"attributes": [{"key": "a", "from": {"response_header": "x"}}]}"#,
                "span_attributes.attributes[0].from",
            ),
        ] {
            let refused = refuse(&config(stages)).expect_err(stages).to_string();
            assert!(refused.starts_with(path), "{refused}");
        }
        refuse(&config("")).unwrap();
        let without = crate::mesh_tracing(b"{}").unwrap();
        assert!(
            refuse(&without)
                .unwrap_err()
                .to_string()
                .starts_with("report")
        );
    }

    #[test]
    fn every_header_that_is_read_is_named() {
        let config = config(
            r#", "trace_context": {"incoming": {"mode": "ignore", "when": {"header_absent": "X-Trusted"}}},
                "sampling": {"rules": [{"match": {"headers": [{"name": "X-Tier", "present": true}]}, "sample": "always"}],
                             "force": {"header": "x-force", "value_env": "K"}},
                "span_attributes": {"attributes": [
                    {"key": "a", "from": {"header": "X-A"}}, {"key": "b", "from": {"cookie": "c"}},
                    {"key": "c", "from": {"jwt_claim": {"claim": "sub"}}}, {"key": "d", "from": {"baggage": "m"}}]}"#,
        );
        let names = read_names(&config);
        let expected: [&[u8]; 7] = [
            b"x-trusted",
            b"x-tier",
            b"x-force",
            b"x-a",
            b"cookie",
            b"authorization",
            b"baggage",
        ];
        assert_eq!(names, expected.map(Box::from));
        assert!(caution(&config).is_some());
    }
}
