//! Connections of HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::reply::Afterwards;
use super::{Protocol, RecordedRequest, Shared, TUNNEL_TIME};
use crate::frames::{End, Frames, StreamReset};
use crate::http1::Header;

pub(super) async fn serve_http2(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer_http2(request, Arc::clone(&shared)));
    // A peer that closes the connection is not an error for the test.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HTTP2_HEADER_BYTES)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

pub(super) async fn answer_http2(
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

pub(super) async fn run_tunnel(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    bytes: &[u8],
    connection: Afterwards,
) {
    if stream.write_all(bytes).await.is_err() {
        return;
    }
    if connection == Afterwards::Close {
        tokio::time::sleep(TUNNEL_TIME).await;
        // The peer may have closed the connection before.
        let _ = stream.shutdown().await;
    }
    let mut rest = Vec::new();
    // The peer may also have closed the connection here.
    let _ = stream.read_to_end(&mut rest).await;
}

pub(super) const MAX_HTTP2_HEADER_BYTES: u32 = 1024 * 1024;
