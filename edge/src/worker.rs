//! A worker: what all share, and what this one has for itself.

use std::ops::Deref;
use std::sync::Arc;

use crate::hot::Hot;
use crate::prepared::{PageHeads, Shapes};
use crate::service::Shared;

/// One of the threads that serve. What belongs to a connection or a request holds on to its worker, not to what all
/// workers share: a count that two cores change is passed between them with each request.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pub(crate) hot: Hot,
    pub(crate) pages: PageHeads,
    pub(crate) shapes: Shapes,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let hot = Hot::new(shared.hot_bytes);
        Arc::new(Self { shared, hot, pages: PageHeads::default(), shapes: Shapes::default() })
    }
}

impl Deref for Worker {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
