//! A Zipkin collector for tests: it receives spans over its JSON API and stores them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use hyper::body::Incoming;
use serde_json::Value;
use tonic::body::Body;

use crate::sink::{self, Sink};
use crate::sync::{self, Task};
use crate::{Error, Span, SpanKind};

/// A server for `POST /api/v2/spans` in JSON, plain or gzip. It ends when dropped.
#[derive(Debug)]
pub struct ZipkinSink {
    address: SocketAddr,
    sink: Arc<Sink>,
    _server: Task,
}

impl ZipkinSink {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Io`] when no port can be bound.
    pub fn start() -> Result<Self, Error> {
        let (listener, address) = sync::bind()?;
        let sink = Arc::new(Sink::default());
        let shared = Arc::clone(&sink);
        let server = sink::serve(listener, move |request| {
            let sink = Arc::clone(&shared);
            async move { receive(&sink, request).await }
        })?;
        Ok(Self {
            address,
            sink,
            _server: server,
        })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Deref for ZipkinSink {
    type Target = Sink;

    fn deref(&self) -> &Sink {
        &self.sink
    }
}

async fn receive(sink: &Sink, request: http::Request<Incoming>) -> http::Response<Body> {
    // Zipkin answers 202, because the spans are stored later.
    let status = match receive_spans(sink, request).await {
        Ok(()) => 202,
        Err(status) => status,
    };
    sink::respond(status, "text/plain", Vec::new())
}

async fn receive_spans(sink: &Sink, request: http::Request<Incoming>) -> Result<(), u16> {
    let (head, body) = request.into_parts();
    if head.uri.path() != "/api/v2/spans" {
        return Err(404);
    }
    if head.method != http::Method::POST {
        return Err(405);
    }
    let body = sink::read_body(&head.headers, body).await?;
    let list: Vec<Value> = serde_json::from_slice(&body).map_err(|_| 400_u16)?;
    let spans = list
        .iter()
        .map(convert)
        .collect::<Option<Vec<_>>>()
        .ok_or(400_u16)?;
    let authority = head.uri.authority().map(ToString::to_string);
    sink.receive(head.uri.path(), &head.headers, authority.as_deref(), spans)
        .await
}

/// Converts a span. `None` for a value that is not a span, because its ids are missing.
fn convert(span: &Value) -> Option<Span> {
    let text = |key: &str| span.get(key).and_then(Value::as_str);
    let number = |key: &str| span.get(key).and_then(Value::as_u64).unwrap_or_default();
    let service = span
        .pointer("/localEndpoint/serviceName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let attributes: BTreeMap<String, String> = span
        .get("tags")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let text = value.as_str().map(str::to_owned);
            (key.clone(), text.unwrap_or_else(|| value.to_string()))
        })
        .collect();
    let start = number("timestamp").saturating_mul(NANOS_PER_MICRO);
    Some(Span {
        trace_id: format!("{:0>32}", text("traceId")?),
        span_id: format!("{:0>16}", text("id")?),
        parent_span_id: text("parentId").map(|id| format!("{id:0>16}")),
        name: text("name").unwrap_or_default().to_owned(),
        kind: match text("kind") {
            Some("SERVER") => SpanKind::Server,
            Some("CLIENT") => SpanKind::Client,
            Some("PRODUCER") => SpanKind::Producer,
            Some("CONSUMER") => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        },
        resource: BTreeMap::from([("service.name".to_owned(), service.clone())]),
        service,
        start_unix_nanos: start,
        end_unix_nanos: start.saturating_add(number("duration").saturating_mul(NANOS_PER_MICRO)),
        status_error: attributes
            .get("error")
            .is_some_and(|value| value != "false"),
        attributes,
        trace_state: String::new(),
        shared: span
            .get("shared")
            .and_then(Value::as_bool)
            .unwrap_or_default(),
    })
}

const NANOS_PER_MICRO: u64 = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_ids_are_padded_and_micros_become_nanos() {
        let span = convert(&json!({
            "traceId": "463ac35c9f6413ad", "id": "a2fb4a1d1a96d312", "timestamp": 5, "duration": 2,
            "kind": "CLIENT", "tags": {"error": "true"}, "localEndpoint": {"serviceName": "shop"},
        }))
        .unwrap();
        assert_eq!(span.trace_id, "0000000000000000463ac35c9f6413ad");
        assert_eq!((span.start_unix_nanos, span.end_unix_nanos), (5_000, 7_000));
        assert_eq!(
            (span.kind, span.service.as_str()),
            (SpanKind::Client, "shop")
        );
        assert!(span.status_error);
        assert_eq!(span.parent_span_id, None);
    }

    #[test]
    fn a_span_without_ids_is_refused() {
        assert_eq!(convert(&json!({"name": "x"})), None);
    }
}
