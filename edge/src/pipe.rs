//! A connection in memory, for tests and fuzz targets: who polls it sees what is there, and is never woken.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::outgoing::WriteStored;
use crate::splice::Part;

/// Polls that somebody may be woken for before it comes to rest.
const POLLS: usize = 10_000;

/// Whether somebody was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Polls once, and again only where somebody is woken, as in a task.
pub(crate) fn poll_to_rest<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..POLLS {
        let polled = poll(&mut Context::from_waker(&waker));
        if polled.is_ready() || !woken.0.swap(false, SeqCst) {
            return polled;
        }
    }
    panic!("it does not come to rest");
}

/// Both directions of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe(pub(crate) Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) to_server: VecDeque<u8>,
    pub(crate) to_client: Vec<u8>,
    /// What one read takes at most, where not all.
    pub(crate) at_once: Option<usize>,
    /// What one write takes at most, where not all.
    pub(crate) taken_at_once: Option<usize>,
    /// Whether the client takes nothing.
    pub(crate) is_blocked: bool,
    /// The client has closed its side.
    pub(crate) is_closed: bool,
    /// The server has closed its side.
    pub(crate) is_shut: bool,
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.lock();
        if ends.to_server.is_empty() {
            return if ends.is_closed { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let most = ends.at_once.unwrap_or(usize::MAX).min(buf.remaining()).min(ends.to_server.len());
        let bytes: Vec<u8> = ends.to_server.drain(..most).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.lock();
        if ends.is_blocked {
            return Poll::Pending;
        }
        let taken = buf.len().min(ends.taken_at_once.unwrap_or(usize::MAX));
        ends.to_client.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().is_shut = true;
        Poll::Ready(Ok(()))
    }
}

impl WriteStored for Pipe {
    fn poll_write_stored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[Part<'_>]) -> Poll<io::Result<usize>> {
        let most = self.0.lock().taken_at_once.unwrap_or(usize::MAX);
        let first: Vec<u8> = parts.iter().flat_map(Part::bytes).take(most).copied().collect();
        self.poll_write(cx, &first)
    }
}
