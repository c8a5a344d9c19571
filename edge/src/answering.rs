//! The answer to a request, as a connection waits for it: mostly it is there at once.
//!
//! Only an answer that has to wait for something is a future, which takes some KiB; all else is made without one.

use std::pin::Pin;
use std::task::Poll;

use crate::guard::{catch, poll_caught};
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
    /// What `begin` makes of a request.
    pub(crate) fn of(begin: impl FnOnce() -> Self) -> Self {
        catch(begin).unwrap_or(Self::Panicked)
    }

    /// Begins to wait for an answer. It must be polled again where it is not done.
    pub(crate) fn begin(answer: impl Future<Output = Reply> + Send + 'static) -> Self {
        let mut answer = Box::pin(answer);
        match poll_caught(answer.as_mut()) {
            Ok(Poll::Ready(answer)) => Self::Done(answer),
            Ok(Poll::Pending) => Self::Waiting(answer),
            Err(_) => Self::Panicked,
        }
    }
}
