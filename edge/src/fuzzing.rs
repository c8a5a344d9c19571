//! Connections in memory, for the fuzz targets: whatever a client sends comes here as it would from a socket.
//!
//! A request is answered with its method, its target and its body, which is read first; one for `/never` is not answered, as by
//! a control plane that takes its time.

use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;

use crate::answering::Answering;
use crate::body::{Content, EdgeBody};
use crate::http1::{self, Bounds};
use crate::http2;
use crate::pipe::{Pipe, poll_to_rest};
use crate::reply::Reply;
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::watch::Watch;

/// The target that is not answered.
const NEVER: &str = "/never";

/// What a head of HTTP/1 may have.
const BOUNDS: Bounds = Bounds { bytes: 2000, fields: 20 };

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

fn serve<'p>(
    pipe: &Pipe,
    pieces: impl IntoIterator<Item = &'p [u8]>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Vec<u8> {
    let ended_first = pieces.into_iter().any(|piece| {
        pipe.0.lock().to_server.extend(piece);
        poll_to_rest(&mut poll).is_ready()
    });
    if !ended_first {
        pipe.0.lock().is_closed = true;
        assert!(poll_to_rest(poll).is_ready(), "the connection goes on without a client");
    }
    std::mem::take(&mut pipe.0.lock().to_client)
}
