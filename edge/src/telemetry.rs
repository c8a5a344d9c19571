//! Counters that a running edge keeps.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an edge has done and is doing. Each number is right by itself; together they are not of one moment.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
}

impl Counters {
    /// Requests that were understood, since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted_connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
