//! What operators and their machines ask: `/metrics`, `/healthz`, `/readyz`.
//!
//! All three are on a listener of their own, where one is configured; the last two are also at the root of control hosts,
//! so that a load balancer needs no second port. They are not on hosts of sites, whose paths belong to the sites. The
//! listener runs on the control plane's runtime and goes on until the edge has ended, so a drain can be watched.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pinstone_edge::metrics::{self, Exposition, Kind, MetricSource};
use pinstone_edge::{BoxError, ControlBody};
use pinstone_engine::{Engine, Health};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

mod feed;
mod process;
mod readiness;

use feed::FeedWatch;

/// Connections to the listener at once. Whoever looks at it is one of few.
const CONNECTIONS: usize = 32;
/// How long a head may take there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what the stores answered is believed: anybody may ask a control host.
const HEALTH_AGAIN: Duration = Duration::from_secs(1);
/// A store that takes longer does not answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long accepting pauses when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Knows whether the server is well. Every clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Probes(Arc<Known>);

#[derive(Debug)]
struct Known {
    engine: Engine,
    draining: CancellationToken,
    health: Mutex<Option<(Instant, Health)>>,
}

/// Knows all that can be asked.
pub(crate) struct Monitor {
    probes: Probes,
    sources: Vec<Box<dyn MetricSource>>,
    feed: FeedWatch,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("probes", &self.probes).finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Question {
    Healthy,
    Ready,
    Metrics,
}

impl Question {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Healthy),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }

    /// Whether it may be asked of a control host, by anybody.
    fn is_public(self) -> bool {
        match self {
            Self::Healthy | Self::Ready => true,
            Self::Metrics => false,
        }
    }
}

impl Probes {
    /// Watches `engine`, and counts as not ready once `draining` is cancelled.
    pub(crate) fn new(engine: Engine, draining: CancellationToken) -> Self {
        Self(Arc::new(Known { engine, draining, health: Mutex::default() }))
    }

    fn healthy() -> Response<Full<Bytes>> {
        text(StatusCode::OK, "application/json", "{\"status\":\"ok\"}\n")
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let report = self.judge(&self.health().await);
        let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, "application/json", report.to_json())
    }

    fn judge(&self, health: &Health) -> readiness::Report {
        readiness::judge(self.0.draining.is_cancelled(), health)
    }

    /// How the stores are, as they were a second ago at most.
    async fn health(&self) -> Health {
        let mut last = self.0.health.lock().await;
        match *last {
            Some((at, health)) if at.elapsed() < HEALTH_AGAIN => health,
            _ => {
                let asked = tokio::time::timeout(HEALTH_TIMEOUT, self.0.engine.health()).await;
                let health = asked.unwrap_or(SILENT);
                *last = Some((Instant::now(), health));
                health
            }
        }
    }
}

impl Monitor {
    /// Answers what `probes` know, and what `sources` measure.
    pub(crate) fn new(probes: Probes, sources: Vec<Box<dyn MetricSource>>) -> Self {
        Self { probes, sources, feed: FeedWatch::default() }
    }

    /// Serves on a listener until `end`.
    pub(crate) async fn serve(self, listener: TcpListener, end: CancellationToken) {
        let monitor = Arc::new(self);
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = TaskTracker::new();
        loop {
            // At the limit, new connections wait in the listen backlog.
            let accepted = async { (Arc::clone(&permits).acquire_owned().await, listener.accept().await) };
            let (permit, accepted) = tokio::select! {
                () = end.cancelled() => break,
                accepted = accepted => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the metrics was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (monitor, end) = (Arc::clone(&monitor), end.clone());
            connections.spawn(async move {
                let _permit = permit;
                let service = service_fn(move |request: Request<Incoming>| {
                    let monitor = Arc::clone(&monitor);
                    async move { Ok::<_, Infallible>(monitor.answer(request.method(), request.uri().path()).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                tokio::select! {
                    // How a connection ended is its client's business.
                    _ = server.serve_connection(TokioIo::new(stream), service) => {}
                    () = end.cancelled() => {}
                }
            });
        }
        connections.close();
        connections.wait().await;
    }

    async fn answer(self: &Arc<Self>, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match (Question::of(path), method) {
            (Some(Question::Healthy), &Method::GET | &Method::HEAD) => Probes::healthy(),
            (Some(Question::Ready), &Method::GET | &Method::HEAD) => self.probes.ready().await,
            (Some(Question::Metrics), &Method::GET | &Method::HEAD) => self.metrics().await,
            (Some(_), _) => {
                let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n");
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
            (None, _) => text(StatusCode::NOT_FOUND, "text/plain", "there are /metrics, /healthz and /readyz\n"),
        }
    }

    async fn metrics(self: &Arc<Self>) -> Response<Full<Bytes>> {
        let health = self.probes.health().await;
        let monitor = Arc::clone(self);
        // Counting descriptors reads a folder.
        match tokio::task::spawn_blocking(move || monitor.exposition(&health)).await {
            Ok(exposition) => text(StatusCode::OK, metrics::CONTENT_TYPE, exposition),
            Err(error) => {
                tracing::error!(%error, "the metrics could not be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the log says why\n")
            }
        }
    }

    fn exposition(&self, health: &Health) -> String {
        let mut out = Exposition::new();
        out.family("pinstone_build_info", Kind::Gauge, "Which program this is; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let is_ready = self.probes.judge(health).is_ready();
        out.gauge("pinstone_ready", "Whether /readyz answers 200.", u8::from(is_ready));
        out.family("pinstone_store_up", Kind::Gauge, "Whether a store answers, and takes what is written.")
            .sample(&[("store", "metadata")], u8::from(health.metadata))
            .sample(&[("store", "objects")], u8::from(health.objects));
        self.feed.write(&self.probes.0.engine.feed(), Instant::now(), &mut out);
        for source in &self.sources {
            source.write(&mut out);
        }
        process::write(&mut out);
        out.into_text()
    }
}

/// What is known of stores that do not answer in time.
const SILENT: Health = Health { metadata: false, metadata_reads: false, objects: false, objects_cached: false };

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The control plane, with `/healthz` and `/readyz` in front of it.
#[derive(Clone, Debug)]
pub(crate) struct Probed<S> {
    service: S,
    probes: Probes,
}

impl<S> Probed<S> {
    pub(crate) fn new(service: S, probes: Probes) -> Self {
        Self { service, probes }
    }
}

impl<S, B, A> Service<Request<B>> for Probed<S>
where
    S: Service<Request<B>, Response = Response<A>, Error = Infallible, Future: Send + 'static>,
    A: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ControlBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let question = Question::of(request.uri().path()).filter(|question| question.is_public());
        match (question, request.method()) {
            (Some(question), &Method::GET | &Method::HEAD) => {
                let probes = self.probes.clone();
                Box::pin(async move {
                    let answer = match question {
                        Question::Ready => probes.ready().await,
                        Question::Healthy | Question::Metrics => Probes::healthy(),
                    };
                    Ok(answer
                        .map(|body| body.map_err(|never: Infallible| -> BoxError { match never {} }).boxed_unsync()))
                })
            }
            _ => {
                let call = self.service.call(request);
                Box::pin(async move {
                    match call.await {
                        Ok(answer) => Ok(answer.map(|body| body.map_err(Into::<BoxError>::into).boxed_unsync())),
                        Err(never) => match never {},
                    }
                })
            }
        }
    }
}

#[cfg(test)]
#[path = "../tests/support/prometheus_text.rs"]
mod prometheus_text;

#[cfg(test)]
mod tests {
    use super::*;

    use pinstone_engine::clock::Clock;
    use tower::ServiceExt;

    async fn probes(draining: CancellationToken) -> Probes {
        Probes::new(Engine::in_memory(Clock::system()).await, draining)
    }

    async fn monitor(draining: CancellationToken) -> Arc<Monitor> {
        let source = |out: &mut Exposition| out.gauge("pinstone_test_days", "A test.", 3);
        Arc::new(Monitor::new(probes(draining).await, vec![Box::new(source)]))
    }

    async fn ask(monitor: &Arc<Monitor>, method: Method, path: &str) -> (StatusCode, String) {
        let response = monitor.answer(&method, path).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        let monitor = monitor(CancellationToken::new()).await;
        let healthy = ask(&monitor, Method::GET, "/healthz").await;
        assert_eq!(healthy, (StatusCode::OK, "{\"status\":\"ok\"}\n".to_owned()));
        let ready = ask(&monitor, Method::GET, "/readyz").await;
        assert_eq!(ready, (StatusCode::OK, "{\"status\":\"ready\",\"reasons\":[]}\n".to_owned()));
        assert_eq!(ask(&monitor, Method::POST, "/metrics").await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(&monitor, Method::GET, "/metrics/").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn metrics_keep_the_rules_of_their_format() {
        let monitor = monitor(CancellationToken::new()).await;
        let (status, text) = ask(&monitor, Method::GET, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        let parsed = prometheus_text::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(parsed.value("pinstone_test_days", &[]), Some(3.0), "a source is asked");
        assert_eq!(parsed.value("pinstone_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
        assert_eq!(parsed.value("pinstone_store_up", &[("store", "metadata")]), Some(1.0));
        assert_eq!(parsed.value("pinstone_feed_lag_events", &[]), Some(0.0));
        assert!(parsed.value("process_open_fds", &[]).is_some_and(|count| count > 2.0), "{text}");
        assert!(parsed.families().all(|name| name.starts_with("pinstone_") || name.starts_with("process_")), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_is_ending_is_not_ready_and_healthy_still() {
        let draining = CancellationToken::new();
        let monitor = monitor(draining.clone()).await;
        draining.cancel();
        let (status, text) = ask(&monitor, Method::GET, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("\"draining\""), "{text}");
        assert_eq!(ask(&monitor, Method::GET, "/healthz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn control_hosts_answer_probes_and_pass_on_the_rest() {
        let behind = tower::service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("behind {}", request.uri()))))
        });
        let probed = Probed::new(behind, probes(CancellationToken::new()).await);
        for (method, path, want) in [
            (Method::GET, "/healthz", "{\"status\":\"ok\"}\n"),
            (Method::GET, "/readyz", "{\"status\":\"ready\",\"reasons\":[]}\n"),
            (Method::POST, "/readyz", "behind /readyz"),
            (Method::GET, "/metrics", "behind /metrics"),
            (Method::GET, "/api/v1/health", "behind /api/v1/health"),
        ] {
            let request = Request::builder().method(method.clone()).uri(path).body(()).unwrap();
            let response = probed.clone().oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, want, "{method} {path}");
        }
    }
}
