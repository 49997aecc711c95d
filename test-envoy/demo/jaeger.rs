//! Every act's spans in a Jaeger too, for those who would rather look there.

use std::net::{SocketAddr, ToSocketAddrs};

use envoy_test_harness::client::Request;
use envoy_test_harness::{Span, SpanKind};
use serde_json::{Value, json};

/// What an act is called in Jaeger: a tag of the services.
const ACT: &str = "demo.act";

/// A Jaeger that takes OTLP over HTTP.
#[derive(Debug)]
pub(crate) struct Jaeger {
    otlp: SocketAddr,
    page: Option<String>,
}

impl Jaeger {
    /// The one that `make demo JAEGER=…` names; `None` without it.
    pub(crate) fn from_env() -> Result<Option<Self>, String> {
        let Ok(otlp) = std::env::var("DEMO_JAEGER_OTLP") else {
            return Ok(None);
        };
        let mut addresses = otlp
            .to_socket_addrs()
            .map_err(|error| format!("Jaeger's address {otlp}: {error}"))?;
        let otlp = addresses
            .next()
            .ok_or_else(|| format!("Jaeger's name {otlp} has no address"))?;
        let page = std::env::var("DEMO_JAEGER_PAGE").ok();
        Ok(Some(Self { otlp, page }))
    }

    /// Where people look, if it goes on behind the demo.
    pub(crate) fn page(&self) -> Option<&str> {
        self.page.as_deref()
    }

    /// Sends it the spans of an act.
    pub(crate) fn send(&self, act: &str, spans: &[Span]) -> Result<(), String> {
        let request = Request::post("/v1/traces", export(act, spans).to_string())
            .header("content-type", "application/json");
        let response = request
            .send(self.otlp)
            .map_err(|error| format!("no Jaeger takes OTLP at {}: {error}", self.otlp))?;
        match response.status {
            200 => Ok(()),
            status => Err(format!(
                "Jaeger answered with {status}: {}",
                response.text()
            )),
        }
    }
}

/// The spans as OTLP's JSON.
fn export(act: &str, spans: &[Span]) -> Value {
    let resources: Vec<_> = spans
        .iter()
        .map(|span| {
            let resource = span
                .resource
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()));
            json!({
                "resource": {"attributes": attributes(resource.chain([(ACT, act)]))},
                "scopeSpans": [{"spans": [one(span)]}],
            })
        })
        .collect();
    json!({"resourceSpans": resources})
}

fn one(span: &Span) -> Value {
    let kind = match span.kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    json!({
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id.as_deref().unwrap_or_default(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": span.start_unix_nanos.to_string(),
        "endTimeUnixNano": span.end_unix_nanos.to_string(),
        "traceState": span.trace_state,
        "attributes": attributes(span.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        "status": {"code": if span.status_error { 2 } else { 0 }},
    })
}

fn attributes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Value> {
    pairs
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_has_what_the_span_has() {
        let span = Span {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            parent_span_id: Some("53995c3f42cd8ad8".to_owned()),
            name: "GET".to_owned(),
            kind: SpanKind::Client,
            start_unix_nanos: 1,
            end_unix_nanos: u64::MAX,
            attributes: [("url.path".to_owned(), "/".to_owned())].into(),
            resource: [("service.name".to_owned(), "shop".to_owned())].into(),
            status_error: true,
            ..Span::default()
        };
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": [text("service.name", "shop"), text(ACT, "1: one")]},
            "scopeSpans": [{"spans": [{
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "spanId": "00f067aa0ba902b7",
                "parentSpanId": "53995c3f42cd8ad8",
                "name": "GET",
                "kind": 3,
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "18446744073709551615",
                "traceState": "",
                "attributes": [text("url.path", "/")],
                "status": {"code": 2},
            }]}],
        }]});
        assert_eq!(export("1: one", &[span]), expected);
        assert_eq!(export("1: one", &[]), json!({"resourceSpans": []}));
    }
}
