//! An HTTP server that records every request as it came in.

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

/// A server on a free port of 127.0.0.1 that speaks HTTP/1.1 and HTTP/2 without TLS. It ends when
/// dropped.
///
/// It answers 200 with an empty body until [`Upstream::respond_with`] sets another answer.
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

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the answer to every request from now on. The responder is called once for each request,
    /// after the request was recorded.
    ///
    /// A responder that panics ends the connection of the request.
    pub fn respond_with(
        &self,
        responder: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) {
        *sync::lock(&self.shared.responder) = Responder(Arc::new(responder));
    }

    /// The requests until now, in the order of their arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.all()
    }

    /// The requests until now. They are removed from the record.
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

/// A port of 127.0.0.1 that refuses connections as long as the value lives, like a server that is
/// down.
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

    /// The address, on which no server listens.
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
    /// The protocol of the request.
    pub protocol: Protocol,
    /// The lines in order, with repeats. Over HTTP/2 names repeat only beside each other, and
    /// `:authority` is `host`.
    pub headers: Vec<Header>,
    /// The body. Its chunks are joined.
    pub body: Vec<u8>,
}

impl RecordedRequest {
    /// The first value of the header `name`. Names are compared without case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        http1::first(&self.headers, name)
    }

    /// Every value of the header `name`, in order.
    pub fn header_values(&self, name: &str) -> Vec<&[u8]> {
        http1::all(&self.headers, name).collect()
    }

    /// The first value of the header `name` as text, with U+FFFD for bytes that are not UTF-8.
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.header(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// The protocol of a request.
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
    // This set is dropped with the task, and the open connections are dropped with the set.
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
    // An error here changes only the latency.
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
        // A peek returns at once again while the first bytes stay unread.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a tunnel stays open before the server closes it.
const TUNNEL_TIME: Duration = Duration::from_millis(100);
