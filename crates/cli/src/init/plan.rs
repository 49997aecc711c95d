//! From the answers to the filters and their configurations.

use meshtrace_render::{EnvoyVersion, Filter, IstioVersion};
use serde_json::{Value, json};

use super::answers::{Answers, Place, Proxy, TracerName};

/// The filters, each with its configuration.
pub(super) fn filters(answers: &Answers, cluster: &str) -> Result<Vec<(Filter, Value)>, String> {
    match answers.tracer {
        TracerName::None => Ok(vec![(Filter::MeshTracing, whole(answers, cluster))]),
        TracerName::Native => Ok(vec![(Filter::Native, whole(answers, cluster))]),
        TracerName::Opentelemetry | TracerName::Zipkin | TracerName::ZipkinWithW3c => {
            beside(answers)
        }
    }
}

/// The configuration of a filter that is the tracer.
fn whole(answers: &Answers, cluster: &str) -> Value {
    let mut config = json!({
        "trace_context": context(answers),
        "sampling": {"default": {"ratio": 0.1}},
        "report": {"cluster": cluster},
    });
    let mut set = |key: &str, value: Value| {
        if let Some(config) = config.as_object_mut() {
            config.insert(key.to_owned(), value);
        }
    };
    if !answers.attributes.is_empty() {
        set(
            "span_attributes",
            json!({"attributes": attributes(answers)}),
        );
    }
    // Envoy itself gives the access log the ids of its tracer.
    if answers.logs && answers.tracer == TracerName::None {
        set("access_log", json!({}));
    }
    config
}

fn beside(answers: &Answers) -> Result<Vec<(Filter, Value)>, String> {
    let mut filters = Vec::new();
    let own = answers.tracer.formats();
    let is_edge = answers.place == Place::Edge;
    if is_edge || answers.formats.0.iter().any(|format| !own.contains(format)) {
        filters.push((Filter::TraceContext, context(answers)));
    }
    if !answers.attributes.is_empty() {
        let mut config = json!({"attributes": attributes(answers)});
        // Tags read no filter state before Envoy 1.37.
        let is_old = match answers.proxy {
            Proxy::Envoy(version) => version < EnvoyVersion::V1_37,
            Proxy::Istio(version) => version < IstioVersion::V1_29,
            Proxy::Gateway => false,
        };
        if let Some(config) = config.as_object_mut().filter(|_| is_old) {
            let emit = json!({"request_header_prefix": "x-span-attr-"});
            config.insert("emit".to_owned(), emit);
        }
        filters.push((Filter::SpanAttributes, config));
    }
    if answers.logs {
        let ids =
            json!({"trace_id_header": "x-active-trace-id", "span_id_header": "x-active-span-id"});
        filters.push((Filter::AccessLogTrace, json!({"ids": ids})));
    }
    match filters.is_empty() {
        true => Err(
            "nothing is to be done: the tracer speaks the formats itself, and neither logs nor attributes are asked for"
                .to_owned(),
        ),
        false => Ok(filters),
    }
}

fn context(answers: &Answers) -> Value {
    let mut extract: Vec<&str> = answers.formats.0.clone();
    let own = answers.tracer.formats().iter();
    // What a client sends in the formats that are read by default must not pass as it is: an
    // application may read another one of them than it was said to.
    let of_clients: &[&str] = match answers.place {
        Place::Edge => &["tracecontext", "b3", "b3multi"],
        Place::Inside => &[],
    };
    for format in own.chain(of_clients) {
        if !extract.contains(format) {
            extract.push(format);
        }
    }
    let mut config = json!({"extract": extract, "inject": answers.formats.0});
    if let Some(config) = config
        .as_object_mut()
        .filter(|_| answers.place == Place::Edge)
    {
        config.insert("incoming".to_owned(), json!("restart"));
    }
    config
}

fn attributes(answers: &Answers) -> Vec<Value> {
    let attributes = answers.attributes.iter();
    attributes
        .map(|attribute| json!({"key": attribute.key, "from": {"header": attribute.header}}))
        .collect()
}

/// What would be simpler.
pub(super) fn advice(answers: &Answers) -> Vec<&'static str> {
    let is_new = matches!(answers.proxy, Proxy::Envoy(version) if version >= EnvoyVersion::V1_38);
    let mut sentences = match answers.tracer {
        TracerName::Native => Vec::new(),
        TracerName::None if is_new => vec![
            "Simpler from Envoy 1.38 on: --tracer native. libmeshtrace.so is Envoy's own tracer, with the same configuration.",
        ],
        TracerName::None => Vec::new(),
        _ if is_new => vec![
            "Simpler: --tracer native, without Envoy's tracer. libmeshtrace.so does all of this in one place.",
        ],
        _ => vec![
            "Simpler: --tracer none, with the proxy's own tracer off. mesh_tracing.wasm does all of this in one filter.",
        ],
    };
    let formats = &answers.formats.0;
    if answers.tracer == TracerName::Zipkin && formats.contains(&"tracecontext") {
        sentences.push(match answers.proxy {
            Proxy::Istio(_) => {
                "Or set `traceContextOption: USE_B3_WITH_W3C_PROPAGATION` in the Zipkin provider, and take --tracer \
                 zipkin-with-w3c: the tracer then reads and writes W3C itself."
            }
            _ => {
                "Or set `trace_context_option: USE_B3_WITH_W3C_PROPAGATION` in Envoy's Zipkin tracer, and take --tracer \
                 zipkin-with-w3c: the tracer then reads and writes W3C itself."
            }
        });
    }
    sentences
}
