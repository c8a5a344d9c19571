//! Where the streams of HTTP/2 run: within the task of their connection where that is enough, and else in their own.
//!
//! Most answers are ready at once. A task for each of them would cost memory, and one more turn of the runtime before
//! the connection could write them. So a stream is polled once where its request was read, and becomes a task only if
//! it has to wait.
//!
//! The layer above calls this between two requests of a connection, and holds no lock then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use hyper::rt::Executor;

/// Polls once in place, then spawns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InPlace;

impl<F> Executor<F> for InPlace
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // Whoever is told to wake nobody is told anew when the task polls, which it does at least once.
        if let Some(Poll::Pending) = poll_guarded(future.as_mut(), "a stream") {
            // It ends with its stream, and its stream with the connection.
            tokio::spawn(future);
        }
    }
}

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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::sync::{Notify, oneshot};

    fn tasks() -> usize {
        tokio::runtime::Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test]
    async fn what_is_ready_needs_no_task() {
        let (said, mut heard) = oneshot::channel();
        InPlace.execute(async move { said.send(7).unwrap() });
        assert_eq!(heard.try_recv(), Ok(7), "before anything else has its turn");
        assert_eq!(tasks(), 0);
    }

    #[tokio::test]
    async fn what_waits_goes_on_in_a_task() {
        let (go, turns) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (said, heard) = oneshot::channel();
        InPlace.execute({
            let (go, turns) = (Arc::clone(&go), Arc::clone(&turns));
            async move {
                for _ in 0..3 {
                    go.notified().await;
                    turns.fetch_add(1, SeqCst);
                }
                said.send(()).unwrap();
            }
        });
        assert_eq!((tasks(), turns.load(SeqCst)), (1, 0));
        // Comes between the poll in place and the first of the task.
        go.notify_one();
        tokio::task::yield_now().await;
        assert_eq!(turns.load(SeqCst), 1, "no wake-up is lost");
        for _ in 0..2 {
            go.notify_one();
            tokio::task::yield_now().await;
        }
        heard.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_stays_with_its_stream() {
        InPlace.execute(async { assert!(std::hint::black_box(false), "on purpose") });
        assert_eq!(tasks(), 0);
    }
}
