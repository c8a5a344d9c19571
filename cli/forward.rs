//! From an edge thread to the control plane's own runtime and back.
//!
//! The call runs over there: an edge thread only moves frames, through bounded channels, so that neither side can fill
//! the memory of the other. A client's body is not asked for before the call asks for it, because asking tells a client
//! that waits with `Expect: 100-continue` (RFC 9110 section 10.1.1) to send it. When the client leaves, a read stops;
//! everything else runs to its end, because a commit whose answer nobody hears is still a commit. A body that breaks off
//! is an error at the other side, never an end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use pinstone_edge::{BoxError, ControlBody};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tower::Service;

/// Frames on their way between the two runtimes, for each direction of a call.
const FRAMES: usize = 16;

/// Runs calls of `service` on another runtime.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder<S> {
    service: S,
    runtime: Handle,
    calls: TaskTracker,
}

impl<S> Forwarder<S> {
    /// Forwards to `service` on `runtime`; `calls` knows every call until its end, whether its client stayed or not.
    pub(crate) fn new(service: S, runtime: Handle, calls: TaskTracker) -> Self {
        Self { service, runtime, calls }
    }
}

impl<S, B, A> Service<Request<B>> for Forwarder<S>
where
    S: Service<Request<Received>, Response = Response<A>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    A: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Response = Response<ControlBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let stops_with_client = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let (sender, mut received) = channel(&body);
        if !body.is_end_stream() {
            let (start, started) = oneshot::channel();
            received.start = Some(start);
            tokio::spawn(async move {
                // An error is that the call has dropped its side, so nobody wants the body.
                if started.await.is_ok() {
                    carry(body, sender).await;
                }
            });
        }
        let request = Request::from_parts(parts, received);
        let mut service = self.service.clone();
        let (answered, answer) = oneshot::channel();
        let call = async move {
            if let Err(never) = std::future::poll_fn(|context| service.poll_ready(context)).await {
                match never {}
            }
            let (parts, body) = match service.call(request).await {
                Ok(answer) => answer.into_parts(),
                Err(never) => match never {},
            };
            let (sender, received) = channel(&body);
            // Without a client there is nobody to carry the answer to.
            if answered.send(Response::from_parts(parts, received)).is_ok() {
                carry(body, sender).await;
            }
        };
        let task = self.calls.spawn_on(call, &self.runtime);
        let mut stop = StopOnDrop(stops_with_client.then(|| task.abort_handle()));
        Box::pin(async move {
            let answer = answer.await;
            // From here on the answer's body knows whether the client is still there.
            stop.client_is_there();
            Ok(match answer {
                Ok(answer) => answer.map(BodyExt::boxed_unsync),
                Err(_) => unavailable(),
            })
        })
    }
}

/// Stops a call when the client left before its answer.
struct StopOnDrop(Option<AbortHandle>);

impl StopOnDrop {
    fn client_is_there(&mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The answer where a call ended without one: its runtime is ending.
fn unavailable() -> Response<ControlBody> {
    let text = r#"{"error":"unavailable","message":"the server is ending","hint":"ask again in a few seconds"}"#;
    let mut answer =
        Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// A piece of a body on its way.
#[derive(Debug)]
enum Piece {
    Frame(Frame<Bytes>),
    Broken(BoxError),
    End,
}

/// A body that arrives through a channel.
#[derive(Debug)]
pub(crate) struct Received {
    /// Told when the first piece is wanted, where the carrier waits for that.
    start: Option<oneshot::Sender<()>>,
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
    left: SizeHint,
}

fn channel(body: &impl Body) -> (mpsc::Sender<Piece>, Received) {
    let (sender, pieces) = mpsc::channel(FRAMES);
    (sender, Received { start: None, pieces, ended: body.is_end_stream(), left: body.size_hint() })
}

/// Carries `body` to its end, or until nobody wants it any more.
async fn carry<B>(body: B, sender: mpsc::Sender<Piece>)
where
    B: Body<Data = Bytes, Error: Into<BoxError> + Send>,
{
    let mut body = std::pin::pin!(body);
    loop {
        let frame = tokio::select! {
            () = sender.closed() => return,
            frame = body.frame() => frame,
        };
        let piece = match frame {
            Some(Ok(frame)) => Piece::Frame(frame),
            Some(Err(error)) => Piece::Broken(error.into()),
            None => Piece::End,
        };
        let last = !matches!(piece, Piece::Frame(_));
        if sender.send(piece).await.is_err() || last {
            return;
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(start) = self.start.take() {
            // A carrier that is gone is noticed below, by its channel.
            let _ = start.send(());
        }
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        Poll::Ready(match piece {
            Some(Piece::Frame(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.left = less(&self.left, data.len() as u64);
                }
                Some(Ok(frame))
            }
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            Some(Piece::Broken(error)) => {
                self.ended = true;
                Some(Err(error))
            }
            // The carrier is gone without having said that this is the end.
            None => {
                self.ended = true;
                Some(Err("the body broke off".into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}

/// What `hint` says once `length` bytes have arrived.
fn less(hint: &SizeHint, length: u64) -> SizeHint {
    let mut left = SizeHint::new();
    if let Some(upper) = hint.upper() {
        left.set_upper(upper.saturating_sub(length));
    }
    left.set_lower(hint.lower().saturating_sub(length));
    left
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::{FutureExt, stream};
    use http_body_util::StreamBody;
    use tower::ServiceExt;

    use super::*;

    type Parts = Vec<Result<Bytes, &'static str>>;

    fn body(parts: Parts) -> impl Body<Data = Bytes, Error = BoxError> + Send + 'static {
        StreamBody::new(stream::iter(parts.into_iter().map(|part| part.map(Frame::data).map_err(BoxError::from))))
    }

    fn forwarder<S>(service: S) -> Forwarder<S> {
        Forwarder::new(service, Handle::current(), TaskTracker::new())
    }

    #[tokio::test]
    async fn bodies_go_both_ways_whole() {
        let echo = tower::service_fn(|request: Request<Received>| async { Ok(Response::new(request.into_body())) });
        let parts: Parts = (0..100_u8).map(|number| Ok(Bytes::from(vec![number; 1000]))).collect();
        let want: Vec<u8> = (0..100_u8).flat_map(|number| vec![number; 1000]).collect();
        let answer = forwarder(echo).oneshot(Request::post("/").body(body(parts)).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), want);
    }

    #[tokio::test]
    async fn lengths_are_kept() {
        let echo = tower::service_fn(|request: Request<Received>| async move {
            assert_eq!(request.body().size_hint().exact(), Some(3));
            Ok(Response::new(Full::new(Bytes::from_static(b"four"))))
        });
        let request = Request::post("/").body(Full::new(Bytes::from_static(b"abc"))).unwrap();
        let mut answer = forwarder(echo).oneshot(request).await.unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(4));
        answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_end() {
        let read = tower::service_fn(|request: Request<Received>| async {
            let whole = request.into_body().collect().await.is_ok();
            Ok(Response::new(Full::new(Bytes::from(whole.to_string()))))
        });
        let parts = vec![Ok(Bytes::from_static(b"a")), Err("reset")];
        let answer = forwarder(read).oneshot(Request::post("/").body(body(parts)).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "false");
    }

    /// A body that tells whether it was asked for a frame, and never has one.
    struct Watched(Arc<AtomicBool>, #[expect(dead_code, reason = "counts who still holds the body")] Arc<()>);

    impl Body for Watched {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.store(true, Ordering::Relaxed);
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_is_not_asked_for() {
        let (polled, held) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
        let refuse = tower::service_fn(|request: Request<Received>| async move {
            // Long enough for a carrier that does not wait to ask.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            drop(request);
            Ok(Response::new(Full::new(Bytes::from_static(b"no"))))
        });
        let body = Watched(Arc::clone(&polled), Arc::clone(&held));
        let answer = forwarder(refuse).oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
        assert!(!polled.load(Ordering::Relaxed));
        // The carrier, which owns the body, ends once the call has dropped its side.
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_body_that_is_read_is_asked_for() {
        let (polled, held) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
        let peek = tower::service_fn(|request: Request<Received>| async {
            let mut body = request.into_body();
            assert!(body.frame().now_or_never().is_none());
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            Ok(Response::new(Full::<Bytes>::default()))
        });
        let body = Watched(Arc::clone(&polled), Arc::clone(&held));
        forwarder(peek).oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        assert!(polled.load(Ordering::Relaxed));
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Whether a call of `method` came to its end although its client left.
    async fn ends_without_client(method: Method) -> bool {
        let done = Arc::new(AtomicBool::new(false));
        let (seen, go) = (Arc::clone(&done), Arc::new(tokio::sync::Semaphore::new(0)));
        let wait = Arc::clone(&go);
        let slow = tower::service_fn(move |_: Request<Received>| {
            let (done, wait) = (Arc::clone(&seen), Arc::clone(&wait));
            async move {
                let _permit = wait.acquire().await.expect("the semaphore is never closed");
                done.store(true, Ordering::Relaxed);
                Ok(Response::new(Full::<Bytes>::default()))
            }
        });
        let forwarder = forwarder(slow);
        let calls = forwarder.calls.clone();
        let request = Request::builder().method(method).body(Full::<Bytes>::default()).unwrap();
        // Polled once and dropped: the client leaves before the answer.
        assert!(forwarder.oneshot(request).now_or_never().is_none());
        go.add_permits(1);
        calls.close();
        calls.wait().await;
        done.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn reads_stop_with_their_client_and_commits_do_not() {
        assert!(!ends_without_client(Method::GET).await);
        assert!(ends_without_client(Method::POST).await);
        assert!(ends_without_client(Method::DELETE).await);
    }

    #[tokio::test]
    async fn a_call_that_panics_is_answered() {
        let panics = tower::service_fn(|request: Request<Received>| async move {
            assert!(request.method() == Method::PUT, "this is the panic of the test");
            Ok(Response::new(Full::<Bytes>::default()))
        });
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let answer = forwarder(panics).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
