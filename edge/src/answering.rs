//! The answer to a request, as a connection waits for it: mostly it is there at once.
//!
//! What makes an answer takes 4 KiB while it may wait. It is put where the last one was (the allocator hands out what was freed
//! last), polled once, and freed; what a connection gets is the answer itself. Over a thousand connections, each with a place of
//! its own for it, there would be 4 MiB of them, which no core has near.

use std::pin::Pin;
use std::task::Poll;

use crate::guard::poll_caught;
use crate::reply::Reply;

/// An answer, or what makes it.
pub(crate) enum Answering {
    /// Made.
    Done(Reply),
    /// Something is waited for.
    Waiting(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Given up by a panic, with which other requests of the connection have nothing to do.
    Panicked,
}

impl Answering {
    /// Begins to answer. `answer` must be polled again where it is not done.
    pub(crate) fn begin(answer: impl Future<Output = Reply> + Send + 'static) -> Self {
        let mut answer = Box::pin(answer);
        match poll_caught(answer.as_mut()) {
            Ok(Poll::Ready(answer)) => Self::Done(answer),
            Ok(Poll::Pending) => Self::Waiting(answer),
            Err(_) => Self::Panicked,
        }
    }
}
