//! The body of a request, as whoever answers reads it: the same over either protocol.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::control::BoxError;
use crate::intake::Intake;

/// The length that a Content-Length says: digits and nothing else (RFC 9110 section 8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The body of a request.
///
/// It ends with an error where the client left before its end; a body is never taken for a shorter one.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Coming(Intake),
}

impl RequestBody {
    /// That of a request that has none.
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }
}

impl From<Intake> for RequestBody {
    fn from(body: Intake) -> Self {
        Self(Kind::Coming(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Coming(body) => body.poll_piece(cx).map(|piece| Some(piece?.map(Frame::data).map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Coming(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Coming(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
