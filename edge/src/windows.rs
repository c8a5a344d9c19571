//! The memory that windows of files take: bounded over all answers, and for each connection that has many of them.
//!
//! A permit is taken before a window is read and lies in the window's bytes, so it comes back when the client has taken
//! them or is gone, however long the layer below holds them. Whoever finds nothing left waits its turn; clients that take
//! nothing are cut by their deadline, and while nothing is left so are those that leave a single window for that long, so
//! the turn comes.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::buffers::Buffer;
use crate::watch::Owed;

/// What a permit stands for, in bytes.
const UNIT: u64 = 4 << 10;

/// How many bytes of windows there may be.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    connection: Option<Arc<Semaphore>>,
}

impl Budget {
    /// `bytes` of windows over all answers.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { all: semaphore(bytes), connection: None }
    }

    /// The same, with a bound of its own for the answers of one connection, which `connection` has.
    pub(crate) fn within(&self, connection: Arc<Semaphore>) -> Self {
        Self { all: Arc::clone(&self.all), connection: Some(connection) }
    }

    /// Bytes of windows that there is room for.
    pub(crate) fn available(&self) -> u64 {
        self.all.available_permits() as u64 * UNIT
    }
}

/// The bound of one connection: `bytes` of windows.
pub(crate) fn semaphore(bytes: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes / UNIT).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)))
}

/// One answer's place in the queue for memory.
#[derive(Debug)]
pub(crate) struct Windows {
    all: PollSemaphore,
    connection: Option<PollSemaphore>,
    /// What the connection gave, while `all` is waited for.
    half: Option<OwnedSemaphorePermit>,
}

/// Memory for one window.
#[derive(Debug)]
pub(crate) struct Room {
    _all: OwnedSemaphorePermit,
    _connection: Option<OwnedSemaphorePermit>,
}

impl Windows {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            all: PollSemaphore::new(Arc::clone(&budget.all)),
            connection: budget.connection.clone().map(PollSemaphore::new),
            half: None,
        }
    }

    /// Waits for memory for a window of `bytes`.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Room> {
        const NEVER_CLOSED: &str = "the semaphore is never closed";
        if let (Some(connection), None) = (&mut self.connection, &self.half) {
            self.half = Some(ready!(connection.poll_acquire_many(cx, units(bytes))).expect(NEVER_CLOSED));
        }
        let all = ready!(self.all.poll_acquire_many(cx, units(bytes))).expect(NEVER_CLOSED);
        Poll::Ready(Room { _all: all, _connection: self.half.take() })
    }
}

/// The permits for `bytes`. A budget has more than one window's: that is checked when the edge is put together.
fn units(bytes: usize) -> u32 {
    u32::try_from((bytes as u64).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// A window's bytes, which give their memory back when they are dropped. Until then they are `owed` by the client.
pub(crate) fn window(bytes: Buffer, room: Room, owed: Option<Owed>) -> Bytes {
    Bytes::from_owner(Window { bytes, _room: room, _owed: owed })
}

struct Window {
    bytes: Buffer,
    _room: Room,
    _owed: Option<Owed>,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}
