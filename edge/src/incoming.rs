//! What a connection has read and not taken yet. Without memory while there is nothing, as most connections are idle most of the
//! time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::buffers;
use crate::connection::INPUT;

/// Bytes that are not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Those that are not taken begin at `at`.
    bytes: Vec<u8>,
    at: usize,
}

impl From<Vec<u8>> for Incoming {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Incoming {
    /// All of them.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// So many of them are taken.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.at += bytes;
        self.tidy();
    }

    /// Reads once, behind what is not taken; answers how many bytes.
    pub(crate) fn poll_read<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take(INPUT);
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let read = poll_read_buf(Pin::new(stream), cx, &mut self.bytes);
        self.tidy();
        read
    }

    /// Gives the memory back where all is taken.
    fn tidy(&mut self) {
        if self.is_empty() {
            buffers::give_back(std::mem::take(&mut self.bytes));
            self.at = 0;
        }
    }

    /// Bytes of memory that it has.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::Pipe;
    use std::task::Waker;

    #[test]
    fn what_is_taken_is_gone_and_the_rest_stays_in_its_order() {
        let mut before = Vec::with_capacity(INPUT);
        before.extend_from_slice(b"abc");
        let (mut incoming, mut pipe) = (Incoming::from(before), Pipe::default());
        let cx = &mut Context::from_waker(Waker::noop());
        incoming.take(1);
        assert_eq!(incoming.rest(), b"bc");
        assert!(incoming.poll_read(&mut pipe, cx).is_pending());
        assert_eq!(incoming.rest(), b"bc");
        pipe.0.lock().to_server.extend(b"defg");
        assert!(matches!(incoming.poll_read(&mut pipe, cx), Poll::Ready(Ok(4))));
        assert_eq!(incoming.rest(), b"bcdefg");
        incoming.take(6);
        assert!(incoming.is_empty());
        assert_eq!(incoming.memory(), 0);
        assert!(incoming.poll_read(&mut pipe, cx).is_pending());
        assert_eq!(incoming.memory(), 0, "who waits has none");
        pipe.0.lock().is_closed = true;
        assert!(matches!(incoming.poll_read(&mut pipe, cx), Poll::Ready(Ok(0))));
    }
}
