//! The answer to a request, as the layer below waits for it: mostly it is there at once.
//!
//! What makes an answer takes 4 KiB while it may wait, and that layer has a place of that size for each connection, or makes
//! one for each stream, and moves it there. So it is put where the last one was (the allocator hands out what was freed last),
//! polled once, and freed; what the layer below gets is the answer itself. Over a thousand connections, each with a place of
//! its own, there would be 4 MiB of them, which no core has near.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::body::EdgeBody;
use crate::executor::poll_in_place;

type Answer = Response<EdgeBody>;

/// An answer, or what makes it.
pub(crate) enum Answering {
    /// Made; nothing when it was taken.
    Done(Option<Answer>),
    /// Something is waited for.
    Waiting(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Answering {
    /// Begins to answer. `answer` must be polled again where it is not done.
    pub(crate) fn begin(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        let mut answer = Box::pin(answer);
        match poll_in_place(answer.as_mut()) {
            Poll::Ready(answer) => Self::Done(Some(answer)),
            Poll::Pending => Self::Waiting(answer),
        }
    }
}

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(answer) => Poll::Ready(Ok(answer.take().expect("an answer is taken once"))),
            Self::Waiting(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}
