//! The metadata store: every mutable fact of the system, under ordered keys.
//!
//! One trait, several engines. An engine knows bytes, checks and an event feed; all rules live once, in the typed
//! repositories of [`records`](crate::records).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod memory;
#[cfg(feature = "rocksdb")]
mod rocks;

pub use memory::MemoryMeta;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksStore;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1 << 10;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;
/// The most checks, puts, deletes and events of one commit, taken together.
pub const MAX_CHANGES: usize = 128;

/// An ordered key: compared byte by byte.
pub type Key = Bytes;

/// A number that grows with every commit. Items carry the revision of the commit that last wrote them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

/// A value, and when it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// The value.
    pub value: Bytes,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// What must be true of a key for a commit to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// The key is not there.
    Absent,
    /// The key is there, whatever it says.
    Exists,
    /// The key was last written by this commit.
    Revision(Revision),
}

/// What a commit is known by, so that sending it again does nothing new.
pub type CommitId = [u8; 32];

/// Checks and changes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What must be true, before any change.
    pub checks: Vec<(Key, Check)>,
    /// Keys that get a value.
    pub puts: Vec<(Key, Bytes)>,
    /// Keys that go away; their absence is not an error.
    pub deletes: Vec<Key>,
    /// What the feed tells of it.
    pub events: Vec<Bytes>,
    /// Where given, a second commit of the same id changes nothing and has the first one's outcome.
    pub id: Option<CommitId>,
}

impl Commit {
    /// An empty commit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check.
    #[must_use]
    pub fn check(mut self, key: Key, check: Check) -> Self {
        self.checks.push((key, check));
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn put(mut self, key: Key, value: Bytes) -> Self {
        self.puts.push((key, value));
        self
    }

    /// Adds a removal.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.deletes.push(key);
        self
    }

    /// Adds an event.
    #[must_use]
    pub fn event(mut self, event: Bytes) -> Self {
        self.events.push(event);
        self
    }

    /// Whether it is within the bounds that every engine takes.
    ///
    /// # Errors
    ///
    /// [`MetaError::TooLarge`] where it is not.
    pub fn check_bounds(&self) -> Result<(), MetaError> {
        let changes = self.checks.len() + self.puts.len() + self.deletes.len() + self.events.len();
        let mut keys =
            self.checks.iter().map(|(key, _)| key).chain(self.puts.iter().map(|(key, _)| key)).chain(&self.deletes);
        let mut values = self.puts.iter().map(|(_, value)| value).chain(&self.events);
        if changes > MAX_CHANGES {
            return Err(MetaError::TooLarge { what: "commit" });
        }
        if keys.any(|key| key.is_empty() || key.len() > MAX_KEY) {
            return Err(MetaError::TooLarge { what: "key" });
        }
        if values.any(|value| value.len() > MAX_VALUE) {
            return Err(MetaError::TooLarge { what: "value" });
        }
        Ok(())
    }
}

/// What became of a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It happened, and survives a crash.
    Done {
        /// The revision that its writes carry.
        revision: Revision,
        /// The position of the feed after its events.
        position: u64,
    },
    /// A check failed, and nothing changed.
    Refused {
        /// The key whose check failed; the first one, in the order given.
        key: Key,
    },
}

/// A page of the event feed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Feed {
    /// Events with their positions, in commit order, without gaps.
    pub events: Vec<(u64, Bytes)>,
    /// Whether events after the asked position are no longer kept: take a snapshot instead.
    pub too_old: bool,
}

/// All items under a prefix, and the position of the feed that they belong to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The items, in the order of keys.
    pub items: Vec<(Key, Item)>,
    /// The feed's position: events after it are not in the items, all others are.
    pub position: u64,
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// From the lowest key up.
    Ascending,
    /// From the highest key down.
    Descending,
}

/// Why the store did not answer. What was asked may or may not have happened; asking again is safe where a commit has
/// an id.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The commit is not within the bounds.
    #[error("a {what} is larger than the metadata store takes")]
    TooLarge {
        /// "commit", "key" or "value".
        what: &'static str,
    },
    /// The engine failed.
    #[error("the metadata store failed")]
    Engine(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A record cannot be read.
    #[error("a record of the metadata store is damaged: {what}")]
    Damaged {
        /// What kind of record.
        what: &'static str,
    },
    /// The store is closed.
    #[error("the metadata store is closed")]
    Closed,
}

impl MetaError {
    #[cfg(feature = "rocksdb")]
    pub(crate) fn engine(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Engine(Arc::new(error))
    }
}

/// Every mutable fact of the system, under ordered keys.
///
/// Every engine keeps this contract, and `meta::contract` checks it:
/// * `commit` is all or nothing. Where a check fails it changes nothing and names the key.
/// * What `commit` has answered `Done` for survives a crash. What it has answered an error for may have happened, and is
///   in the feed then; nothing was acknowledged that rests on it not having happened.
/// * A commit's id is remembered for at least 24 hours: the same id again has the first outcome and changes nothing.
/// * Revisions grow with every commit that happened.
/// * The feed holds events in commit order, without gaps, for at least 7 days.
/// * `get` and `snapshot` each see one moment.
/// * A commit beyond the bounds is refused before anything is done.
#[async_trait]
pub trait MetaStore: fmt::Debug + Send + Sync + 'static {
    /// The items of `keys`, in their order, all of one moment.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, MetaError>;

    /// Up to `limit` items whose keys are at least `from` and below `to`.
    async fn scan(&self, from: Key, to: Key, limit: usize, order: Order) -> Result<Vec<(Key, Item)>, MetaError>;

    /// Makes the changes of `commit` where its checks hold.
    async fn commit(&self, commit: Commit) -> Result<Outcome, MetaError>;

    /// Up to `limit` events after position `after`.
    async fn feed(&self, after: u64, limit: usize) -> Result<Feed, MetaError>;

    /// All items whose keys begin with `prefix`, and the feed's position at that moment.
    async fn snapshot(&self, prefix: Key) -> Result<Snapshot, MetaError>;

    /// Changes when the feed has grown: a hint, and losing one never matters.
    fn wake(&self) -> watch::Receiver<u64>;

    /// Whether commits are taken: not from a write that failed until what it left behind was read again.
    fn takes_commits(&self) -> bool;

    /// Stops taking commits and waits until those taken are durable. Reads may go on or fail.
    async fn close(&self);
}

/// The lowest key above every key that begins with `prefix`: the `to` of a scan over them.
///
/// # Panics
///
/// Where `prefix` is empty or all `0xff`; table tags never are.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    panic!("a prefix of 0xff has no end");
}
