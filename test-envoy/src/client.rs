//! A raw HTTP/1.1 client: it sends exactly the bytes that a test sets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::http1::{self, Framing, Header};
use crate::{Error, WAIT_LIMIT};

/// A request. Its header lines are sent byte for byte and in order. They are not checked.
///
/// ```no_run
/// # fn main() -> Result<(), envoy_test_harness::Error> {
/// use envoy_test_harness::client::Request;
///
/// let address = ([127, 0, 0, 1], 8080).into();
/// let response = Request::get("/").header("x-bin", b"\xff\xfe").send(address)?;
/// assert_eq!(response.status, 200);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<Header>,
    body: Vec<u8>,
    default_host: bool,
}

impl Request {
    /// The header lines that were added, in order.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The path, with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A GET without a body. The path is sent as it is, with its query.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST. A `content-length` line is added for the body, unless the request has one.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", path).body(body)
    }

    /// A request with any method.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            default_host: true,
        }
    }

    /// Adds a header line after the others. It is not checked, folded or escaped.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the bytes after the header section.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Leaves out the `host` line, which is otherwise added where the request has none.
    pub fn without_host(mut self) -> Self {
        self.default_host = false;
        self
    }

    /// Sends the request over its own connection.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection fails or is silent for [`WAIT_LIMIT`], [`Error::Http`] when what comes
    /// back is not an HTTP/1.1 response.
    pub fn send(&self, address: SocketAddr) -> Result<Response, Error> {
        Connection::open(address)?.send(self)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let has = |name| http1::first(&self.headers, name).is_some();
        if self.default_host && !has("host") {
            bytes.extend_from_slice(b"host: localhost\r\n");
        }
        if !self.body.is_empty() && !has("content-length") && !has("transfer-encoding") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The lines in order, with repeats.
    pub headers: Vec<Header>,
    /// The body. Its chunks are joined.
    pub body: Vec<u8>,
}

impl Response {
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

    /// The body as text, with U+FFFD for bytes that are not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept open for many requests, one after the other.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Io`] when nobody listens there.
    pub fn open(peer: SocketAddr) -> Result<Self, Error> {
        let failed = || Error::io(format!("connect to {peer}"));
        let stream = TcpStream::connect_timeout(&peer, WAIT_LIMIT).map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        stream
            .set_read_timeout(Some(WAIT_LIMIT))
            .map_err(failed())?;
        Ok(Self {
            peer,
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends the request and reads the final response; informational ones (1xx but 101) are
    /// skipped.
    ///
    /// # Errors
    /// As [`Request::send`]. A connection that gave an error, or that the peer closes after a
    /// response, cannot be used again.
    pub fn send(&mut self, request: &Request) -> Result<Response, Error> {
        self.write(&request.encode())?;
        self.read_response(request.method == "HEAD")
    }

    /// Sends bytes as they are and reads one response, for requests that no [`Request`] can
    /// express.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<Response, Error> {
        self.write(bytes)?;
        self.read_response(bytes.starts_with(b"HEAD "))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            // A peer that refuses a request early stops reading. Its answer must still be read.
            Err(error) if is_reset(&error) => Ok(()),
            Err(error) => Err(Error::io(format!("send to {}", self.peer))(error)),
        }
    }

    fn read_response(&mut self, to_head: bool) -> Result<Response, Error> {
        loop {
            let (status, headers) = self.read_head()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = to_head || matches!(status, 101 | 204 | 304);
            let framing = match bodiless {
                true => Framing::Length(0),
                false => Framing::of(&headers)
                    .map_err(|reason| self.bad_http(reason))?
                    .unwrap_or(Framing::UntilClose),
            };
            let body = self.read_body(framing)?;
            return Ok(Response {
                status,
                headers,
                body,
            });
        }
    }

    fn read_head(&mut self) -> Result<(u16, Vec<Header>), Error> {
        loop {
            if let Some(head) = self.parse_head()? {
                return Ok(head);
            }
            if self.fill()? == 0 {
                return Err(
                    self.bad_http("the connection was closed before the response".to_owned())
                );
            }
        }
    }

    fn parse_head(&mut self) -> Result<Option<(u16, Vec<Header>)>, Error> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        let parsed = http1::with_header_room(&self.unread, |bytes, lines| {
            let mut response = httparse::Response::new(lines);
            let httparse::Status::Complete(length) = response.parse(bytes)? else {
                return Ok(None);
            };
            let status = response.code.unwrap_or_default();
            Ok(Some((length, status, http1::owned(response.headers))))
        })
        .map_err(|error| self.bad_http(error.to_string()))?;
        let Some((length, status, headers)) = parsed else {
            return Ok(None);
        };
        self.unread.drain(..length);
        Ok(Some((status, headers)))
    }

    fn read_body(&mut self, framing: Framing) -> Result<Vec<u8>, Error> {
        let mut closed = false;
        loop {
            let body = framing
                .take(&mut self.unread, closed)
                .map_err(|reason| self.bad_http(reason))?;
            if let Some(body) = body {
                return Ok(body);
            }
            if closed {
                return Err(self.bad_http("the connection was closed inside the body".to_owned()));
            }
            closed = self.fill()? == 0;
        }
    }

    fn fill(&mut self) -> Result<usize, Error> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                self.unread.extend_from_slice(&chunk[..read]);
                Ok(read)
            }
            Err(error) if is_reset(&error) => Ok(0),
            Err(error) => Err(Error::io(format!("read the response of {}", self.peer))(
                error,
            )),
        }
    }

    fn bad_http(&self, reason: String) -> Error {
        Error::Http {
            peer: self.peer,
            reason,
        }
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
    )
}
