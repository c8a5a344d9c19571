//! Connections in memory, for the fuzz targets: whatever a client sends comes here as it would from a socket.
//!
//! A request is answered with its method, its target and its body, which is read first; one for [`NEVER`] is not answered, as by
//! a control plane that takes its time.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;

use crate::answering::Answering;
use crate::body::{Content, EdgeBody};
use crate::http1::{self, Bounds};
use crate::http2;
use crate::pipe::Pipe;
use crate::reply::Reply;
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::watch::Watch;

/// The target that is not answered.
pub const NEVER: &str = "/never";

/// What a head of HTTP/1 may have.
const BOUNDS: Bounds = Bounds { bytes: 2000, fields: 20 };

/// Turns that a connection may take for one piece that comes, and be woken again.
const TURNS: usize = 10_000;

/// Has HTTP/1 served to a client that sends these pieces and then closes its side; answers what it was sent.
///
/// # Panics
///
/// Where the connection does not end with that, or does not come to rest.
#[must_use]
pub fn http1<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let watch = Watch::new();
    let answers = answers(&watch);
    let pipe = Pipe::default();
    let mut connection = http1::Connection::new(pipe.clone(), Vec::new(), watch, BOUNDS, 1, answers);
    serve(&pipe, pieces, |cx| connection.poll(cx).map(|_| ()))
}

/// Has HTTP/2 served to a client that sends these pieces, of which the preface is the beginning, and then closes its side;
/// answers what it was sent.
///
/// # Panics
///
/// Where the connection does not end with that, or does not come to rest.
#[must_use]
pub fn http2<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let watch = Watch::new();
    watch.set_multiplexed();
    let answers = answers(&watch);
    let pipe = Pipe::default();
    let mut connection = http2::Connection::new(pipe.clone(), Vec::new(), watch, answers);
    serve(&pipe, pieces, |cx| connection.poll(cx).map(|_| ()))
}

fn answers(watch: &Arc<Watch>) -> impl FnMut(Box<RequestHead>, RequestBody) -> Answering + use<> {
    let watch = Arc::clone(watch);
    move |head, body| {
        // As the control plane has it.
        let (head, body) = head.to_http(body).expect("a request is one").into_parts();
        watch.on_request();
        let in_flight = watch.begin(false);
        let is_never = head.uri.path() == NEVER;
        if is_never {
            watch.goes_to_control();
        }
        Answering::begin(async move {
            if is_never {
                pending::<()>().await;
            }
            let body = match body.collect().await {
                Ok(body) => [format!("{} {} ", head.method, head.uri).as_bytes(), &body.to_bytes()].concat(),
                Err(_) => b"cut".to_vec(),
            };
            let body = EdgeBody::new(Content::Bytes(body.into()), in_flight);
            Reply { status: StatusCode::OK, fields: HeaderMap::new().into(), body }
        })
    }
}

/// Whether the connection was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

fn serve<'p>(
    pipe: &Pipe,
    pieces: impl IntoIterator<Item = &'p [u8]>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Vec<u8> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut turns = || {
        woken.0.store(true, Relaxed);
        for _ in 0..TURNS {
            if !woken.0.swap(false, Relaxed) {
                return false;
            }
            if poll(&mut Context::from_waker(&waker)).is_ready() {
                return true;
            }
        }
        panic!("the connection does not come to rest");
    };
    let ended_first = pieces.into_iter().any(|piece| {
        pipe.0.lock().to_server.extend(piece);
        turns()
    });
    if !ended_first {
        pipe.0.lock().is_closed = true;
        assert!(turns(), "the connection goes on without a client");
    }
    std::mem::take(&mut pipe.0.lock().to_client)
}
