//! One connection, from its first byte to its last.
//!
//! HTTP/2 is told from HTTP/1 by its preface (prior knowledge, RFC 9113 section 3.3), or by what TLS has agreed on. A
//! connection ends by itself, by its deadlines, or by shutdown: then what is in flight is finished, and only that.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::answering::Answering;
use crate::buffers;
use crate::client::Client;
use crate::control::BoxError;
use crate::http1::{self, Bounds};
use crate::http2::{self, PREFACE};
use crate::per_source::Slot;
use crate::proxy_header;
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::service::{self, Link, Shared};
use crate::socket::Socket;
use crate::stream::{Transport, WatchedStream};
use crate::tls::handshake;
use crate::watch::{Order, Watch};
use crate::worker::Worker;

/// Bytes that are read at once: more than most heads have, and than a frame that is taken with its head.
pub(crate) const INPUT: usize = 32 << 10;

/// Requests of a connection that are answered before others have their turn.
pub(crate) const TURN: usize = 256;

/// How much is read at once to tell the protocol: a common head whole.
const FIRST_READ: usize = 2048;

/// The most bytes of a record of TLS (RFC 8446 section 5.1). While more is to come, only whole ones are written.
pub(crate) const RECORD: usize = 16 << 10;

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    pub(crate) peer: SocketAddr,
    /// Whether it is to begin with a handshake.
    pub(crate) is_tls: bool,
    /// Its place among those of its source.
    pub(crate) slot: Slot,
    /// Its place among all.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A connection on which requests may come.
struct Opened {
    transport: Transport,
    read_before: Vec<u8>,
    is_http2: bool,
    link: Link,
    /// Its place among those of the source that a proxy speaks for.
    _slot: Slot,
}

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Arc<Worker>, accepted: Accepted, watch: Arc<Watch>) {
    let Accepted { socket, peer, is_tls, slot: _slot, permit: _permit } = accepted;
    let opened = tokio::select! {
        opened = open(&worker, socket, peer, is_tls, &watch) => opened,
        // Nothing was asked yet that could be answered.
        () = watch.ends() => return,
    };
    let Some(Opened { transport, read_before, is_http2, link, _slot: _other_slot }) = opened else { return };
    let unit = if matches!(transport, Transport::Tls(_)) { RECORD } else { 1 };
    let stream = WatchedStream::new(transport, Arc::clone(&watch), Arc::clone(&worker.turns));
    let bounds = Bounds { bytes: worker.limits.head_bytes, fields: worker.limits.fields };
    let link = Arc::new(link);
    let answer = move |head: Box<RequestHead>, body: RequestBody| {
        link.watch.on_request();
        Answering::of(|| service::serve(Arc::clone(&link), head, body))
    };
    let ended: Result<(), BoxError> = if is_http2 {
        watch.set_multiplexed();
        let mut connection = Box::new(http2::Connection::new(stream, read_before, Arc::clone(&watch), answer));
        let poll = |leaves: bool, cx: &mut Context<'_>| {
            if leaves {
                connection.leave();
            }
            connection.poll(cx)
        };
        drive(&watch, poll).await.map_err(Into::into)
    } else {
        let mut connection =
            Box::new(http1::Connection::new(stream, read_before, Arc::clone(&watch), bounds, unit, answer));
        let poll = |leaves: bool, cx: &mut Context<'_>| {
            if leaves {
                connection.leave();
            }
            connection.poll(cx)
        };
        drive(&watch, poll).await.map_err(Into::into)
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "a connection broke off");
    }
}

/// Has a connection polled to its end, or as long as its watch says. `poll` is told whether it is to leave.
async fn drive<E>(watch: &Watch, mut poll: impl FnMut(bool, &mut Context<'_>) -> Poll<Result<(), E>>) -> Result<(), E> {
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        let mut order = watch.order();
        // Who is woken for an order is forgotten with that.
        let is_registered = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_registered || order != Order::GoOn {
            order = watch.poll_order(cx);
            registered = Some(cx.waker().clone());
        }
        match order {
            Order::Cut => Poll::Ready(Ok(())),
            order => poll(order == Order::Close, cx),
        }
    })
    .await
}

/// Reads what comes before the first request. Nothing where none can come.
async fn open(
    worker: &Arc<Worker>,
    mut socket: Socket,
    peer: SocketAddr,
    is_tls: bool,
    watch: &Arc<Watch>,
) -> Option<Opened> {
    let shared: &Shared = worker;
    let link = |client, certificate, tls_version| {
        let (worker, watch) = (Arc::clone(worker), Arc::clone(watch));
        Link { worker, watch, client, certificate, tls_version }
    };
    let mut client = Client::direct(peer, is_tls);
    let unknown = |error: io::Error| tracing::warn!(%peer, %error, "a connection could not be waited for");
    let mut slot = Slot::default();
    // What few connections do is not to make the state of all others larger, hence the boxes.
    if shared.proxy_protocol && shared.trusted.contains(peer.ip()) {
        match Box::pin(proxy_header::read(socket.known().map_err(unknown).ok()?, watch)).await {
            Ok(source) => {
                client.address = source.unwrap_or(client.address);
                slot = shared.admit(client.address)?;
                watch.on_preamble();
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection was closed");
                return None;
            }
        }
    }
    if is_tls {
        let certificates = shared.certificates.as_deref()?;
        return match Box::pin(handshake::accept(socket.into_known().map_err(unknown).ok()?, certificates, watch)).await
        {
            Ok(handshake::Secured { stream, certificate, is_http2, version }) => Some(Opened {
                transport: Transport::Tls(stream),
                read_before: Vec::new(),
                is_http2,
                link: link(client, Some(certificate), Some(version)),
                _slot: slot,
            }),
            Err(error) => {
                shared.counters.handshake_failed();
                tracing::debug!(%peer, %error, "a handshake failed");
                None
            }
        };
    }
    let (is_http2, read_before) = sniff(&mut socket, watch).await.ok()??;
    let link = link(client, None, None);
    Some(Opened { transport: Transport::Plain(socket), read_before, is_http2, link, _slot: slot })
}

/// Reads until it is clear which protocol the client speaks: whether HTTP/2, and what was read. Nothing where the client
/// left before that.
async fn sniff(socket: &mut Socket, watch: &Watch) -> io::Result<Option<(bool, Vec<u8>)>> {
    let mut seen = Vec::new();
    loop {
        match poll_fn(|cx| poll_read_some(socket, &mut seen, cx)).await? {
            0 => return Ok(None),
            read => watch.on_read(read),
        }
        let known = seen.len().min(PREFACE.len());
        if seen[..known] != PREFACE[..known] {
            return Ok(Some((false, seen)));
        }
        if known == PREFACE.len() {
            return Ok(Some((true, seen)));
        }
    }
}

/// Outside of the future, which would carry the buffer for the life of the connection. A read that leaves room in it has
/// taken all that there was: the layer above does not ask the kernel once more.
fn poll_read_some(socket: &mut Socket, seen: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = [0; FIRST_READ];
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    if seen.capacity() == 0 && !buffer.filled().is_empty() {
        // Nobody who has said nothing yet has it.
        *seen = buffers::take(INPUT);
    }
    seen.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}
