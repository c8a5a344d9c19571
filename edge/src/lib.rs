//! The edge file server of Pinstone: from the Host of a request to bytes.
//!
//! Host → pointer → manifest → entry → bytes. The first step looks into a table in memory, the rest into caches keyed by
//! hash; a request never waits for the metadata store. Each worker thread has its own runtime and its own accept queue,
//! and nothing that blocks runs there: what has to be loaded is loaded on another runtime, and awaited.
//!
//! The decisions are pure functions on types of their own: [`request`], [`path`], [`navigation`], [`encoding`],
//! [`conditional`], [`range`], [`multipart`], [`digest`], [`entity`] and [`head`]. What lies below them can be exchanged.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pinstone_engine::resolve::Resolver;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod access_log;
mod account;
mod answer;
mod answering;
mod body;
mod buffers;
mod cache;
mod canonical;
mod client;
pub mod conditional;
mod config;
mod connection;
mod control;
mod date;
mod debug;
pub mod digest;
mod edge_metrics;
pub mod encoding;
pub mod entity;
mod error;
mod fields;
mod forwarded;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guard;
pub mod head;
mod hot;
mod http1;
mod http2;
mod https;
mod incoming;
mod intake;
mod listener;
mod mapped;
pub mod metrics;
pub mod multipart;
pub mod navigation;
mod often;
mod outgoing;
pub mod pages;
mod parts;
pub mod path;
mod per_source;
mod piece;
#[cfg(any(test, feature = "fuzzing"))]
mod pipe;
mod place;
mod prepared;
mod proxy_header;
pub mod range;
mod renamed;
mod reply;
pub mod request;
mod request_body;
mod request_head;
mod respond;
mod service;
mod site;
mod socket;
mod source;
mod splice;
mod stream;
mod telemetry;
pub mod tls;
mod turns;
mod watch;
mod windows;
mod worker;

pub use access_log::{AccessLog, AccessLogConfig, AccessLogFormat, AccessLogTarget, Lost, NotAFormat};
pub use client::{Client, Network, Networks, NotANetwork};
pub use config::{CacheConfig, ConfigError, EdgeConfig, Limits};
pub use control::{BoxError, ControlBody, ControlService};
pub use edge_metrics::EdgeMetrics;
pub use https::HttpsConfig;
pub use listener::{BindError, Listeners};
pub use request_body::RequestBody;
pub use telemetry::{Counters, Refusal};
pub use tls::{CertificateSources, Certificates};

use crate::cache::Caches;
use crate::listener::Listener;
use crate::mapped::LargeFiles;
use crate::per_source::Sources;
use crate::respond::Sending;
use crate::service::Shared;
use crate::windows::Budget;

/// Bytes of a file that one stream of HTTP/2 holds at a time: one frame, for a connection has 128 streams. With its head of
/// 9 bytes it makes one whole record of TLS.
const STREAM_WINDOW: usize = (16 << 10) - 9;

/// The same where the kernel sends them as they lie: what is in memory may be taken away while a stream waits for its window to open, so it
/// is looked at again for each of these.
const STREAM_PIECE: usize = 256 << 10;

/// An edge that is ready to serve.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
    loader: Handle,
}

/// Why an edge stopped serving before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listeners have no address.
    #[error("there are no listening sockets")]
    NoListeners,
    /// TLS is to be spoken, and there is nothing to show.
    #[error("there are no certificates for the addresses that TLS is spoken on")]
    NoCertificates,
    /// A worker did not start or could not go on.
    #[error("an edge worker failed")]
    Worker(#[source] io::Error),
    /// A worker panicked.
    #[error("an edge worker panicked")]
    Panicked,
}

impl Edge {
    /// Puts an edge together. Requests for control hosts go to `control`; without one they are answered with 404.
    ///
    /// # Errors
    ///
    /// Where a bound of `config` cannot be served with.
    pub fn new(config: EdgeConfig, resolver: Resolver, control: Option<ControlService>) -> Result<Self, ConfigError> {
        config.check()?;
        let EdgeConfig {
            hosts, loader, workers, limits, cache, access_log, debug_headers, certificates, https, ..
        } = config;
        let (trusted, proxy_protocol, uncapped) = (config.trusted_proxies, config.proxy_protocol, config.uncapped);
        let sources = Arc::new(Sources::new(limits.connections_per_source, [trusted.clone(), uncapped]));
        let hsts = https.hsts_field();
        let budget = Budget::new(limits.window_memory);
        let sending = Sending {
            window: limits.window_bytes,
            budget,
            pool: loader.clone(),
            large_files: LargeFiles::without_tls(config.sendfile),
            piece: usize::MAX,
        };
        let sending_sealed = Sending { large_files: LargeFiles::Read, ..sending.clone() };
        let (window, piece) = (limits.window_bytes.min(STREAM_WINDOW), STREAM_PIECE);
        let sending_sealed_streams = Sending { window, piece, ..sending_sealed.clone() };
        // What is copied out of a mapping may not be put together with others.
        let large_files = match sending.large_files {
            LargeFiles::Sent => LargeFiles::Sent,
            LargeFiles::Copied | LargeFiles::Read => LargeFiles::Read,
        };
        let sending_streams = Sending { large_files, ..sending_sealed_streams.clone() };
        let counters = Arc::new(Counters::new(workers));
        let caches = Caches::new(&cache, sending.large_files, resolver, loader.clone(), Arc::clone(&counters));
        let shared = Arc::new(Shared {
            hosts,
            limits,
            caches,
            hot_bytes: usize::try_from(cache.hot_bytes).unwrap_or(usize::MAX) / workers.get(),
            control,
            counters,
            access_log,
            debug_headers,
            sending,
            sending_sealed,
            sending_streams,
            sending_sealed_streams,
            certificates,
            redirect: https.redirect,
            hsts,
            trusted,
            proxy_protocol,
            sources,
        });
        Ok(Self { shared, loader })
    }

    /// What this edge tells Prometheus.
    #[must_use]
    pub fn metrics(&self) -> EdgeMetrics {
        EdgeMetrics(Arc::clone(&self.shared))
    }

    /// What this edge counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Serves on `listeners`, with a thread for each worker that they were made for, until `shutdown`; then stops
    /// accepting, finishes what is in flight within the grace, and cuts the rest. Dropping the future shuts down too.
    ///
    /// # Errors
    ///
    /// Where a worker fails; the others are shut down first.
    pub async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
        let shutdown = shutdown.child_token();
        let _ends_with_this_future = shutdown.clone().drop_guard();
        let permits = Arc::new(self.permits());
        let sockets = self.sockets(listeners)?;
        let reloading = self.keep_certificates_fresh(&shutdown);
        let mut workers = FuturesUnordered::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&permits));
            let stop = shutdown.clone();
            let work = move || {
                shared.counters.count_as_worker(index);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let result =
                    runtime.and_then(|runtime| runtime.block_on(listener::run(shared, sockets, permits, stop)));
                // Nobody listens where the future that serves was dropped.
                let _ = ended.send(result);
            };
            std::thread::Builder::new().name(format!("edge-{index}")).spawn(work).map_err(ServeError::Worker)?;
            workers.push(end);
        }
        let mut outcome = Ok(());
        while let Some(ended) = workers.next().await {
            let result = match ended {
                Ok(result) => result.map_err(ServeError::Worker),
                Err(_) => Err(ServeError::Panicked),
            };
            if result.is_err() {
                shutdown.cancel();
                outcome = outcome.and(result);
            }
        }
        shutdown.cancel();
        end(reloading).await;
        outcome
    }

    /// Serves on `listeners` within the calling task, without a thread of its own, until `shutdown`; then ends as
    /// [`Edge::serve`] does. For a program whose runtime has one thread, and for counting what a request costs.
    ///
    /// # Errors
    ///
    /// Where there is nothing to listen on.
    pub async fn serve_here(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
        let sockets: Vec<_> = self.sockets(listeners)?.into_iter().flatten().collect();
        let shutdown = shutdown.child_token();
        let _ends_with_this_future = shutdown.clone().drop_guard();
        let permits = Arc::new(self.permits());
        let reloading = self.keep_certificates_fresh(&shutdown);
        let served = listener::run(self.shared, sockets, permits, shutdown.clone()).await;
        shutdown.cancel();
        end(reloading).await;
        served.map_err(ServeError::Worker)
    }

    /// The sockets of each worker, if there is something to serve on all of them.
    fn sockets(&self, listeners: Listeners) -> Result<Vec<Vec<Listener>>, ServeError> {
        if listeners.addresses().is_empty() {
            return Err(ServeError::NoListeners);
        }
        if !listeners.tls_addresses().is_empty() && self.shared.certificates.is_none() {
            return Err(ServeError::NoCertificates);
        }
        Ok(listeners.into_workers())
    }

    fn keep_certificates_fresh(&self, shutdown: &CancellationToken) -> Option<JoinHandle<()>> {
        let certificates = self.shared.certificates.clone()?;
        Some(self.loader.spawn(certificates.keep_fresh(shutdown.clone())))
    }

    fn permits(&self) -> Semaphore {
        Semaphore::new(self.shared.limits.connections.min(Semaphore::MAX_PERMITS))
    }
}

/// Waits for the end of a task that was told to end.
async fn end(task: Option<JoinHandle<()>>) {
    if let Some(task) = task
        && let Err(error) = task.await
        && error.is_panic()
    {
        tracing::error!(%error, "the task that looks after certificates panicked");
    }
}
