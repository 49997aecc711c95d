//! Header lists and message bodies of HTTP/1.1, shared by the client and the upstream.

/// A name and a value, with exactly the bytes that were on the wire.
pub type Header = (Vec<u8>, Vec<u8>);

/// Gives a parser room for header lines. It begins with little, and gets more for a message that
/// needs it.
pub(crate) fn with_header_room<'b, R>(
    bytes: &'b [u8],
    parse: impl Fn(&'b [u8], &mut [httparse::Header<'b>]) -> Result<R, httparse::Error>,
) -> Result<R, httparse::Error> {
    match parse(bytes, &mut [httparse::EMPTY_HEADER; 64]) {
        Err(httparse::Error::TooManyHeaders) => {
            parse(bytes, &mut vec![httparse::EMPTY_HEADER; MAX_HEADER_LINES])
        }
        result => result,
    }
}

pub(crate) fn first<'a>(headers: &'a [Header], name: &str) -> Option<&'a [u8]> {
    all(headers, name).next()
}

pub(crate) fn all<'a>(headers: &'a [Header], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

pub(crate) fn owned(headers: &[httparse::Header<'_>]) -> Vec<Header> {
    headers
        .iter()
        .map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec()))
        .collect()
}

/// The way in which the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// The framing of a message; `None` where the headers have neither a length nor chunks.
    pub(crate) fn of(headers: &[Header]) -> Result<Option<Self>, String> {
        if let Some(coding) = first(headers, "transfer-encoding") {
            return match coding.eq_ignore_ascii_case(b"chunked") {
                true => Ok(Some(Self::Chunked)),
                false => Err(format!(
                    "unknown transfer-encoding {:?}",
                    String::from_utf8_lossy(coding)
                )),
            };
        }
        let Some(length) = first(headers, "content-length") else {
            return Ok(None);
        };
        std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(|length| Some(Self::Length(length)))
            .ok_or_else(|| "content-length is not a number".to_owned())
    }

    /// Removes a whole body from the beginning of `buffer`. `None` while bytes are missing.
    pub(crate) fn take(
        self,
        buffer: &mut Vec<u8>,
        closed: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Length(length) if buffer.len() < length => Ok(None),
            Self::Length(length) => Ok(Some(buffer.drain(..length).collect())),
            Self::UntilClose if closed => Ok(Some(std::mem::take(buffer))),
            Self::UntilClose => Ok(None),
            Self::Chunked => take_chunked(buffer),
        }
    }
}

fn take_chunked(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    let mut position = 0;
    loop {
        let rest = &buffer[position..];
        let (size_line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a chunk has no valid size".to_owned()),
        };
        if size == 0 {
            return Ok(trailers_end(&rest[size_line..]).map(|end| {
                buffer.drain(..position + size_line + end);
                body
            }));
        }
        let size = usize::try_from(size).map_err(|_| "a chunk is too large".to_owned())?;
        let after_data = size_line.saturating_add(size);
        // The chunk's data is followed by an empty line end.
        if rest.len() < after_data.saturating_add(2) {
            return Ok(None);
        }
        body.extend_from_slice(&rest[size_line..after_data]);
        position += after_data + 2;
    }
}

/// The length of the trailer section, with the empty line that closes it.
fn trailers_end(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\r\n") {
        return Some(2);
    }
    rest.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|position| position + 4)
}

const MAX_HEADER_LINES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_what_follows_stays() {
        let mut buffer = b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\nt: 1\r\n\r\nnext".to_vec();
        let body = Framing::Chunked.take(&mut buffer, false).unwrap();
        assert_eq!(body.as_deref(), Some(&b"abcde"[..]));
        assert_eq!(buffer, b"next");
    }

    #[test]
    fn an_unfinished_body_takes_nothing() {
        for (framing, bytes) in [
            (Framing::Chunked, &b"3\r\nab"[..]),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n"),
            (Framing::Length(4), b"abc"),
            (Framing::UntilClose, b"abc"),
        ] {
            let mut buffer = bytes.to_vec();
            assert_eq!(framing.take(&mut buffer, false), Ok(None));
            assert_eq!(buffer, bytes);
        }
    }

    #[test]
    fn a_bad_length_is_an_error() {
        let headers = [(b"Content-Length".to_vec(), b"four".to_vec())];
        assert!(Framing::of(&headers).is_err());
    }
}
