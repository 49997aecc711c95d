//! The body of an HTTP/2 response, with trailers, and with faults at its end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

use crate::http1::Header;

/// How a body ends.
pub(crate) enum End {
    Whole,
    /// The stream is reset after this time. A reset at once would lose the data that waits to be
    /// sent.
    Cut(Duration),
    Stall,
}

/// The frames of a response after its headers.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    cut: Option<Pin<Box<Sleep>>>,
    stalls: bool,
}

impl Frames {
    pub(crate) fn new(body: &[u8], trailers: &[Header], end: End) -> Result<Self, StreamReset> {
        let mut frames = VecDeque::new();
        if !body.is_empty() {
            frames.push_back(Frame::data(Bytes::copy_from_slice(body)));
        }
        if !trailers.is_empty() {
            let mut lines = http::HeaderMap::new();
            for (name, value) in trailers {
                let name = http::HeaderName::from_bytes(name).map_err(|_| StreamReset)?;
                let value = http::HeaderValue::from_bytes(value).map_err(|_| StreamReset)?;
                lines.append(name, value);
            }
            frames.push_back(Frame::trailers(lines));
        }
        let (cut, stalls) = match end {
            End::Whole => (None, false),
            End::Cut(time) => (Some(Box::pin(tokio::time::sleep(time))), false),
            End::Stall => (None, true),
        };
        Ok(Self {
            frames,
            cut,
            stalls,
        })
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = StreamReset;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamReset>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.stalls {
            return Poll::Pending;
        }
        match &mut self.cut {
            Some(cut) => cut.as_mut().poll(context).map(|()| Some(Err(StreamReset))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.cut.is_none() && !self.stalls
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the test asked for a reset")]
pub(crate) struct StreamReset;
