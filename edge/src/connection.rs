//! One connection, from its first byte to its last.
//!
//! HTTP/2 is told from HTTP/1 by its preface (prior knowledge, RFC 9113 section 3.3), or by what TLS has agreed on. A
//! connection ends by itself, by its deadlines, or by shutdown: then what is in flight is finished, and only that.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::answering::Answering;
use crate::body::EdgeBody;
use crate::client::Client;
use crate::config::Limits;
use crate::control::BoxError;
use crate::http2::{self, PREFACE};
use crate::per_source::Slot;
use crate::proxy_header;
use crate::request_body::RequestBody;
use crate::service::{self, Link, Shared};
use crate::socket::Socket;
use crate::stream::{Transport, WatchedStream};
use crate::tls::handshake;
use crate::watch::{Order, Watch};
use crate::worker::Worker;

/// HTTP/1: what a connection queues for a client that takes nothing, beyond which nothing is added: a window of the usual size.
/// The layer below would take six of them.
const QUEUE: usize = 64 << 10;

/// How much is read at once to tell the protocol: a common head whole.
const FIRST_READ: usize = 2048;

/// HTTP/1, set up once for a worker.
pub(crate) fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Deadlines are the watch's: hyper's would cut idle connections too.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(limits.head_bytes)
        // A head has to fit, for it is the bound of what is read too.
        .max_buf_size(limits.head_bytes.max(QUEUE));
    if limits.fields != 100 {
        // The default costs no allocation.
        builder.max_headers(limits.fields);
    }
    builder
}

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
    read_before: Bytes,
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
    let stream = WatchedStream::new(transport, read_before, Arc::clone(&watch));
    let link = Arc::new(link);
    let answer = {
        let (worker, watch) = (Arc::clone(&worker), Arc::clone(&watch));
        move |request: Request<RequestBody>| {
            watch.on_request();
            Answering::begin(service::serve(Arc::clone(&worker), Arc::clone(&watch), Arc::clone(&link), request))
        }
    };
    let ended: Result<(), BoxError> = if is_http2 {
        watch.set_multiplexed();
        let connection = Box::new(http2::Connection::new(stream, Arc::clone(&watch), answer));
        drive(connection, &watch).await.map_err(Into::into)
    } else {
        let service = service_fn(|request: Request<Incoming>| answer(request.map(Into::into)));
        take_turns(&worker.http1, stream, service, &watch).await.map_err(Into::into)
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "a connection broke off");
    }
}

/// Serves HTTP/1: whenever nothing was asked for a while, what the layer below has for the connection is given back, and
/// made anew for the next request. An idle connection then costs what its socket and its task do.
async fn take_turns<S>(
    builder: &http1::Builder,
    mut stream: WatchedStream,
    mut service: S,
    watch: &Watch,
) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = EdgeBody>,
    S::Error: Into<BoxError>,
{
    loop {
        let mut connection = Box::new(builder.serve_connection(TokioIo::new(stream), service));
        if let Some(ended) = poll_fn(|cx| poll_http1(&mut connection, watch, cx)).await {
            return ended;
        }
        let read;
        (stream, service, read) = parts(connection);
        if !read.is_empty() {
            stream.put_back(read);
        } else if !rest(&mut stream, watch).await {
            return Ok(());
        }
    }
}

/// Takes a connection apart: its stream, its service, and what was read and not used. Whatever else it has is freed here,
/// and so is its buffer where nothing is left in it.
#[allow(clippy::boxed_local, reason = "its place is to be freed too")]
fn parts<S>(connection: Box<http1::Connection<TokioIo<WatchedStream>, S>>) -> (WatchedStream, S, Bytes)
where
    S: HttpService<Incoming, ResBody = EdgeBody>,
    S::Error: Into<BoxError>,
{
    let http1::Parts { io, service, read_buf, .. } = connection.into_parts();
    let read = if read_buf.is_empty() { Bytes::new() } else { read_buf };
    (io.into_inner(), service, read)
}

/// Nothing where the connection may rest.
fn poll_http1<S>(
    connection: &mut http1::Connection<TokioIo<WatchedStream>, S>,
    watch: &Watch,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<()>>>
where
    S: HttpService<Incoming, ResBody = EdgeBody>,
    S::Error: Into<BoxError>,
{
    watch.begin_turn();
    let order = watch.poll_order(cx);
    match order {
        Order::Cut => return Poll::Ready(Some(Ok(()))),
        Order::Close => Pin::new(&mut *connection).graceful_shutdown(),
        Order::Rest | Order::GoOn => {}
    }
    let ended = Pin::new(&mut *connection).poll(cx);
    if ended.is_pending() && order == Order::Rest && watch.may_rest() {
        return Poll::Ready(None);
    }
    ended.map(Some)
}

/// Waits for the next request; says whether it may come.
async fn rest(stream: &mut WatchedStream, watch: &Watch) -> bool {
    let goes_on = poll_fn(|cx| match watch.poll_order(cx) {
        Order::Cut | Order::Close => Poll::Ready(false),
        // An error is seen by whoever reads.
        Order::Rest | Order::GoOn => stream.poll_readable(cx).map(|_| true),
    });
    if goes_on.await {
        return true;
    }
    let _ = poll_fn(|cx| match watch.poll_order(cx) {
        Order::Cut => Poll::Ready(Ok(())),
        _ => Pin::new(&mut *stream).poll_shutdown(cx),
    })
    .await;
    false
}

/// Serves HTTP/2.
async fn drive<F>(mut connection: Box<http2::Connection<WatchedStream, F>>, watch: &Watch) -> Result<(), http2::Broken>
where
    F: FnMut(Request<RequestBody>) -> Answering,
{
    poll_fn(|cx| {
        watch.begin_turn();
        match watch.poll_order(cx) {
            Order::Cut => return Poll::Ready(Ok(())),
            Order::Close => connection.leave(),
            Order::Rest | Order::GoOn => {}
        }
        connection.poll(cx)
    })
    .await
}

/// Reads what comes before the first request. Nothing where none can come.
async fn open(
    shared: &Shared,
    mut socket: Socket,
    peer: SocketAddr,
    is_tls: bool,
    watch: &Arc<Watch>,
) -> Option<Opened> {
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
                read_before: Bytes::new(),
                is_http2,
                link: Link { client, certificate: Some(certificate), tls_version: Some(version) },
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
    let link = Link { client, certificate: None, tls_version: None };
    Some(Opened { transport: Transport::Plain(socket), read_before, is_http2, link, _slot: slot })
}

/// Reads until it is clear which protocol the client speaks: whether HTTP/2, and what was read. Nothing where the client
/// left before that.
async fn sniff(socket: &mut Socket, watch: &Watch) -> io::Result<Option<(bool, Bytes)>> {
    let mut seen = Vec::new();
    loop {
        match poll_fn(|cx| poll_read_some(socket, &mut seen, cx)).await? {
            0 => return Ok(None),
            read => watch.on_read(read),
        }
        let known = seen.len().min(PREFACE.len());
        if seen[..known] != PREFACE[..known] {
            return Ok(Some((false, seen.into())));
        }
        if known == PREFACE.len() {
            return Ok(Some((true, seen.into())));
        }
    }
}

/// Outside of the future, which would carry the buffer for the life of the connection. A read that leaves room in it has
/// taken all that there was: the layer above does not ask the kernel once more.
fn poll_read_some(socket: &mut Socket, seen: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = [0; FIRST_READ];
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    seen.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}
