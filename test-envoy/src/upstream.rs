//! An HTTP server that keeps every request as it came in.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::Error;
use crate::frames::{End, Frames, StreamReset};
use crate::http1::{self, Framing, Header};
use crate::sync::{self, Recorder, Task};

/// A server on a free port of 127.0.0.1 that speaks HTTP/1.1 and HTTP/2 without TLS; it ends when dropped.
///
/// It answers 200 with an empty body until [`Upstream::respond_with`] says otherwise.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Task,
}

impl Upstream {
    /// Starts the server.
    ///
    /// # Errors
    /// [`Error::Io`] when no port can be bound.
    pub fn start() -> Result<Self, Error> {
        let (listener, address) = sync::bind()?;
        let shared = Arc::new(Shared::default());
        let server = Task::spawn(accept(listener, Arc::clone(&shared)))?;
        Ok(Self {
            address,
            shared,
            _server: server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Decides the answer to every request from now on; called once a request, after it was recorded.
    ///
    /// A responder that panics ends the request's connection.
    pub fn respond_with(
        &self,
        responder: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) {
        *sync::lock(&self.shared.responder) = Responder(Arc::new(responder));
    }

    /// The requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.all()
    }

    /// The requests so far, which are forgotten.
    pub fn take(&self) -> Vec<RecordedRequest> {
        self.shared.requests.take()
    }

    /// Waits until there are at least `count` requests, and returns all there are.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after [`WAIT_LIMIT`](crate::WAIT_LIMIT).
    pub fn wait_for_requests(&self, count: usize) -> Result<Vec<RecordedRequest>, Error> {
        self.shared.requests.wait_until(
            || format!("{count} requests at the upstream"),
            |requests| (requests.len() >= count).then(|| requests.to_vec()),
            |requests| format!("there are {}", requests.len()),
        )
    }
}

/// A port of 127.0.0.1 that refuses connections for as long as the value lives, as a server that is down does.
#[derive(Debug)]
pub struct ClosedPort {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl ClosedPort {
    /// Takes a free port and does not listen on it.
    ///
    /// # Errors
    /// [`Error::Io`] when no port can be bound.
    pub fn reserve() -> Result<Self, Error> {
        let _context = sync::runtime()?.enter();
        let bound = || -> std::io::Result<Self> {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            Ok(Self {
                address: socket.local_addr()?,
                _bound: socket,
            })
        };
        bound().map_err(Error::io("bind a port on 127.0.0.1"))
    }

    /// Where nobody listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A request as the upstream received it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The request target with its query.
    pub path: String,
    /// The protocol it came over.
    pub protocol: Protocol,
    /// The lines in order, with repeats. Over HTTP/2 names repeat only beside each other, and `:authority` is `host`.
    pub headers: Vec<Header>,
    /// The body, with chunks already joined.
    pub body: Vec<u8>,
}

impl RecordedRequest {
    /// The first value of the name, which is compared without case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        http1::first(&self.headers, name)
    }

    /// Every value of the name, in order.
    pub fn header_values(&self, name: &str) -> Vec<&[u8]> {
        http1::all(&self.headers, name).collect()
    }

    /// The first value of the name as text, with U+FFFD for what is not UTF-8.
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.header(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// What a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (or 1.0).
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// An answer of the upstream.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
    trailers: Vec<Header>,
    delay: Duration,
    connection: Afterwards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Keep,
    Close,
    Reset,
    Cut,
    Stall,
}

impl Reply {
    /// 200 with an empty body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Any final status code with an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            delay: Duration::ZERO,
            connection: Afterwards::Keep,
        }
    }

    /// No answer: the connection (over HTTP/2 the stream) ends instead, which Envoy sees as a reset.
    pub fn reset() -> Self {
        Self {
            connection: Afterwards::Reset,
            ..Self::ok()
        }
    }

    /// Adds a header line; over HTTP/2, one that HTTP/2 does not allow is left out.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The body; its length is announced.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer line over HTTP/2; no effect over HTTP/1.1.
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Ends the connection (over HTTP/2 the stream) after the body, of which more was announced.
    pub fn cut(mut self) -> Self {
        self.connection = Afterwards::Cut;
        self
    }

    /// Sends nothing after the body, of which more was announced, until the peer goes away.
    pub fn stall(mut self) -> Self {
        self.connection = Afterwards::Stall;
        self
    }

    /// Waits before the answer, or before the reset.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the answer, announced by `connection: close`; over HTTP/2 only a tunnel.
    ///
    /// A tunnel is 101, or 2xx for CONNECT: its end is the connection's. Without this it stays open until the peer
    /// closes it.
    pub fn close(mut self) -> Self {
        self.connection = Afterwards::Close;
        self
    }

    /// Whether the answer opens a tunnel.
    fn is_tunnel(&self, method: &str) -> bool {
        self.status == 101 || (method == "CONNECT" && (200..300).contains(&self.status))
    }

    fn is_partial(&self) -> bool {
        matches!(self.connection, Afterwards::Cut | Afterwards::Stall)
    }

    fn encode(&self, is_tunnel: bool) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} \r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if !is_tunnel && !matches!(self.status, 100..=199 | 204 | 304) {
            let missing = usize::from(self.is_partial());
            let length = self.body.len() + missing;
            bytes.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        if !is_tunnel && self.connection == Afterwards::Close {
            bytes.extend_from_slice(b"connection: close\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[derive(Debug, Default)]
struct Shared {
    requests: Recorder<RecordedRequest>,
    responder: Mutex<Responder>,
}

impl Shared {
    fn record(&self, request: RecordedRequest) -> Reply {
        let responder = sync::lock(&self.responder).0.clone();
        self.requests.extend([request.clone()]);
        responder(&request)
    }
}

struct Responder(Arc<dyn Fn(&RecordedRequest) -> Reply + Send + Sync>);

impl Default for Responder {
    fn default() -> Self {
        Self(Arc::new(|_| Reply::ok()))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the open connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Only latency depends on it.
    let _ = stream.set_nodelay(true);
    match speaks_http2(&stream).await {
        true => serve_http2(stream, shared).await,
        false => serve_http1(stream, shared).await,
    }
}

async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut start = [0; HTTP2_PREFACE.len()];
    loop {
        let Ok(seen) = stream.peek(&mut start).await else {
            return false;
        };
        if seen == 0 || !HTTP2_PREFACE.starts_with(&start[..seen]) {
            return false;
        }
        if seen == HTTP2_PREFACE.len() {
            return true;
        }
        // Peeking is ready again at once while the first bytes stay unread.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn serve_http1(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut unread).await {
        let keep_alive = !http1::all(&request.headers, "connection")
            .any(|value| value.eq_ignore_ascii_case(b"close"));
        let method = request.method.clone();
        let reply = shared.record(request);
        let is_tunnel = reply.is_tunnel(&method);
        tokio::time::sleep(reply.delay).await;
        if reply.connection == Afterwards::Reset {
            return;
        }
        if stream.write_all(&reply.encode(is_tunnel)).await.is_err() {
            return;
        }
        if reply.connection == Afterwards::Cut {
            return;
        }
        if reply.connection == Afterwards::Stall
            || (is_tunnel && reply.connection != Afterwards::Close)
        {
            while fill(&mut stream, &mut unread).await.is_some() {}
            return;
        }
        if is_tunnel {
            // Long enough for the peer to see the tunnel open.
            tokio::time::sleep(TUNNEL_TIME).await;
            return;
        }
        if reply.connection == Afterwards::Close || !keep_alive {
            return;
        }
    }
}

/// `None` at the end of the connection, and for bytes that are not HTTP, after which nothing can be read.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<RecordedRequest> {
    let mut request = loop {
        if let Some(request) = parse_head(unread).ok()? {
            break request;
        }
        fill(stream, unread).await?;
    };
    let framing = Framing::of(&request.headers)
        .ok()?
        .unwrap_or(Framing::Length(0));
    loop {
        if let Some(body) = framing.take(unread, false).ok()? {
            request.body = body;
            return Some(request);
        }
        fill(stream, unread).await?;
    }
}

fn parse_head(unread: &mut Vec<u8>) -> Result<Option<RecordedRequest>, httparse::Error> {
    let parsed = http1::with_header_room(unread, |bytes, lines| {
        let mut request = httparse::Request::new(lines);
        let httparse::Status::Complete(length) = request.parse(bytes)? else {
            return Ok(None);
        };
        let request = RecordedRequest {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            protocol: Protocol::Http1,
            headers: http1::owned(request.headers),
            body: Vec::new(),
        };
        Ok(Some((length, request)))
    })?;
    let Some((length, request)) = parsed else {
        return Ok(None);
    };
    unread.drain(..length);
    Ok(Some(request))
}

async fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(unread).await.ok()?;
    (read > 0).then_some(())
}

async fn serve_http2(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer_http2(request, Arc::clone(&shared)));
    // A peer that goes away is no concern of the test.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HTTP2_HEADER_BYTES)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer_http2(
    mut request: http::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<http::Response<Frames>, StreamReset> {
    let is_connect = request.method() == http::Method::CONNECT;
    let upgraded = is_connect.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let mut headers: Vec<Header> = Vec::new();
    if let Some(authority) = head.uri.authority() {
        headers.push((b"host".to_vec(), authority.as_str().into()));
    }
    headers.extend(
        head.headers
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())),
    );
    let body = match is_connect {
        true => Bytes::new(),
        false => body.collect().await.map_err(|_| StreamReset)?.to_bytes(),
    };
    let reply = shared.record(RecordedRequest {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        protocol: Protocol::Http2,
        headers,
        body: body.to_vec(),
    });
    tokio::time::sleep(reply.delay).await;
    if reply.connection == Afterwards::Reset {
        return Err(StreamReset);
    }

    let mut response = http::Response::new(Frames::default());
    match upgraded {
        Some(upgraded) if reply.is_tunnel("CONNECT") => {
            let (bytes, connection) = (reply.body, reply.connection);
            tokio::spawn(async move {
                if let Ok(stream) = upgraded.await {
                    run_tunnel(TokioIo::new(stream), &bytes, connection).await;
                }
            });
        }
        _ => {
            let end = match reply.connection {
                Afterwards::Cut => End::Cut(TUNNEL_TIME),
                Afterwards::Stall => End::Stall,
                _ => End::Whole,
            };
            *response.body_mut() = Frames::new(&reply.body, &reply.trailers, end)?;
        }
    }
    *response.status_mut() = http::StatusCode::from_u16(reply.status).map_err(|_| StreamReset)?;
    for (name, value) in &reply.headers {
        let name = http::HeaderName::from_bytes(name);
        let value = http::HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

async fn run_tunnel(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    bytes: &[u8],
    connection: Afterwards,
) {
    if stream.write_all(bytes).await.is_err() {
        return;
    }
    if connection == Afterwards::Close {
        tokio::time::sleep(TUNNEL_TIME).await;
        // The peer may have gone first.
        let _ = stream.shutdown().await;
    }
    let mut rest = Vec::new();
    // So may it here.
    let _ = stream.read_to_end(&mut rest).await;
}

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a tunnel stays open that the server closes.
const TUNNEL_TIME: Duration = Duration::from_millis(100);
const MAX_HTTP2_HEADER_BYTES: u32 = 1024 * 1024;
