//! What a connection owes and is owed, as values that note their end: a request in flight, and pieces that its client has to take.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Watch, add_one, take_one};

/// A request that is being answered. It lies in the answer's body, and ends with it.
#[derive(Debug)]
pub(crate) struct InFlight {
    watch: Arc<Watch>,
    sending: bool,
}

impl InFlight {
    /// One that has just begun, and which the connection counts already.
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        Self { watch: Arc::clone(watch), sending: false }
    }

    /// The bound of windows that the connection has of its own.
    pub(crate) fn connection_windows(&self) -> Option<Arc<Semaphore>> {
        self.watch.windows()
    }

    /// Bytes that the connection's socket took so far; nothing where the answers of several requests are among them.
    pub(crate) fn written(&self) -> Option<u64> {
        (!self.is_multiplexed()).then(|| self.watch.written.load(Relaxed))
    }

    /// From now on the client has to take the body.
    pub(crate) fn sending(mut self) -> Self {
        self.sending = true;
        self.watch.on_owed();
        self
    }

    /// Whether the connection has other requests too.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.watch.is_multiplexed()
    }

    /// The same bytes, which are all that is left of the answer; the request is in flight until they are dropped.
    pub(crate) fn until_taken(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _until: self })
    }

    /// What was waited for is there. The connection needs a turn before it writes: others may be waiting that needed nothing, and
    /// where the next bytes are there at once each time, the runtime would not look for those in between.
    pub(crate) fn need_turn(&self) {
        self.watch.need_turn();
    }

    /// From now on, and until what is returned is dropped, the client has to take a piece of the body that memory is held for.
    pub(crate) fn owed(&self) -> Owed {
        let generation = self.watch.generation.load(Relaxed);
        add_one(&self.watch.owed[generation]);
        let mut owed = self.owed_in_file();
        owed.generation = Some(generation);
        owed
    }

    /// The same of a piece that is sent from where it is stored: nobody is short of memory for as long as it is left.
    pub(crate) fn owed_in_file(&self) -> Owed {
        self.watch.on_owed();
        Owed { watch: Arc::clone(&self.watch), generation: None }
    }

    /// The same bytes; the client has to take them until they are dropped.
    pub(crate) fn owe(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _until: self.owed() })
    }
}

/// Something that the client has to take. It lies in the bytes that the layer below holds, and outlives the answer's body
/// where those are its last.
#[derive(Debug)]
pub(crate) struct Owed {
    watch: Arc<Watch>,
    /// Of those that memory is held for.
    generation: Option<usize>,
}

impl Drop for Owed {
    fn drop(&mut self) {
        take_one(&self.watch.sending);
        if let Some(generation) = self.generation {
            take_one(&self.watch.owed[generation]);
        }
    }
}

/// Bytes that something ends with.
struct Kept<T> {
    bytes: Bytes,
    _until: T,
}

impl<T> AsRef<[u8]> for Kept<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.sending {
            take_one(&self.watch.sending);
        }
        if take_one(&self.watch.in_flight) == 1 {
            let now = self.watch.now();
            self.watch.idle_since.store(now, Relaxed);
            if self.watch.unparsed.load(Relaxed) {
                // The next head came while this one was answered, at least a part of it.
                self.watch.head_since.store(now, Relaxed);
            }
            self.watch.unread_body.store(self.watch.reading_body.load(Relaxed), Relaxed);
            self.watch.reading_body.store(false, Relaxed);
        }
    }
}
