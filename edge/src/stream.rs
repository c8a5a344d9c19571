//! The socket of a connection: what was read to tell the protocol comes first, and its [`Watch`] sees every move.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::watch::Watch;

/// How many bytes are read away after the last answer.
const LINGER_BYTES: usize = 1 << 20;

/// A socket under watch.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    read_before: Bytes,
    watch: Arc<Watch>,
    end_of_stream: bool,
    /// What is left of [`LINGER_BYTES`], from the moment when our side was closed.
    lingering: Option<usize>,
}

impl WatchedStream {
    pub(crate) fn new(stream: TcpStream, read_before: Bytes, watch: Arc<Watch>) -> Self {
        Self { stream, read_before, watch, end_of_stream: false, lingering: None }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(written)) => self.watch.on_write(*written),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.on_write_blocked(),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_before.has_remaining() {
            let taken = this.read_before.len().min(buf.remaining());
            buf.put_slice(&this.read_before.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        match buf.filled().len() - before {
            0 => this.end_of_stream = true,
            read => this.watch.on_read(read),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut left = match this.lingering {
            Some(left) => left,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                if this.end_of_stream || !this.watch.must_linger() {
                    return Poll::Ready(Ok(()));
                }
                this.watch.on_linger();
                LINGER_BYTES
            }
        };
        let mut scratch = [0; 4096];
        loop {
            this.lingering = Some(left);
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 || read >= left {
                return Poll::Ready(Ok(()));
            }
            left -= read;
        }
    }
}
