//! The metadata engine for tests and examples: in memory, gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Check, Commit, CommitId, Feed, Item, Key, MetaError, MetaStore, Order, Outcome, Revision, Snapshot, after_prefix,
};
use crate::clock::{Clock, UnixMillis};

/// How long a commit's id is remembered, at least.
pub(super) const REMEMBER_IDS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long events are kept, at least.
pub(super) const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Keeps everything in one sorted map.
#[derive(Debug)]
pub struct MemoryMeta {
    state: Mutex<State>,
    wake: watch::Sender<u64>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Key, Item>,
    revision: u64,
    /// The position of the last event ever.
    position: u64,
    events: VecDeque<(u64, UnixMillis, Bytes)>,
    outcomes: HashMap<CommitId, (UnixMillis, Outcome)>,
    closed: bool,
}

impl MemoryMeta {
    /// An empty store. `clock` says when ids and events are old enough to be forgotten.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { state: Mutex::default(), wake: watch::Sender::new(0), clock }
    }
}

impl Default for MemoryMeta {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl State {
    fn take(&mut self, commit: Commit, now: UnixMillis) -> Outcome {
        let known = commit.id.and_then(|id| self.outcomes.get(&id));
        if let Some((_, outcome)) = known {
            return outcome.clone();
        }
        let refused = commit.checks.iter().find(|(key, check)| {
            let item = self.items.get(key);
            !match check {
                Check::Absent => item.is_none(),
                Check::Exists => item.is_some(),
                Check::Revision(revision) => item.is_some_and(|item| item.revision == *revision),
            }
        });
        let outcome = match refused {
            Some((key, _)) => Outcome::Refused { key: key.clone() },
            None => {
                self.revision += 1;
                let revision = Revision(self.revision);
                for key in commit.deletes {
                    self.items.remove(&key);
                }
                for (key, value) in commit.puts {
                    self.items.insert(key, Item { value, revision });
                }
                for event in commit.events {
                    self.position += 1;
                    self.events.push_back((self.position, now, event));
                }
                Outcome::Done { revision, position: self.position }
            }
        };
        if let Some(id) = commit.id {
            self.outcomes.insert(id, (now, outcome.clone()));
        }
        outcome
    }

    fn forget(&mut self, now: UnixMillis) {
        while self.events.front().is_some_and(|(_, at, _)| at.plus(KEEP_EVENTS) < now) {
            self.events.pop_front();
        }
        if self.outcomes.len() > 1024 {
            self.outcomes.retain(|_, (at, _)| at.plus(REMEMBER_IDS) >= now);
        }
    }
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, MetaError> {
        let state = self.state.lock();
        Ok(keys.iter().map(|key| state.items.get(key).cloned()).collect())
    }

    async fn scan(&self, from: Key, to: Key, limit: usize, order: Order) -> Result<Vec<(Key, Item)>, MetaError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.state.lock();
        let range = state.items.range((Included(from), Excluded(to)));
        let copy = |(key, item): (&Key, &Item)| (key.clone(), item.clone());
        Ok(match order {
            Order::Ascending => range.take(limit).map(copy).collect(),
            Order::Descending => range.rev().take(limit).map(copy).collect(),
        })
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, MetaError> {
        commit.check_bounds()?;
        let now = self.clock.now();
        let (outcome, position) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(MetaError::Closed);
            }
            let outcome = state.take(commit, now);
            state.forget(now);
            (outcome, state.position)
        };
        self.wake.send_if_modified(|last| {
            let grew = *last < position;
            *last = (*last).max(position);
            grew
        });
        Ok(outcome)
    }

    async fn feed(&self, after: u64, limit: usize) -> Result<Feed, MetaError> {
        let state = self.state.lock();
        let first_kept = state.events.front().map_or(state.position + 1, |(position, ..)| *position);
        let skip = usize::try_from((after + 1).saturating_sub(first_kept)).unwrap_or(usize::MAX);
        Ok(Feed {
            events: state
                .events
                .iter()
                .skip(skip)
                .take(limit)
                .map(|(position, _, event)| (*position, event.clone()))
                .collect(),
            too_old: after + 1 < first_kept,
        })
    }

    async fn snapshot(&self, prefix: Key) -> Result<Snapshot, MetaError> {
        let state = self.state.lock();
        let range = state.items.range((Included(prefix.clone()), Excluded(after_prefix(&prefix))));
        Ok(Snapshot { items: range.map(|(key, item)| (key.clone(), item.clone())).collect(), position: state.position })
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    fn takes_commits(&self) -> bool {
        !self.state.lock().closed
    }

    async fn close(&self) {
        self.state.lock().closed = true;
    }
}
