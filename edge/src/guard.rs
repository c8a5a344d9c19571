//! Polls that are made before anybody waits, and panics that end no more than what panicked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

/// Polls for who waits not yet: it must be polled again, by the task that is to be woken, where it is not ready.
pub(crate) fn poll_in_place<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What one such poll came to, or the panic that it ended in. After a panic the future is only to be dropped.
pub(crate) fn poll_caught<F: Future>(future: Pin<&mut F>) -> thread::Result<Poll<F::Output>> {
    catch_unwind(AssertUnwindSafe(|| poll_in_place(future)))
}

/// What one such poll came to; nothing where `what` it is about panicked, which must end nothing else.
pub(crate) fn poll_guarded<F: Future>(future: Pin<&mut F>, what: &str) -> Option<Poll<F::Output>> {
    let polled = poll_caught(future);
    if polled.is_err() {
        tracing::error!("{what} was dropped because it panicked");
    }
    polled.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_what_panicked_and_nothing_else() {
        let panics = std::pin::pin!(async { assert!(std::hint::black_box(false), "on purpose") });
        assert!(poll_guarded(panics, "a test").is_none());
        assert_eq!(poll_guarded(std::pin::pin!(async { 7 }), "a test"), Some(Poll::Ready(7)));
        assert_eq!(poll_guarded(std::pin::pin!(std::future::pending::<()>()), "a test"), Some(Poll::Pending));
    }
}
