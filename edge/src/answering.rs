//! The answer to a request, as the layer below waits for it: mostly it is there at once.
//!
//! What makes an answer takes 4 KiB while it may wait, and that layer has a place of that size for each connection, or makes
//! one for each stream, and moves it there. So it is put where the last one was (the allocator hands out what was freed last),
//! polled once, and freed; what the layer below gets is the answer itself. Over a thousand connections, each with a place of
//! its own, there would be 4 MiB of them, which no core has near.

use std::any::Any;
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::body::EdgeBody;
use crate::guard::poll_caught;

type Answer = Response<EdgeBody>;

/// An answer, or what makes it.
pub(crate) enum Answering {
    /// Made; nothing when it was taken.
    Done(Option<Answer>),
    /// Something is waited for.
    Waiting(Pin<Box<dyn Future<Output = Answer> + Send>>),
    /// Given up by a panic, which goes on where the answer is waited for: with other streams of the connection it has
    /// nothing to do.
    Panicked(Option<Box<dyn Any + Send>>),
}

impl Answering {
    /// Begins to answer. `answer` must be polled again where it is not done.
    pub(crate) fn begin(answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        let mut answer = Box::pin(answer);
        match poll_caught(answer.as_mut()) {
            Ok(Poll::Ready(answer)) => Self::Done(Some(answer)),
            Ok(Poll::Pending) => Self::Waiting(answer),
            Err(panic) => Self::Panicked(Some(panic)),
        }
    }
}

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(answer) => Poll::Ready(Ok(answer.take().expect("an answer is taken once"))),
            Self::Waiting(answer) => answer.as_mut().poll(cx).map(Ok),
            Self::Panicked(panic) => resume_unwind(panic.take().expect("who panicked is not polled again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::poll_guarded;

    #[test]
    fn a_panic_waits_for_who_waits_for_the_answer() {
        let mut answering = Answering::begin(async { panic!("on purpose") });
        assert!(poll_guarded(Pin::new(&mut answering), "an answer").is_none());
    }
}
