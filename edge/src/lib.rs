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
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

mod access_log;
mod account;
mod body;
mod cache;
pub mod conditional;
mod config;
mod connection;
mod control;
mod debug;
pub mod digest;
mod edge_metrics;
pub mod encoding;
pub mod entity;
mod error;
mod gather;
pub mod head;
mod listener;
pub mod metrics;
pub mod multipart;
pub mod navigation;
pub mod pages;
mod parts;
pub mod path;
pub mod range;
pub mod request;
mod respond;
mod service;
mod site;
mod stream;
mod telemetry;
mod watch;
mod windows;

pub use access_log::{AccessLog, AccessLogConfig, AccessLogFormat, AccessLogTarget, Lost, NotAFormat};
pub use config::{CacheConfig, ConfigError, EdgeConfig, Limits};
pub use control::{BoxError, ControlBody, ControlService, Peer};
pub use edge_metrics::EdgeMetrics;
pub use listener::{BindError, Listeners};
pub use telemetry::{Counters, Refusal};

use crate::cache::Caches;
use crate::respond::Sending;
use crate::service::Shared;
use crate::windows::Budget;

/// Bytes of a file that one stream of HTTP/2 holds at a time: one frame, for a connection has 128 streams.
const STREAM_WINDOW: usize = 16 << 10;

/// An edge that is ready to serve.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
}

/// Why an edge stopped serving before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listeners have no address.
    #[error("there are no listening sockets")]
    NoListeners,
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
        let EdgeConfig { hosts, loader, workers, limits, cache, access_log, debug_headers } = config;
        let sending =
            Sending { window: limits.window_bytes, budget: Budget::new(limits.window_memory), pool: loader.clone() };
        let sending_streams = Sending { window: limits.window_bytes.min(STREAM_WINDOW), ..sending.clone() };
        let counters = Arc::new(Counters::new(workers));
        let caches = Caches::new(&cache, resolver, loader, Arc::clone(&counters));
        let shared = Arc::new(Shared {
            hosts,
            limits,
            caches,
            control,
            counters,
            access_log,
            debug_headers,
            sending,
            sending_streams,
        });
        Ok(Self { shared })
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
        let mut workers = FuturesUnordered::new();
        for (index, sockets) in listeners.into_workers().into_iter().enumerate() {
            if sockets.is_empty() {
                return Err(ServeError::NoListeners);
            }
            let (ended, end) = oneshot::channel();
            let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&permits));
            let stop = shutdown.clone();
            let work = move || {
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
        outcome
    }

    /// Serves on `listeners` within the calling task, without a thread of its own, until `shutdown`; then ends as
    /// [`Edge::serve`] does. For a program whose runtime has one thread, and for counting what a request costs.
    ///
    /// # Errors
    ///
    /// Where there is nothing to listen on.
    pub async fn serve_here(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), ServeError> {
        let sockets: Vec<_> = listeners.into_workers().into_iter().flatten().collect();
        if sockets.is_empty() {
            return Err(ServeError::NoListeners);
        }
        let shutdown = shutdown.child_token();
        let _ends_with_this_future = shutdown.clone().drop_guard();
        let permits = Arc::new(self.permits());
        listener::run(self.shared, sockets, permits, shutdown).await.map_err(ServeError::Worker)
    }

    fn permits(&self) -> Semaphore {
        Semaphore::new(self.shared.limits.connections.min(Semaphore::MAX_PERMITS))
    }
}
