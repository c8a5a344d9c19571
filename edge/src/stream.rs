//! The stream of a connection, plain or TLS, whose [`Watch`] sees every move.
//!
//! The watch counts what HTTP reads and writes, above TLS. What TLS has taken and the socket has not is bounded, and seen
//! when it is to be flushed; and a record that does not come to its end is seen below TLS. So a slow client is found out
//! under TLS by the same rules.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::outgoing::WriteStored;
use crate::socket::Socket;
use crate::splice::{self, Part, Splicing};
use crate::turns::Turns;
use crate::watch::Watch;

/// How many bytes are read away after the last answer.
const LINGER_BYTES: usize = 1 << 20;

/// From how many bytes on a connection has written much in its turn, or is about to, and goes on only when it has one for that: a
/// piece of a mapped file is as much at once, windows (TLS) and frames (HTTP/2) are when several have gone. See `docs/performance.md`.
const MUCH: u64 = 256 << 10;

/// Up to so many bytes are a small answer, rather than a part of a large one.
const LITTLE: usize = 32 << 10;

/// What a connection goes over.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket.
    Plain(Socket),
    /// TLS over a socket. Its state is larger than all else, so it has a place of its own.
    Tls(Box<TlsStream<Sealed>>),
}

impl Transport {
    /// What TLS goes over.
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.get_mut().0.socket,
        }
    }
}

/// A socket under TLS. Its watch learns that something came, whether it makes a whole record or not.
#[derive(Debug)]
pub(crate) struct Sealed {
    socket: Socket,
    watch: Arc<Watch>,
}

impl Sealed {
    pub(crate) fn new(socket: Socket, watch: Arc<Watch>) -> Self {
        Self { socket, watch }
    }
}

impl AsyncRead for Sealed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.watch.on_sealed_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($transport:expr, $method:ident($($argument:expr),*)) => {
        match $transport {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

/// How many bytes lie in `bufs`.
fn total(bufs: &[IoSlice<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// A stream under watch.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    transport: Transport,
    watch: Arc<Watch>,
    turns: Arc<Turns>,
    splicing: Splicing,
    end_of_stream: bool,
    /// What is left of [`LINGER_BYTES`], from the moment when our side was closed.
    lingering: Option<usize>,
}

impl WatchedStream {
    /// The stream of a connection that has turns with others of its worker.
    pub(crate) fn new(transport: Transport, watch: Arc<Watch>, turns: Arc<Turns>) -> Self {
        Self { transport, watch, turns, splicing: Splicing::default(), end_of_stream: false, lingering: None }
    }

    /// Whether the connection has to wait before it writes so many bytes.
    fn has_to_wait(&self, bytes: usize, cx: &Context<'_>) -> bool {
        let written = self.watch.written_in_turn();
        let goes_on = if self.watch.has_turn() {
            written < self.turns.bytes()
        } else {
            // Woken by what else it waits for, it has no more than it had; and what a disk was waited for comes after who needed none.
            written + (bytes as u64) < MUCH && self.watch.needs_no_turn()
        };
        // Without a task of its own it has one soon, and tries again.
        if !goes_on && !self.watch.has_no_task() {
            self.turns.wait(&self.watch, cx.waker());
        }
        !goes_on
    }

    /// Has `write` write so many bytes, once the connection may.
    fn poll_in_turn(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        write: impl FnOnce(&mut Transport, &mut Splicing, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.has_to_wait(bytes, cx) {
            return Poll::Pending;
        }
        let written = match &mut self.transport {
            // What is written begins with that.
            Transport::Plain(socket) if self.splicing.has_begun() => {
                socket.poll_send(cx, |socket| self.splicing.go_on(socket, bytes))
            }
            transport => write(transport, &mut self.splicing, cx),
        };
        match &written {
            Poll::Ready(Ok(written)) => {
                self.watch.on_write(*written);
                if bytes <= LITTLE {
                    self.turns.note_little();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.on_write_blocked(),
        }
        written
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        if self.watch.must_reset() {
            self.transport.socket().reset_at_end();
        }
    }
}

impl WriteStored for WatchedStream {
    fn poll_write_stored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[Part<'_>]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_in_turn(cx, splice::total(parts), |transport, splicing, cx| match transport {
            Transport::Plain(socket) => socket.poll_send(cx, |socket| splicing.send(socket, parts)),
            // What is encrypted is not stored anywhere.
            Transport::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        })
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.has_no_task() && this.transport.socket().is_drained() {
            // The layer above reads beside answering, so as to see a client leave. Where the connection does not end in this
            // poll it is polled again, by its task: soon enough to have the runtime know the socket.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(either!(&mut this.transport, poll_read(cx, buf)))?;
        match buf.filled().len() - before {
            0 => this.end_of_stream = true,
            read => this.watch.on_read(read),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_in_turn(cx, buf.len(), |transport, _, cx| either!(transport, poll_write(cx, buf)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS puts slices together itself.
        self.get_mut()
            .poll_in_turn(cx, total(bufs), |transport, _, cx| either!(transport, poll_write_vectored(cx, bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let stream = match &mut this.transport {
            Transport::Plain(socket) => return Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => stream,
        };
        let flushed = Pin::new(stream).poll_flush(cx);
        match flushed {
            // TLS holds bytes that the socket does not take.
            Poll::Pending => this.watch.on_write_blocked(),
            Poll::Ready(Ok(())) => this.watch.on_flushed(),
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut left = match this.lingering {
            Some(left) => left,
            None => {
                let lingers = !this.end_of_stream && this.watch.must_linger();
                if !lingers && matches!(this.transport, Transport::Plain(_)) {
                    // It is dropped next, which says the same.
                    return Poll::Ready(Ok(()));
                }
                // TLS says that this is the end (RFC 8446 section 6.1), then the socket does.
                let closed = either!(&mut this.transport, poll_shutdown(cx));
                if closed.is_pending() {
                    this.watch.on_write_blocked();
                }
                ready!(closed)?;
                if !lingers {
                    return Poll::Ready(Ok(()));
                }
                this.watch.on_linger();
                LINGER_BYTES
            }
        };
        // Nobody wants to know what it is, so it is not decrypted.
        let mut scratch = [0; 4096];
        loop {
            this.lingering = Some(left);
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(this.transport.socket()).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 || read >= left {
                return Poll::Ready(Ok(()));
            }
            left -= read;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapped::Mapped;
    use crate::mapped::tests::pattern;
    use crate::outgoing::Outgoing;
    use crate::piece::Piece;
    use crate::socket::tests::pair;
    use crate::turns::TURN_BYTES;
    use pinstone_engine::blob::FileRegion;
    use std::future::poll_fn;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn a_turn_has_an_end_and_another_follows() {
        const ALL: usize = 8 << 20;
        for at_once in [20 << 10, 300 << 10] {
            let (longest, read) = written_in_turns(ALL, at_once).await;
            assert!(longest < TURN_BYTES + at_once as u64, "{longest}");
            assert_eq!(read, ALL);
        }
    }

    #[tokio::test]
    async fn what_was_waited_for_needs_a_turn() {
        let (socket, mut client) = pair();
        let (watch, turns) = (Watch::new(), Arc::new(Turns::default()));
        watch.set_task();
        let mut stream = WatchedStream::new(Transport::Plain(socket), Arc::clone(&watch), Arc::clone(&turns));
        let write = |stream: &mut WatchedStream, cx: &mut Context<'_>| {
            watch.begin_turn();
            Pin::new(stream).poll_write(cx, b"few")
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(write(&mut stream, &mut cx).is_ready());
        watch.need_turn();
        assert!(write(&mut stream, &mut cx).is_pending() && watch.waits_for_turn());
        watch.give_turn();
        watch.need_turn();
        assert!(write(&mut stream, &mut cx).is_ready(), "it was about to have one");
        assert!(write(&mut stream, &mut cx).is_ready(), "once is enough");
        drop(stream);
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 9);
    }

    #[tokio::test]
    async fn frames_of_files_arrive_whole_however_slowly_they_are_taken() {
        for frame in [16 << 10, 1 << 20] {
            files_arrive_by_frames_of(frame).await;
        }
    }

    async fn files_arrive_by_frames_of(most: usize) {
        let bytes = pattern(1_000_003);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mapped = Mapped::of(&FileRegion { file: file.into(), offset: 0, length: bytes.len() as u64 }).unwrap();
        let (socket, mut client) = pair();
        let reading = std::thread::spawn(move || {
            let (mut all, mut some) = (Vec::new(), vec![0; 300_000]);
            loop {
                std::thread::sleep(std::time::Duration::from_millis(2));
                match client.read(&mut some).unwrap() {
                    0 => return all,
                    read => all.extend_from_slice(&some[..read]),
                }
            }
        });
        let (watch, turns) = (Watch::new(), Arc::new(Turns::default()));
        watch.set_task();
        let mut stream = WatchedStream::new(Transport::Plain(socket), Arc::clone(&watch), Arc::clone(&turns));
        let giving = tokio::spawn(async move { turns.give().await });
        let (mut out, mut want) = (Outgoing::default(), Vec::new());
        for number in 0..12_u8 {
            let mut piece = Piece::Stored(mapped.stored(0..bytes.len(), None));
            while !piece.is_empty() {
                let frame = piece.split_to(piece.len().min(most));
                out.append(|out| out.extend([number; 9]));
                want.extend([number; 9]);
                let at = bytes.len() - piece.len() - frame.len();
                want.extend_from_slice(&bytes[at..at + frame.len()]);
                out.push(frame);
                if out.is_full() {
                    let write = |cx: &mut Context<'_>| {
                        watch.begin_turn();
                        out.poll_write(Pin::new(&mut stream), cx, 16 << 10)
                    };
                    poll_fn(write).await.unwrap();
                }
            }
        }
        poll_fn(|cx| {
            watch.begin_turn();
            out.poll_write(Pin::new(&mut stream), cx, 1)
        })
        .await
        .unwrap();
        giving.abort();
        drop((stream, mapped));
        assert!(reading.join().unwrap() == want);
    }

    /// Writes so many bytes, and few or many at once; the most that were in one turn, and what the client read.
    async fn written_in_turns(all: usize, at_once: usize) -> (u64, usize) {
        let (socket, mut client) = pair();
        let reading = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).unwrap());
        let (watch, turns) = (Watch::new(), Arc::new(Turns::default()));
        watch.set_task();
        let mut stream = WatchedStream::new(Transport::Plain(socket), Arc::clone(&watch), Arc::clone(&turns));
        let bytes = vec![7; at_once];
        let (mut written, mut longest) = (0, 0);
        let writing = poll_fn(|cx| {
            watch.begin_turn();
            while written < all {
                let (had_turn, before) = (watch.has_turn(), watch.written_in_turn());
                let at_most = bytes.len().min(all - written);
                let taken = Pin::new(&mut stream).poll_write(cx, &bytes[..at_most]);
                if watch.waits_for_turn() {
                    watch.begin_turn();
                    let again = Pin::new(&mut stream).poll_write(cx, &bytes[..at_most]);
                    assert!(again.is_pending(), "it was woken by something else");
                }
                written += ready!(taken).unwrap();
                assert!(had_turn || before + (at_most as u64) < MUCH, "it has no turn for that");
                longest = longest.max(watch.written_in_turn());
            }
            Poll::Ready(())
        });
        let giving = tokio::spawn(async move { turns.give().await });
        writing.await;
        giving.abort();
        drop(stream);
        (longest, reading.join().unwrap())
    }
}
