//! An HTTP server that keeps every request as it came in.

mod over_http1;
mod over_http2;
mod reply;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use self::over_http1::serve_http1;
use self::over_http2::serve_http2;
pub use self::reply::Reply;
use crate::Error;
use crate::http1::{self, Header};
use crate::sync::{self, Recorder, Task};

/// A server on a free port of 127.0.0.1 that speaks HTTP/1.1 and HTTP/2 without TLS; it ends when
/// dropped.
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

    /// Decides the answer to every request from now on; called once a request, after it was
    /// recorded.
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

/// A port of 127.0.0.1 that refuses connections for as long as the value lives, as a server that is
/// down does.
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
    /// The lines in order, with repeats. Over HTTP/2 names repeat only beside each other, and
    /// `:authority` is `host`.
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

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a tunnel stays open that the server closes.
const TUNNEL_TIME: Duration = Duration::from_millis(100);
