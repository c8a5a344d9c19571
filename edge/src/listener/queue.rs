//! The accept queue of a listening socket.
//!
//! The runtime's own listener tells the poll of every connection as it is accepted. Here one comes out as the kernel has it,
//! and whether the poll is to know it is decided later ([`Socket`](crate::socket::Socket)).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll, ready};

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Connections that wait to be accepted.
#[derive(Debug)]
pub(super) struct AcceptQueue {
    listener: AsyncFd<TcpListener>,
    /// Whether TLS is spoken on them.
    pub(super) is_tls: bool,
}

impl AcceptQueue {
    /// The queue of a socket that listens and does not block.
    ///
    /// # Errors
    ///
    /// Where the runtime cannot take it.
    #[allow(unsafe_code, reason = "the runtime has to be promised that the descriptor stays open")]
    pub(super) fn new(listener: TcpListener, is_tls: bool) -> io::Result<Self> {
        // SAFETY: a `TcpListener` owns its descriptor, names the same one each time, and closes it when it is dropped and not
        // before. It is dropped with the `AsyncFd`, which hands out shared references to it only.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? };
        Ok(Self { listener, is_tls })
    }

    /// The next connection, as a socket that does not block, and who is at its other end.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            let mut may_accept = ready!(self.listener.poll_read_ready(cx))?;
            if let Ok(accepted) = may_accept.try_io(|listener| accept(listener.get_ref())) {
                return Poll::Ready(accepted);
            }
        }
    }
}

/// Has the kernel hand out a connection when its first bytes are there, or after a second without any: both protocols begin
/// with the client. Then a connection that has just been accepted is one that can be answered (tcp(7), `TCP_DEFER_ACCEPT`).
///
/// # Errors
///
/// Where the kernel refuses it.
#[allow(unsafe_code, reason = "no safe form of the call knows this option")]
pub(super) fn defer_accept(listener: impl AsFd) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    #[allow(clippy::cast_possible_truncation, reason = "it is 4")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the option is a `c_int`, which the pointer leads to for the whole of the
    // call, with its size.
    let outcome = unsafe {
        let (socket, value) = (listener.as_fd().as_raw_fd(), (&raw const seconds).cast());
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), peer.try_into()?))
}
