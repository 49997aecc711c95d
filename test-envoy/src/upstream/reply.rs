//! The answers of an upstream.

use std::time::Duration;

use crate::http1::Header;

/// An answer of the upstream.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<Header>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<Header>,
    pub(super) delay: Duration,
    pub(super) connection: Afterwards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    Keep,
    Close,
    Reset,
    Cut,
    Stall,
}

impl Reply {
    /// Answers 200 with an empty body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Answers with any final status code and an empty body.
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

    /// Gives no answer: the connection (over HTTP/2 the stream) ends instead, which is a reset for
    /// Envoy.
    pub fn reset() -> Self {
        Self {
            connection: Afterwards::Reset,
            ..Self::ok()
        }
    }

    /// Adds a header line. Over HTTP/2 a line that HTTP/2 does not allow is left out.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body. The answer announces its length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer line over HTTP/2. It has no effect over HTTP/1.1.
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Ends the connection (over HTTP/2 the stream) after the body, although a longer body was
    /// announced.
    pub fn cut(mut self) -> Self {
        self.connection = Afterwards::Cut;
        self
    }

    /// Sends nothing after the body until the peer closes the connection, although a longer body
    /// was announced.
    pub fn stall(mut self) -> Self {
        self.connection = Afterwards::Stall;
        self
    }

    /// Waits before the answer, or before the reset.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the answer, and announces it by `connection: close`. Over HTTP/2
    /// it closes only a tunnel.
    ///
    /// A tunnel is 101, or 2xx for CONNECT. It ends with its connection. Without this call the
    /// tunnel stays open until the peer closes it.
    pub fn close(mut self) -> Self {
        self.connection = Afterwards::Close;
        self
    }

    /// Whether the answer opens a tunnel.
    pub(super) fn is_tunnel(&self, method: &str) -> bool {
        self.status == 101 || (method == "CONNECT" && (200..300).contains(&self.status))
    }

    pub(super) fn is_partial(&self) -> bool {
        matches!(self.connection, Afterwards::Cut | Afterwards::Stall)
    }

    pub(super) fn encode(&self, is_tunnel: bool) -> Vec<u8> {
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
