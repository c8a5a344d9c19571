//! Polls that are made before anybody waits, and panics that end no more than what panicked.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

/// Polls for who waits not yet: it must be polled again, by the task that is to be woken, where it is not ready.
pub(crate) fn poll_in_place<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What `work` came to, or the panic that it ended in. After a panic, what was worked at may be half done: nothing is to be made of
/// that, and a future is only to be dropped.
pub(crate) fn catch<R>(work: impl FnOnce() -> R) -> thread::Result<R> {
    catch_unwind(AssertUnwindSafe(work))
}

/// The same of a future that nobody waits for yet.
pub(crate) fn poll_caught<F: Future>(future: Pin<&mut F>) -> thread::Result<Poll<F::Output>> {
    catch(|| poll_in_place(future))
}

/// What a future comes to, or the panic that it ends in. It stays where it is: what is large is not to be moved for this.
pub(crate) async fn caught<F: Future>(mut future: Pin<&mut F>) -> thread::Result<F::Output> {
    poll_fn(|cx| match catch(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
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

    #[tokio::test]
    async fn a_panic_is_what_a_future_came_to() {
        let later = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "on purpose");
        };
        assert!(caught(std::pin::pin!(later)).await.is_err());
        assert!(matches!(caught(std::pin::pin!(async { 7 })).await, Ok(7)));
    }

    #[test]
    fn a_panic_ends_what_panicked_and_nothing_else() {
        let panics = std::pin::pin!(async { assert!(std::hint::black_box(false), "on purpose") });
        assert!(poll_guarded(panics, "a test").is_none());
        assert_eq!(poll_guarded(std::pin::pin!(async { 7 }), "a test"), Some(Poll::Ready(7)));
        assert_eq!(poll_guarded(std::pin::pin!(std::future::pending::<()>()), "a test"), Some(Poll::Pending));
    }
}
