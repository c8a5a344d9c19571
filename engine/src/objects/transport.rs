//! The HTTP client below the S3 store.
//!
//! One time limit over a whole request either cuts large objects on slow links, or notices a dead peer late. So what is
//! limited here is standing still: a connection attempt, the wait for the first byte of an answer, and any pause in which
//! not a byte moves either way. However slow a peer is, it is waited for as long as it goes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, timeout_at};

/// How much of a body is given to the socket at a time: fine enough to see that it goes on.
const PIECE: usize = 64 << 10;

/// How long a peer may stand still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a connection.
    pub(super) connect: Duration,
    /// For the first byte of the answer to a request without a body.
    pub(super) answer: Duration,
    /// In anything else.
    pub(super) pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), answer: Duration::from_secs(10), pause: Duration::from_secs(20) }
    }
}

/// The client, with its pool of connections.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    patience: Patience,
}

impl Transport {
    /// Prepares connections. With `cleartext`, nothing is asked over TLS, so no certificates are read: a machine may have
    /// none. With `direct`, proxies that the environment names are passed by.
    pub(super) fn new(patience: Patience, cleartext: bool, direct: bool) -> Result<Self, reqwest::Error> {
        // The one TLS provider of this program. A second install changes nothing, and is the only way that this fails.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pinstone/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            // A connection that a middlebox has forgotten would swallow the next request.
            .pool_idle_timeout(Duration::from_secs(30))
            // One request at a time and connection: large objects are not held up by each other.
            .http1_only()
            // The host is part of what is signed, so a request that is sent elsewhere fails there.
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if cleartext {
            builder = builder.tls_certs_only([]);
        }
        if direct {
            builder = builder.no_proxy();
        }
        Ok(Self { http: builder.build()?, patience })
    }
}

impl HttpConnector for Transport {
    // What the options say is said above: the store is given none.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// The peer stood still for too long.
#[derive(Debug, thiserror::Error)]
#[error("no byte moved for {} s", .0.as_secs())]
struct StoodStill(Duration);

impl StoodStill {
    fn after(patience: Duration) -> HttpError {
        HttpError::new(HttpErrorKind::Timeout, Self(patience))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let moved = Arc::new(Mutex::new(Instant::now()));
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let patience = if body.content_length() == 0 {
            *request.body_mut() = Some(Bytes::new().into());
            self.patience.answer
        } else {
            let body = SentBody { body, piece: Bytes::new(), moved: Arc::clone(&moved) };
            *request.body_mut() = Some(reqwest::Body::wrap(body));
            self.patience.pause
        };
        let mut answering = std::pin::pin!(self.http.execute(request));
        let answer = loop {
            let limit = *moved.lock() + patience;
            match timeout_at(limit, answering.as_mut()).await {
                Ok(answer) => break answer.map_err(failed)?,
                // More of the body was taken since.
                Err(_) if *moved.lock() + patience > limit => {}
                Err(_) => return Err(StoodStill::after(patience)),
            }
        };
        let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        let pause = self.patience.pause;
        let waiting = Box::pin(tokio::time::sleep(pause));
        let body = ReceivedBody { body, pause, waiting, is_waiting: false };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Says what kind of failure it is, which decides whether it is tried again: every request of the store may be repeated.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_builder() || error.is_redirect() {
        HttpErrorKind::Unknown
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        HttpErrorKind::Interrupted
    };
    // Whoever reports it names the URL.
    HttpError::new(kind, error.without_url())
}

/// A body that is sent, in pieces, and the moment when the last one was taken.
#[derive(Debug)]
struct SentBody {
    body: HttpRequestBody,
    /// What is left of the frame that is being sent.
    piece: Bytes,
    moved: Arc<Mutex<Instant>>,
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        *this.moved.lock() = Instant::now();
        while this.piece.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => this.piece = frame.into_data().unwrap_or_default(),
                other => return Poll::Ready(other),
            }
        }
        let piece = this.piece.split_to(this.piece.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint().exact().unwrap_or_default();
        SizeHint::with_exact(rest + self.piece.len() as u64)
    }
}

/// A body that is received, as long as it goes on.
#[derive(Debug)]
struct ReceivedBody {
    body: reqwest::Body,
    pause: Duration,
    waiting: Pin<Box<Sleep>>,
    /// Whether `waiting` runs for the bytes that are to come next.
    is_waiting: bool,
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        // It runs from when somebody waits: a reader that takes its time is no fault of the peer's.
        if !this.is_waiting {
            this.is_waiting = true;
            this.waiting.as_mut().reset(Instant::now() + this.pause);
        }
        ready!(this.waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(StoodStill::after(this.pause))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{PutPayload, client::HttpErrorKind};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const QUICK: Patience =
        Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(1), pause: Duration::from_secs(1) };

    /// A peer that does `work` with the first connection, and the URL to reach it by.
    async fn peer<F: Future<Output = ()> + Send>(work: impl FnOnce(TcpStream) -> F + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/object", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            work(stream).await;
        });
        url
    }

    async fn call(url: &str, body: Option<PutPayload>) -> Result<HttpResponse, HttpError> {
        let transport = Transport::new(QUICK, true, true).unwrap();
        let method = if body.is_some() { http::Method::PUT } else { http::Method::GET };
        let length = body.as_ref().map_or(0, PutPayload::content_length);
        let body = body.map_or_else(HttpRequestBody::empty, HttpRequestBody::from);
        let request = http::Request::builder().method(method).uri(url).header("content-length", length);
        transport.call(request.body(body).unwrap()).await
    }

    async fn head(stream: &mut TcpStream) {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_slow_peer_is_waited_for_as_long_as_it_goes_on() {
        // Three times as long as the patience, in steps of a quarter of it.
        let url = peer(|mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await.unwrap();
            for _ in 0..12 {
                tokio::time::sleep(QUICK.pause / 4).await;
                stream.write_all(b"x").await.unwrap();
            }
        })
        .await;
        let answer = call(&url, None).await.unwrap();
        assert_eq!(answer.into_body().bytes().await.unwrap(), "xxxxxxxxxxxx");
    }

    #[tokio::test]
    async fn a_slow_reader_is_no_fault_of_the_peer() {
        let url = peer(|mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxx").await.unwrap();
        })
        .await;
        let answer = call(&url, None).await.unwrap();
        tokio::time::sleep(QUICK.pause * 2).await;
        assert_eq!(answer.into_body().bytes().await.unwrap(), "xx");
    }

    #[tokio::test]
    async fn a_peer_that_stands_still_is_given_up() {
        let silent = peer(|mut stream| async move {
            head(&mut stream).await;
            std::future::pending().await
        })
        .await;
        assert_eq!(call(&silent, None).await.unwrap_err().kind(), HttpErrorKind::Timeout, "no answer");
        let half = peer(|mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx").await.unwrap();
            std::future::pending().await
        })
        .await;
        let answer = call(&half, None).await.unwrap();
        assert_eq!(answer.into_body().bytes().await.unwrap_err().kind(), HttpErrorKind::Timeout, "half a body");
        // More than socket buffers hold.
        let deaf = peer(|mut stream| async move {
            head(&mut stream).await;
            std::future::pending().await
        })
        .await;
        let body = PutPayload::from(vec![7; 64 << 20]);
        assert_eq!(call(&deaf, Some(body)).await.unwrap_err().kind(), HttpErrorKind::Timeout, "a body not taken");
    }

    #[tokio::test]
    async fn a_large_body_may_take_longer_than_any_pause() {
        let url = peer(|mut stream| async move {
            head(&mut stream).await;
            let mut left: usize = 64 << 20;
            let mut buffer = vec![0; 2 << 20];
            while left > 0 {
                left -= stream.read(&mut buffer).await.unwrap();
                // What lies in socket buffers at the end counts as sent, so that has to be taken in time.
                if left > 32 << 20 {
                    tokio::time::sleep(QUICK.pause / 10).await;
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        })
        .await;
        let body: PutPayload = (0..8).map(|_| Bytes::from(vec![7; 8 << 20])).collect();
        assert_eq!(call(&url, Some(body)).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_tried_again_and_one_that_is_not_there_too() {
        let gone = peer(|mut stream| async move { head(&mut stream).await }).await;
        assert_eq!(call(&gone, None).await.unwrap_err().kind(), HttpErrorKind::Interrupted);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = call(&format!("http://{closed}/"), None).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Connect);
    }
}
