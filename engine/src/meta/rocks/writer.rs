//! The one thread that takes commits: it checks each against the database and the commits before it in the same round,
//! and writes the round as one batch with one sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use rocksdb::{DB, IteratorMode, WriteBatch};
use tokio::sync::{mpsc, oneshot, watch};

use super::rows::{
    BLOBS, COUNTERS, FEED, ITEMS, OUTCOMES, OWNED, copy, counters, engine, family, read_item, read_outcome, read_u64,
    synced, write_outcome,
};
use crate::clock::{Clock, UnixMillis};
use crate::meta::memory::{KEEP_EVENTS, REMEMBER_IDS};
use crate::meta::{Check, Commit, CommitId, Key, MetaError, Outcome, Revision};

/// Commits merged into one batch, at most.
const ROUND: usize = 512;
/// Commits between two looks for ids and events that are old enough to be forgotten.
const FORGET_EVERY: u64 = 10_000;
/// Rows forgotten at a time, so that no round takes long.
const FORGET_AT_ONCE: usize = 10_000;

/// What the writer is asked for, in the order of asking.
pub(super) enum Job {
    /// To take a commit.
    Commit(Waiting),
    /// To end; what is returned is dropped when everything before it is durable.
    Stop(oneshot::Sender<()>),
}

/// A commit that waits for its outcome.
pub(super) struct Waiting {
    pub(super) commit: Commit,
    pub(super) answer: oneshot::Sender<Result<Outcome, MetaError>>,
}

/// The one thread that writes items, events and outcomes.
pub(super) struct Writer {
    db: Arc<DB>,
    clock: Clock,
    pub(super) wake: watch::Sender<u64>,
    revision: u64,
    position: u64,
    since_forgetting: u64,
    /// Set when a write failed: what the log holds is not known then, so nothing is acknowledged until a restart has
    /// read it again.
    failed: Option<MetaError>,
    /// The same for others to see.
    pub(super) has_failed: Arc<AtomicBool>,
}

/// What the commits of one round have changed so far, and no reader has seen yet.
struct Round {
    batch: WriteBatch,
    items: HashMap<Key, Option<Revision>>,
    outcomes: HashMap<CommitId, Outcome>,
    revision: u64,
    position: u64,
}

impl Writer {
    pub(super) fn new(db: Arc<DB>, clock: Clock) -> Result<Self, MetaError> {
        let (revision, position) = counters(&db.get(COUNTERS).map_err(engine)?)?;
        Ok(Self {
            db,
            clock,
            wake: watch::Sender::new(position),
            revision,
            position,
            // The first commit after a start looks for what can be forgotten.
            since_forgetting: FORGET_EVERY,
            failed: None,
            has_failed: Arc::default(),
        })
    }

    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut stopped = None;
        while stopped.is_none() {
            let mut next = jobs.blocking_recv();
            if next.is_none() {
                break;
            }
            let mut round = Vec::new();
            while let Some(job) = next {
                match job {
                    Job::Commit(waiting) => round.push(waiting),
                    Job::Stop(done) => {
                        stopped = Some(done);
                        break;
                    }
                }
                next = if round.len() < ROUND { jobs.try_recv().ok() } else { None };
            }
            if !round.is_empty() {
                self.commit_round(round);
            }
            if self.since_forgetting >= FORGET_EVERY {
                self.forget();
            }
        }
        // The next start has no log to replay.
        for name in [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, ITEMS, FEED, OUTCOMES, BLOBS, OWNED] {
            if let Err(error) = self.db.flush_cf(family(&self.db, name)) {
                tracing::warn!(%error, "the metadata store could not be flushed; the next start replays its log");
            }
        }
        drop(self.db);
        drop(jobs);
        drop(stopped);
    }

    fn commit_round(&mut self, jobs: Vec<Waiting>) {
        let now = self.clock.now();
        let mut round = Round {
            batch: WriteBatch::default(),
            items: HashMap::new(),
            outcomes: HashMap::new(),
            revision: self.revision,
            position: self.position,
        };
        let mut answers = Vec::with_capacity(jobs.len());
        for Waiting { commit, answer } in jobs {
            let outcome = match &self.failed {
                Some(error) => Err(copy(error)),
                None => self.take(&mut round, commit, now),
            };
            answers.push((answer, outcome));
        }
        if !round.batch.is_empty() {
            let mut counters = [0; 16];
            counters[..8].copy_from_slice(&round.revision.to_be_bytes());
            counters[8..].copy_from_slice(&round.position.to_be_bytes());
            round.batch.put(COUNTERS, counters);
            match self.db.write_opt(round.batch, &synced()) {
                Ok(()) => {
                    self.since_forgetting += round.revision - self.revision;
                    self.revision = round.revision;
                    self.position = round.position;
                }
                Err(error) => {
                    tracing::error!(%error, "the metadata store could not write; it takes no more commits");
                    let error = engine(error);
                    // Every outcome of the round may rest on a write that did not happen.
                    answers.iter_mut().for_each(|(_, outcome)| *outcome = Err(copy(&error)));
                    self.failed = Some(error);
                    self.has_failed.store(true, Ordering::Relaxed);
                }
            }
        }
        for (answer, outcome) in answers {
            // Whoever asked may have gone; the commit stands.
            drop(answer.send(outcome));
        }
        self.wake.send_if_modified(|last| {
            let grew = *last < self.position;
            *last = self.position;
            grew
        });
    }

    /// Checks `commit` and adds it to the round.
    fn take(&self, round: &mut Round, commit: Commit, now: UnixMillis) -> Result<Outcome, MetaError> {
        if let Some(id) = &commit.id
            && let Some(known) = self.known_outcome(round, id)?
        {
            return Ok(known);
        }
        let mut refused = None;
        for (key, check) in &commit.checks {
            let revision = self.revision_of(round, key)?;
            let holds = match check {
                Check::Absent => revision.is_none(),
                Check::Exists => revision.is_some(),
                Check::Revision(wanted) => revision == Some(*wanted),
            };
            if !holds {
                refused = Some(key.clone());
                break;
            }
        }
        let outcome = match refused {
            Some(key) => Outcome::Refused { key },
            None => self.apply(round, commit.deletes, commit.puts, commit.events, now),
        };
        if let Some(id) = commit.id {
            round.batch.put_cf(family(&self.db, OUTCOMES), id, write_outcome(&outcome, now));
            round.outcomes.insert(id, outcome.clone());
        }
        Ok(outcome)
    }

    fn apply(
        &self,
        round: &mut Round,
        deletes: Vec<Key>,
        puts: Vec<(Key, Bytes)>,
        events: Vec<Bytes>,
        now: UnixMillis,
    ) -> Outcome {
        let (items, feed) = (family(&self.db, ITEMS), family(&self.db, FEED));
        round.revision += 1;
        let revision = Revision(round.revision);
        for key in deletes {
            round.batch.delete_cf(items, &key);
            round.items.insert(key, None);
        }
        for (key, value) in puts {
            let mut row = BytesMut::with_capacity(8 + value.len());
            row.put_u64(revision.0);
            row.extend_from_slice(&value);
            round.batch.put_cf(items, &key, &row);
            round.items.insert(key, Some(revision));
        }
        for event in events {
            round.position += 1;
            let mut row = BytesMut::with_capacity(8 + event.len());
            row.put_u64(now.0);
            row.extend_from_slice(&event);
            round.batch.put_cf(feed, round.position.to_be_bytes(), &row);
        }
        Outcome::Done { revision, position: round.position }
    }

    fn known_outcome(&self, round: &Round, id: &CommitId) -> Result<Option<Outcome>, MetaError> {
        if let Some(outcome) = round.outcomes.get(id) {
            return Ok(Some(outcome.clone()));
        }
        let row = self.db.get_pinned_cf(family(&self.db, OUTCOMES), id).map_err(engine)?;
        row.map(|row| read_outcome(&row).map(|(_, outcome)| outcome)).transpose()
    }

    fn revision_of(&self, round: &Round, key: &Key) -> Result<Option<Revision>, MetaError> {
        if let Some(pending) = round.items.get(key) {
            return Ok(*pending);
        }
        let row = self.db.get_pinned_cf(family(&self.db, ITEMS), key).map_err(engine)?;
        row.map(|row| read_item(&row).map(|item| item.revision)).transpose()
    }

    /// Drops events and outcomes that are older than they have to be kept. What is not dropped now is dropped later.
    fn forget(&mut self) {
        self.since_forgetting = 0;
        let now = self.clock.now();
        let (events_end, ids_end) = (now.minus(KEEP_EVENTS), now.minus(REMEMBER_IDS));
        let mut batch = WriteBatch::default();
        let feed = family(&self.db, FEED);
        for row in self.db.iterator_cf(feed, IteratorMode::Start).take(FORGET_AT_ONCE) {
            let Ok((key, value)) = row else { return };
            if !read_u64(&value[..8.min(value.len())]).is_ok_and(|at| at < events_end.0) {
                break;
            }
            batch.delete_cf(feed, key);
        }
        let outcomes = family(&self.db, OUTCOMES);
        let mut forgotten = 0;
        for row in self.db.iterator_cf(outcomes, IteratorMode::Start) {
            let Ok((key, value)) = row else { return };
            if read_outcome(&value).is_ok_and(|(at, _)| at < ids_end) {
                batch.delete_cf(outcomes, key);
                forgotten += 1;
                if forgotten == FORGET_AT_ONCE {
                    break;
                }
            }
        }
        if let Err(error) = self.db.write(batch) {
            tracing::warn!(%error, "old events and outcomes could not be removed; the next round tries again");
        }
    }
}
