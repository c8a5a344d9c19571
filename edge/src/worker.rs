//! A worker: what all share, and what this one has for itself.

use std::ops::Deref;
use std::sync::Arc;

use crate::hot::Hot;
use crate::prepared::{PageHeads, Shapes};
use crate::service::Shared;
use crate::turns::Turns;

/// One of the threads that serve. What belongs to a connection or a request holds on to its worker, not to what all
/// workers share: a count that two cores change is passed between them with each request.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pub(crate) hot: Hot,
    pub(crate) pages: PageHeads,
    pub(crate) shapes: Shapes,
    pub(crate) turns: Arc<Turns>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let hot = Hot::new(shared.hot_bytes);
        let (pages, shapes, turns) = (PageHeads::default(), Shapes::default(), Arc::default());
        Arc::new(Self { shared, hot, pages, shapes, turns })
    }
}

impl Deref for Worker {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
