//! The answer to a call of the export.

use meshtrace_headers::Headers;
use meshtrace_otlp::{CallError, HttpCall, HttpCallResponse};

use crate::clock::SystemClock;
use crate::queue::Content;

/// An answer to a call, with its own memory.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    pub(crate) id: u64,
    pub(crate) is_stream: bool,
    /// The headers, as a block.
    headers: Vec<u8>,
    trailers: Vec<u8>,
    body: Vec<u8>,
}

/// The most bytes of an answer's body that are read: more than any answer of OTLP has.
const MAX_ANSWER: usize = 64 * 1024;

impl Landed {
    /// An empty answer to the call `id`.
    pub(crate) fn of_call(id: u64) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    pub(crate) fn set_headers(&mut self, block: Vec<u8>) {
        self.headers = block;
    }

    pub(crate) fn set_trailers(&mut self, block: Vec<u8>) {
        self.trailers = block;
    }

    /// Adds a part of the body, as far as there is room.
    pub(crate) fn append(&mut self, part: &[u8]) {
        let room = MAX_ANSWER.saturating_sub(self.body.len());
        let part = part.get(..room).unwrap_or(part);
        self.body.extend_from_slice(part);
    }

    /// Fills in the status of an answer of gRPC whose trailers are not told: an error comes in the
    /// headers, without a message.
    pub(crate) fn assume_status(&mut self) {
        let headers = Headers::parse(&self.headers).unwrap_or_default();
        if !self.body.is_empty() && !headers.contains(b"grpc-status") {
            self.trailers = meshtrace_headers::encode(&[(b"grpc-status", b"0")]);
        }
    }

    /// Gives the answer to the exporter of the call `token`.
    pub(crate) fn tell(
        &self,
        content: &mut Content,
        token: u32,
        dispatch: &mut dyn FnMut(&HttpCall<'_>) -> Result<u32, CallError>,
    ) {
        let answer = HttpCallResponse {
            headers: Headers::parse(&self.headers).unwrap_or_default(),
            body: &self.body,
            trailers: Headers::parse(&self.trailers).unwrap_or_default(),
            now: SystemClock.now(),
            wall: SystemClock.since_epoch(),
        };
        content
            .exporter
            .on_http_call_response(token, &answer, dispatch);
    }
}
