//! Connections of HTTP/1.1.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::reply::Afterwards;
use super::{Protocol, RecordedRequest, Shared, TUNNEL_TIME};
use crate::http1::{self, Framing};

pub(super) async fn serve_http1(mut stream: TcpStream, shared: Arc<Shared>) {
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
            // The time is long enough for the peer to see the open tunnel.
            tokio::time::sleep(TUNNEL_TIME).await;
            return;
        }
        if reply.connection == Afterwards::Close || !keep_alive {
            return;
        }
    }
}

/// Reads a request. `None` at the end of the connection, and for bytes that are not HTTP: nothing
/// can be read after them.
pub(super) async fn read_request(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
) -> Option<RecordedRequest> {
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

pub(super) fn parse_head(unread: &mut Vec<u8>) -> Result<Option<RecordedRequest>, httparse::Error> {
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

pub(super) async fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(unread).await.ok()?;
    (read > 0).then_some(())
}
