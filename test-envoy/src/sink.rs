//! The parts that both sinks use: the list of spans, and the faults that a test sets.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::body::Body;

use crate::sync::{self, Recorder, Task};
use crate::{Error, Span, http1};

/// What a sink does with the following exports, instead of accepting them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    status: Option<u16>,
    delay: Duration,
}

impl Fault {
    /// Refuses every export with this HTTP status. Over gRPC it uses the corresponding code (429
    /// and 502 to 504 are `UNAVAILABLE`, 401 and 403 have their own, any other is `INTERNAL`).
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            delay: Duration::ZERO,
        }
    }

    /// Accepts every export, and answers only after this time.
    pub fn delay(delay: Duration) -> Self {
        Self {
            status: None,
            delay,
        }
    }

    /// Answers only after this time.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// One export request, accepted or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Export {
    /// The path of the request.
    pub path: String,
    /// The headers, grouped by name. `:authority` becomes `host`.
    pub headers: Vec<http1::Header>,
    /// The number of spans in the request.
    pub spans: usize,
    /// Whether a [`Fault`] refused the request. The spans of a refused request are not kept.
    pub refused: bool,
}

impl Export {
    /// The first value of the header `name` as text, with U+FFFD for bytes that are not UTF-8.
    pub fn header_text(&self, name: &str) -> Option<String> {
        http1::first(&self.headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// The exports that a sink received, and the fault that it answers with.
#[derive(Debug, Default)]
pub struct Sink {
    spans: Recorder<Span>,
    exports: Recorder<Export>,
    fault: Mutex<Fault>,
}

impl Sink {
    /// The spans until now, in the order of their arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.all()
    }

    /// The export requests until now, also the refused ones.
    pub fn exports(&self) -> Vec<Export> {
        self.exports.all()
    }

    /// Sets the answer to exports from now on. `None` accepts them all at once.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *sync::lock(&self.fault) = fault.unwrap_or_default();
    }

    /// Stores the spans unless they must be refused, and returns the status of a refusal.
    pub(crate) async fn receive(
        &self,
        path: &str,
        headers: &http::HeaderMap,
        authority: Option<&str>,
        spans: Vec<Span>,
    ) -> Result<(), u16> {
        let fault = *sync::lock(&self.fault);
        let mut lines: Vec<http1::Header> = authority
            .map(|authority| (b"host".to_vec(), authority.into()))
            .into_iter()
            .collect();
        lines.extend(
            headers
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())),
        );
        self.exports.extend([Export {
            path: path.to_owned(),
            headers: lines,
            spans: spans.len(),
            refused: fault.status.is_some(),
        }]);
        if fault.status.is_none() {
            self.spans.extend(spans);
        }
        tokio::time::sleep(fault.delay).await;
        fault.status.map_or(Ok(()), Err)
    }

    /// Waits until there are at least `count` spans, and returns all there are.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT), with what arrived instead.
    pub fn wait_for_spans(&self, count: usize) -> Result<Vec<Span>, Error> {
        self.spans.wait_until(
            || format!("{count} spans"),
            |spans| (spans.len() >= count).then(|| spans.to_vec()),
            describe,
        )
    }

    /// Waits until there are at least `count` spans of one trace (32 hexadecimal digits), and
    /// returns those.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT), with what arrived instead.
    pub fn wait_for_trace(&self, trace_id: &str, count: usize) -> Result<Vec<Span>, Error> {
        self.spans.wait_until(
            || format!("{count} spans of the trace {trace_id}"),
            |spans| {
                let of_trace: Vec<_> = spans
                    .iter()
                    .filter(|span| span.trace_id == trace_id)
                    .cloned()
                    .collect();
                (of_trace.len() >= count).then_some(of_trace)
            },
            describe,
        )
    }

    /// Waits until there are at least `count` export requests, refused ones too, and returns all
    /// there are.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT).
    pub fn wait_for_exports(&self, count: usize) -> Result<Vec<Export>, Error> {
        self.exports.wait_until(
            || format!("{count} export requests"),
            |exports| (exports.len() >= count).then(|| exports.to_vec()),
            |exports| format!("there are {}", exports.len()),
        )
    }

    /// Removes the spans and the export requests.
    pub fn clear(&self) {
        self.spans.take();
        self.exports.take();
    }
}

fn describe(spans: &[Span]) -> String {
    let listed: Vec<_> = spans
        .iter()
        .take(20)
        .map(|span| format!("{}/{} {:?}", span.trace_id, span.span_id, span.name))
        .collect();
    format!("there are {}: {}", spans.len(), listed.join(", "))
}

/// Serves HTTP/1.1 and HTTP/2 on one port.
pub(crate) fn serve<H, F>(listener: TcpListener, handler: H) -> Result<Task, Error>
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    Task::spawn(async move {
        // This set is dropped with the task, and the open connections are dropped with the set.
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let handler = handler.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async { Ok::<_, Infallible>(answer.await) }
                });
                // A peer that closes the connection is not an error for the test.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

/// Reads the whole body, and unpacks it where `content-encoding` is gzip.
pub(crate) async fn read_body(headers: &http::HeaderMap, body: Incoming) -> Result<Vec<u8>, u16> {
    let body = body.collect().await.map_err(|_| 400_u16)?.to_bytes();
    match headers.get(http::header::CONTENT_ENCODING) {
        None => Ok(body.to_vec()),
        Some(coding) if coding == "gzip" => {
            let mut plain = Vec::new();
            GzDecoder::new(body.as_ref())
                .read_to_end(&mut plain)
                .map_err(|_| 400_u16)?;
            Ok(plain)
        }
        Some(_) => Err(415),
    }
}

pub(crate) fn respond(
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Full::from(body)));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    response
}
