//! The socket of a connection, which the runtime learns of when there is something to wait for.
//!
//! Where a client has one request, mostly nothing is waited for: the request is there when the connection is accepted, the
//! kernel takes the answer, and the socket is closed. To tell the runtime of such a socket, and that it is gone, would be a
//! third of its system calls.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connected socket that does not block.
#[derive(Debug)]
pub(crate) enum Socket {
    /// One that the runtime does not know.
    Fresh {
        /// The socket.
        stream: StdStream,
        /// All that had come was read: there is no use in asking for more at once.
        is_drained: bool,
    },
    /// One that it wakes somebody for.
    Known(TcpStream),
    /// One that it could not take, and which was closed.
    Gone,
}

impl Socket {
    /// A socket that was just accepted.
    pub(crate) fn new(stream: StdStream) -> Self {
        Self::Fresh { stream, is_drained: false }
    }

    /// The same, for who waits by other means.
    ///
    /// # Errors
    ///
    /// Where the runtime cannot take it.
    pub(crate) fn into_known(mut self) -> io::Result<TcpStream> {
        self.known()?;
        match self {
            Self::Known(stream) => Ok(stream),
            Self::Fresh { .. } | Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The same, of which the runtime knows from now on.
    ///
    /// # Errors
    ///
    /// Where it cannot take it.
    pub(crate) fn known(&mut self) -> io::Result<&mut TcpStream> {
        if matches!(self, Self::Fresh { .. })
            && let Self::Fresh { stream, .. } = std::mem::replace(self, Self::Gone)
        {
            *self = Self::Known(TcpStream::from_std(stream)?);
        }
        match self {
            Self::Known(stream) => Ok(stream),
            Self::Fresh { .. } | Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether there is nothing to read as far as is known, and nobody would be woken when there is.
    pub(crate) fn is_drained(&self) -> bool {
        matches!(self, Self::Fresh { is_drained: true, .. })
    }

    /// Sends by `send`, which is called again when the socket takes something.
    pub(crate) fn poll_send<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if let Some(sent) = self.at_once(|stream| send(stream.as_fd())) {
            return Poll::Ready(sent);
        }
        let stream = self.known()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send(stream.as_fd())) {
                Err(error) if is_to_try_again(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// What the kernel says of a socket that the runtime does not know; nothing where that would have to be waited for.
    fn at_once<R>(&self, call: impl FnOnce(&StdStream) -> io::Result<R>) -> Option<io::Result<R>> {
        let Self::Fresh { stream, .. } = self else { return None };
        Some(call(stream)).filter(|done| !done.as_ref().is_err_and(is_to_try_again))
    }

    /// Has the connection be reset when it is closed.
    pub(crate) fn reset_at_end(&self) {
        let _ = match self {
            Self::Fresh { stream, .. } => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Self::Known(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Self::Gone => Ok(()),
        };
    }
}

fn is_to_try_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Self::Fresh { stream, is_drained } = this
            && !*is_drained
        {
            let (room, mut stream) = (buf.initialize_unfilled(), &*stream);
            match stream.read(room) {
                Ok(read) => {
                    *is_drained = read < room.len();
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_to_try_again(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(this.known()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(written) = this.at_once(|mut stream| stream.write(buf)) {
            return Poll::Ready(written);
        }
        Pin::new(this.known()?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(written) = this.at_once(|mut stream| stream.write_vectored(bufs)) {
            return Poll::Ready(written);
        }
        Pin::new(this.known()?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Fresh { stream, .. } => Poll::Ready(stream.shutdown(std::net::Shutdown::Write)),
            Self::Known(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::guard::poll_in_place;
    use std::future::poll_fn;
    use std::net::TcpListener;

    /// Our end, and that of a client.
    pub(crate) fn pair() -> (Socket, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (Socket::new(stream), client)
    }

    async fn read(socket: &mut Socket) -> Vec<u8> {
        let mut buffer = [0; 64];
        let mut buffer = ReadBuf::new(&mut buffer);
        poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut buffer)).await.unwrap();
        buffer.filled().to_vec()
    }

    async fn write(socket: &mut Socket, bytes: &[u8]) -> usize {
        poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, bytes)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_there_is_had_without_the_runtime() {
        let (mut socket, mut client) = pair();
        client.write_all(b"a request").unwrap();
        assert!(!socket.is_drained());
        assert_eq!(read(&mut socket).await, b"a request");
        assert!(socket.is_drained());
        assert_eq!(write(&mut socket, b"an answer").await, 9);
        let bufs = [IoSlice::new(b" in two"), IoSlice::new(b" pieces")];
        assert_eq!(poll_fn(|cx| Pin::new(&mut socket).poll_write_vectored(cx, &bufs)).await.unwrap(), 14);
        let sent = poll_fn(|cx| socket.poll_send(cx, |fd| Ok(rustix::io::write(fd, b"!")?))).await.unwrap();
        assert_eq!(sent, 1);
        assert!(matches!(socket, Socket::Fresh { .. }));
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "an answer in two pieces!");
    }

    #[tokio::test]
    async fn what_is_not_there_is_waited_for() {
        let (mut socket, mut client) = pair();
        let reading = tokio::spawn(async move {
            let first = read(&mut socket).await;
            (first, socket)
        });
        tokio::task::yield_now().await;
        client.write_all(b"late").unwrap();
        let (first, mut socket) = reading.await.unwrap();
        assert_eq!(first, b"late");
        assert!(matches!(socket, Socket::Known(_)));
        drop(client);
        assert_eq!(read(&mut socket).await, b"", "the end");
    }

    #[tokio::test]
    async fn room_for_more_is_waited_for() {
        let (mut socket, mut client) = pair();
        let bytes = [7; 64 << 10];
        let mut written = 0;
        while let Poll::Ready(taken) = poll_in_place(Pin::new(&mut Box::pin(write(&mut socket, &bytes)))) {
            written += taken;
        }
        assert!(matches!(socket, Socket::Known(_)), "after {written} bytes");
        let reading = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).unwrap());
        written += write(&mut socket, b"more").await;
        drop(socket);
        assert_eq!(reading.join().unwrap(), written);
    }

    #[tokio::test]
    async fn a_reset_is_one_of_whichever_kind() {
        for is_known in [false, true] {
            let (mut socket, mut client) = pair();
            if is_known {
                socket.known().unwrap();
            }
            socket.reset_at_end();
            drop(socket);
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
