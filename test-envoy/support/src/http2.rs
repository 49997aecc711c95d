//! A client of HTTP/2 with prior knowledge, whose header values may begin and end with spaces.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::common;

/// What came back: the status, the headers and the body; `None` where the stream or the connection
/// was closed.
pub type Answer = Option<(u16, http::HeaderMap, Vec<u8>)>;

/// One connection, opened anew where the peer has closed it.
#[derive(Debug)]
pub struct Client {
    runtime: Arc<Runtime>,
    peer: SocketAddr,
    sender: Option<http2::SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// A client of `peer`, not yet connected.
    pub fn new(peer: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            runtime: Arc::new(runtime),
            peer,
            sender: None,
        }
    }

    /// Sends one request without a body, and waits for all of its answer.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(Vec<u8>, Vec<u8>)]) -> Answer {
        let request = request(method, path, headers);
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(async {
            let sender = self.connected().await;
            within_a_minute(async {
                sender.ready().await.ok()?;
                let response = sender.send_request(request).await.ok()?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.ok()?.to_bytes().to_vec();
                Some((head.status.as_u16(), head.headers, body))
            })
            .await
        })
    }

    /// Sends one request without a body, and returns the body of its answer, of which one frame has
    /// come. Dropping the body resets the stream; dropping the client closes the connection.
    pub fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Incoming {
        let headers = headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let request = request(method, path, &headers);
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(async {
            let sender = self.connected().await;
            within_a_minute(async {
                sender.ready().await.expect("a connection");
                let response = sender.send_request(request).await.expect("an answer");
                let mut body = response.into_body();
                body.frame().await.expect("a frame").expect("a whole one");
                body
            })
            .await
        })
    }

    /// The connection, opened where there is none.
    async fn connected(&mut self) -> &mut http2::SendRequest<Empty<Bytes>> {
        let usable = self.sender.take().filter(|sender| !sender.is_closed());
        let sender = match usable {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.peer).await.expect("a connection");
                let io = TokioIo::new(stream);
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .handshake(io)
                    .await
                    .expect("HTTP/2");
                tokio::spawn(connection);
                sender
            }
        };
        self.sender.insert(sender)
    }
}

fn request(
    method: &str,
    path: &str,
    headers: &[(Vec<u8>, Vec<u8>)],
) -> http::Request<Empty<Bytes>> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(name.as_slice(), value.as_slice())
    });
    request.body(Empty::new()).expect("a request of HTTP/2")
}

async fn within_a_minute<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, work)
        .await
        .expect("an answer in a minute")
}

/// Sends a request for `/` with these header lines over both versions of HTTP, one after the other,
/// and returns the statuses.
pub fn over_both(peer: SocketAddr, headers: &[(&str, &str)]) -> [(&'static str, u16); 2] {
    let first = common::get(headers).send(peer).expect("a response");
    let lines =
        |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let lines: Vec<_> = headers.iter().map(lines).collect();
    let (second, ..) = Client::new(peer)
        .send("GET", "/", &lines)
        .expect("an answer");
    [("HTTP/1.1", first.status), ("HTTP/2", second)]
}
