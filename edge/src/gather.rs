//! Writes of HTTP/2, gathered: frames are kept until the connection has nothing more to read, and go out together.
//!
//! The layer above writes and flushes once for each DATA frame, also where dozens of small answers are ready at the same
//! time: two system calls for each of them. So a flush is deferred, not only buffered: it wakes the connection once more,
//! and what was gathered until then is written in a later turn of its task, when the next read would block. Not in the
//! same turn: the layer above reads between any two requests that it has already. Whoever has answers ready meanwhile
//! adds them.
//!
//! Under TLS what fills a record is not copied for that: it is encrypted at once, and TLS keeps the records. It has room for as
//! many bytes of them.
//!
//! What is kept is bounded. A client that takes nothing stops the layer above as before: beyond the bound a write waits
//! for the socket.

use std::io::{self, IoSlice};
use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers;
use crate::watch::Watch;

/// The most bytes that are kept, for each connection: what 4 frames of the usual size take.
const MOST: usize = 64 << 10;

/// The most bytes of a record of TLS (RFC 8446 section 5.1). What fills some is not copied; less than one shares it with what
/// comes next.
const RECORD: usize = 16 << 10;

/// Slices that one write takes from above; h2 gives two.
const SLICES: usize = 8;

/// A stream that can keep what it was given.
pub(crate) trait Hold {
    /// Has it keep what is written from now on, as far as it has room, or not any more; answers whether it can. What is kept
    /// goes out with the next flush.
    fn hold(&mut self, holds: bool) -> bool;
}

/// A stream whose writes go out together.
#[derive(Debug)]
pub(crate) struct Gathered<S> {
    inner: S,
    /// Bytes that were taken and are not written, from `written` on. Without memory while there are none.
    held: Vec<u8>,
    written: usize,
    /// The stream keeps some, behind which all else comes.
    is_holding: bool,
    /// The turn in which the connection was woken for the sake of what is held, if it was.
    woken: Option<u32>,
    watch: Arc<Watch>,
}

impl<S: AsyncWrite + Hold + Unpin> Gathered<S> {
    /// Gathers over the turns that `watch` counts.
    pub(crate) fn new(inner: S, watch: Arc<Watch>) -> Self {
        Self { inner, held: Vec::new(), written: 0, is_holding: false, woken: None, watch }
    }

    fn is_empty(&self) -> bool {
        self.has_none() && !self.is_holding
    }

    /// Whether none is held here.
    fn has_none(&self) -> bool {
        self.written == self.held.len()
    }

    /// Keeps `bufs` if there is room for all of them; answers how many bytes they are.
    fn keep(&mut self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        let more: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.held.len() - self.written + more > MOST {
            return None;
        }
        if self.held.capacity() == 0 {
            self.held = buffers::take(MOST);
        } else if self.held.len() + more > MOST {
            self.held.drain(..self.written);
            self.written = 0;
        }
        bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
        Some(more)
    }

    /// Writes what is held, and `bufs` behind it if the stream takes that much, at most `most` bytes; answers how many bytes of
    /// `bufs` went.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES + 1];
        let (mut room, count) = (most, bufs.len().min(SLICES));
        for (slice, bytes) in
            slices.iter_mut().zip(iter::once(&self.held[self.written..]).chain(bufs.iter().map(|buf| &**buf)))
        {
            let (taken, _) = bytes.split_at(bytes.len().min(room));
            room -= taken.len();
            *slice = IoSlice::new(taken);
        }
        let first = usize::from(self.has_none());
        let wrote = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &slices[first..=count]))?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_held = wrote.min(self.held.len() - self.written);
        self.written += of_held;
        if self.has_none() {
            // Most connections are idle most of the time.
            buffers::give_back(std::mem::take(&mut self.held));
            self.written = 0;
        }
        Poll::Ready(Ok(wrote - of_held))
    }

    /// Writes all that is held, as far as the stream takes it; the stream keeps what it kept.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_none() {
            ready!(self.poll_write_through(cx, &[], usize::MAX))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Has the stream send what it keeps.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.is_holding = false;
        Poll::Ready(Ok(()))
    }

    /// Gives as many records as `bufs` fill, with what is held before them, to a stream that keeps them; nothing where there is
    /// none to be given, or it keeps none.
    fn poll_hold(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        let held = self.held.len() - self.written;
        let records = (held + bufs.iter().map(|buf| buf.len()).sum::<usize>()) / RECORD;
        if records == 0 || !self.inner.hold(true) {
            return None;
        }
        let wrote = self.poll_write_through(cx, bufs, records * RECORD);
        self.inner.hold(false);
        self.is_holding |= wrote.is_ready();
        Some(wrote)
    }
}

impl<S: AsyncRead + AsyncWrite + Hold + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if read.is_pending() && this.woken != Some(this.watch.turn()) {
            this.woken = None;
            if !this.is_empty() && this.poll_empty(cx)?.is_ready() {
                let _goes_on_by_itself = this.poll_release(cx)?;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Hold + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Once more where it had no room.
        for _ in 0..2 {
            match this.poll_hold(cx, bufs) {
                None => break,
                Some(Poll::Ready(Ok(0))) => {}
                Some(Poll::Pending) => ready!(this.poll_release(cx))?,
                Some(wrote) => return wrote,
            }
        }
        loop {
            if let Some(kept) = this.keep(bufs) {
                return Poll::Ready(Ok(kept));
            }
            let wrote = ready!(this.poll_write_through(cx, bufs, usize::MAX))?;
            if wrote > 0 {
                return Poll::Ready(Ok(wrote));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        // What is kept is copied, and what is not goes out vectored where the stream can.
        true
    }

    /// Promises to write soon. Only [`AsyncWrite::poll_shutdown`] waits for it.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_empty() {
            return this.poll_release(cx);
        }
        if this.woken.is_none() {
            this.woken = Some(this.watch.turn());
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_empty(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A stream that counts writes, takes `room` bytes in all and reads nothing.
    #[derive(Debug, Default)]
    struct Sink {
        written: Vec<u8>,
        writes: usize,
        flushes: usize,
        room: usize,
        is_shut: bool,
        can_hold: bool,
        holds: bool,
        /// What it has kept and not sent.
        kept: usize,
    }

    impl Hold for Sink {
        fn hold(&mut self, holds: bool) -> bool {
            self.holds = holds && self.can_hold;
            self.can_hold
        }
    }

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let mut room = if this.holds { MOST - this.kept } else { this.room };
            if room == 0 {
                return Poll::Pending;
            }
            this.writes += 1;
            let before = this.written.len();
            for buf in bufs {
                let taken = buf.len().min(room);
                this.written.extend_from_slice(&buf[..taken]);
                room -= taken;
            }
            let taken = this.written.len() - before;
            if this.holds {
                this.kept += taken;
            } else {
                this.room -= taken;
            }
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            let sent = self.kept.min(self.room);
            self.kept -= sent;
            self.room -= sent;
            if self.kept == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn gathered(room: usize) -> Gathered<Sink> {
        Gathered::new(Sink { room, ..Sink::default() }, Watch::new())
    }

    /// Reads in a turn of its own.
    fn read(stream: &mut Gathered<Sink>) -> Poll<io::Result<()>> {
        stream.watch.begin_turn();
        read_again(stream)
    }

    fn read_again(stream: &mut Gathered<Sink>) -> Poll<io::Result<()>> {
        let mut space = [0; 8];
        Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut space))
    }

    fn write(stream: &mut Gathered<Sink>, bufs: &[&[u8]]) -> Poll<usize> {
        let slices: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
        let cx = &mut Context::from_waker(Waker::noop());
        let written = Pin::new(&mut *stream).poll_write_vectored(cx, &slices).map(Result::unwrap);
        assert!(matches!(Pin::new(stream).poll_flush(cx), Poll::Ready(Ok(()))));
        written
    }

    #[test]
    fn frames_go_out_together_when_there_is_nothing_to_read() {
        let mut stream = gathered(usize::MAX);
        for _ in 0..32 {
            assert_eq!(write(&mut stream, &[&[1; 9], &[2; 1024]]), Poll::Ready(1033));
            assert!(read_again(&mut stream).is_pending(), "the layer above looks for the next request");
        }
        assert_eq!(stream.inner.writes, 0);
        assert!(read(&mut stream).is_pending());
        assert_eq!((stream.inner.writes, stream.inner.flushes), (1, 1));
        assert_eq!(stream.inner.written, [&[1; 9][..], &[2; 1024]].concat().repeat(32));
        assert_eq!(stream.held.capacity(), 0, "an idle connection holds no memory");
        assert!(read(&mut stream).is_pending());
        assert_eq!(stream.inner.writes, 1);
    }

    #[test]
    fn a_flush_wakes_the_connection_once() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

        #[derive(Default)]
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let mut stream = gathered(usize::MAX);
        assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
        assert_eq!((count.0.load(SeqCst), stream.inner.flushes), (0, 1), "nothing is held");
        for round in 1..3 {
            for _ in 0..3 {
                assert!(Pin::new(&mut stream).poll_write(cx, b"x").is_ready());
                assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
            }
            assert_eq!(count.0.load(SeqCst), round, "or nobody would ever write it");
            stream.watch.begin_turn();
            assert!(Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending());
        }
        assert_eq!(stream.inner.written, b"xxxxxx");
    }

    #[test]
    fn a_client_that_takes_nothing_stops_the_writer_and_loses_nothing() {
        let mut stream = gathered(0);
        let (mut sent, mut frame) = (Vec::new(), 0u8);
        let mut send = |stream: &mut Gathered<Sink>| {
            let payload = vec![frame; 10_000];
            let written = write(stream, &[&[255; 9], &payload]);
            if let Poll::Ready(written) = written {
                sent.extend_from_slice(&[&[255; 9][..], &payload].concat()[..written]);
                frame += 1;
            }
            written
        };
        let mut kept = 0;
        while let Poll::Ready(written) = send(&mut stream) {
            kept += written;
            assert!(kept <= MOST);
        }
        assert!(read(&mut stream).is_pending());
        assert_eq!(stream.held.len() - stream.written, kept, "all is still there");
        for room in [1, 8_000, 30_000, 50_000, 1, 20_000] {
            stream.inner.room = room;
            assert!(read(&mut stream).is_pending());
            while send(&mut stream).is_ready() && stream.held.len() < MOST / 2 {}
        }
        stream.inner.room = usize::MAX;
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut stream).poll_shutdown(cx).is_ready());
        assert!(stream.inner.is_shut);
        assert!(stream.inner.written == sent, "bytes came in their order, each once");
    }

    #[test]
    fn more_than_is_kept_goes_through() {
        let mut stream = gathered(usize::MAX);
        assert_eq!(write(&mut stream, &[b"head"]), Poll::Ready(4));
        let large = vec![7; MOST];
        assert_eq!(write(&mut stream, &[&large]), Poll::Ready(MOST));
        assert_eq!((stream.inner.writes, stream.inner.written.len()), (1, MOST + 4));
        assert!(stream.is_empty());
    }

    #[test]
    fn records_are_kept_by_who_makes_them() {
        let mut stream = gathered(100_000);
        stream.inner.can_hold = true;
        let (mut sent, frame) = (Vec::new(), vec![7; RECORD]);
        let cx = &mut Context::from_waker(Waker::noop());
        for number in 0..20_u8 {
            let frame = [&[number; 9][..], &frame].concat();
            let mut rest = &frame[..];
            while !rest.is_empty() {
                let Poll::Ready(written) =
                    write(&mut stream, &[&rest[..rest.len().min(9)], &rest[rest.len().min(9)..]])
                else {
                    stream.inner.room = 50_000;
                    continue;
                };
                sent.extend_from_slice(&rest[..written]);
                rest = &rest[written..];
                assert!(stream.held.len() < RECORD, "only what fills no record is copied");
                assert!(stream.inner.kept <= MOST);
            }
        }
        assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
        stream.watch.begin_turn();
        assert!(stream.inner.kept > 0 && stream.woken.is_some(), "the flush is deferred");
        stream.inner.room = usize::MAX;
        assert!(read(&mut stream).is_pending());
        assert!(stream.is_empty() && stream.inner.kept == 0);
        assert!(stream.inner.written == sent, "bytes came in their order, each once");
    }
}
