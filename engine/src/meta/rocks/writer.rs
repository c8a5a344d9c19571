//! The one thread that takes commits: it checks each against the database and the commits before it in the same round,
//! and writes the round as one batch with one sync.
//!
//! It is also the one that opens the database again after a write that failed, because it alone keeps numbers in memory
//! that the database has, too: they are read anew then.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rocksdb::{DB, IteratorMode, WriteBatch};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::database::{Database, Reason};
use super::rows::{
    COUNTERS, FAMILIES, FEED, ITEMS, OUTCOMES, copy, counters, engine, family, read_item, read_outcome, read_u64,
    write_outcome,
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
/// How often the queue is looked at while nothing can be written.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How soon after a failure it is looked for room again, where somebody wants to write and where nobody does.
const TRY_WHEN_ASKED: Duration = Duration::from_millis(100);
const TRY_WHEN_IDLE: Duration = Duration::from_secs(1);
/// How soon a database that had room and could not be opened again is tried next: twice as long each time, up to the
/// second of these, because each try reads the log and closes what readers use.
const TRY_OPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the writer is asked for, in the order of asking.
pub(super) enum Job {
    /// To take a commit.
    Commit(Waiting),
    /// To open the database again where a write has failed, and to say whether that was done or not needed.
    Recover(Option<oneshot::Sender<Result<(), MetaError>>>),
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
    database: Arc<Database>,
    clock: Clock,
    pub(super) wake: watch::Sender<u64>,
    revision: u64,
    position: u64,
    since_forgetting: u64,
    retries: Retries,
}

/// When the database is opened again.
#[derive(Debug, Default)]
struct Retries {
    /// When there was no room last.
    without_room: Option<Instant>,
    /// Until when it is left alone after it could not be opened, and how long that was.
    not_before: Option<(Instant, Duration)>,
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
    pub(super) fn new(database: Arc<Database>, clock: Clock) -> Result<Self, MetaError> {
        let (revision, position) = counters(&database.get()?.get(COUNTERS).map_err(engine)?)?;
        Ok(Self {
            database,
            clock,
            wake: watch::Sender::new(position),
            revision,
            position,
            // The first commit after a start looks for what can be forgotten.
            since_forgetting: FORGET_EVERY,
            retries: Retries::default(),
        })
    }

    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut stopped = None;
        while stopped.is_none() {
            let mut next = self.next_job(&mut jobs);
            if next.is_none() {
                break;
            }
            let (mut round, mut asked) = (Vec::new(), Vec::new());
            while let Some(job) = next {
                match job {
                    Job::Commit(waiting) => round.push(waiting),
                    Job::Recover(answer) => asked.extend(answer),
                    Job::Stop(done) => {
                        stopped = Some(done);
                        break;
                    }
                }
                next = if round.len() < ROUND { jobs.try_recv().ok() } else { None };
            }
            if !round.is_empty() || !asked.is_empty() {
                self.try_to_recover(TRY_WHEN_ASKED);
            }
            for answer in asked {
                drop(answer.send(self.database.check_writable()));
            }
            if !round.is_empty() {
                self.commit_round(round);
            }
            if self.since_forgetting >= FORGET_EVERY && !self.database.has_failed() {
                self.forget();
            }
        }
        self.flush();
        drop(self.database);
        drop(jobs);
        drop(stopped);
    }

    /// What is to be done next. While nothing can be written it is looked for room, so that a store recovers that
    /// nobody writes to.
    fn next_job(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.database.has_failed() {
            match jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            thread::sleep(LOOK_EVERY);
            self.try_to_recover(TRY_WHEN_IDLE);
        }
        jobs.blocking_recv()
    }

    /// Opens the database again where a write has failed, there is room, and the last try was `pause` ago.
    fn try_to_recover(&mut self, pause: Duration) {
        if !self.database.has_failed() || !self.retries.is_due(pause) {
            return;
        }
        if let Err(error) = self.database.find_room() {
            tracing::debug!(error = %Reason(&error), "there is no room to open the metadata store again");
            self.database.fail(error);
            self.retries.without_room = Some(Instant::now());
            return;
        }
        match self.reopen() {
            Ok(()) => {
                tracing::info!("the metadata store was opened again after a failed write, and takes commits");
                self.retries = Retries::default();
                self.tell();
            }
            Err(error) => {
                tracing::error!(error = %Reason(&error), "the metadata store could not be opened again");
                self.database.fail(error);
                self.retries.failed_to_open();
            }
        }
    }

    fn reopen(&mut self) -> Result<(), MetaError> {
        self.database.reopen()?;
        let (revision, position) = counters(&self.database.get()?.get(COUNTERS).map_err(engine)?)?;
        // A round that was not acknowledged may be there. One that was must be.
        if revision < self.revision || position < self.position {
            let lost = "commits that were acknowledged are not in the log any more";
            return Err(MetaError::engine(io::Error::new(io::ErrorKind::InvalidData, lost)));
        }
        (self.revision, self.position) = (revision, position);
        self.database.works_again();
        Ok(())
    }

    /// Leaves the next start no log to replay.
    fn flush(&self) {
        // After a failed write the log may hold more than memory does, and has to be read as it is.
        if self.database.has_failed() {
            return;
        }
        let Ok(db) = self.database.get() else { return };
        for name in [rocksdb::DEFAULT_COLUMN_FAMILY_NAME].into_iter().chain(FAMILIES) {
            if let Err(error) = db.flush_cf(family(&db, name)) {
                tracing::warn!(%error, "the metadata store could not be flushed; the next start replays its log");
            }
        }
    }

    /// Says how far the feed is.
    fn tell(&self) {
        self.wake.send_if_modified(|last| {
            let grew = *last < self.position;
            *last = self.position;
            grew
        });
    }

    fn commit_round(&mut self, jobs: Vec<Waiting>) {
        let now = self.clock.now();
        let database = Arc::clone(&self.database);
        let db = match database.check_writable().and_then(|()| database.get()) {
            Ok(db) => db,
            Err(error) => {
                for Waiting { answer, .. } in jobs {
                    drop(answer.send(Err(copy(&error))));
                }
                return;
            }
        };
        let mut round = Round {
            batch: WriteBatch::default(),
            items: HashMap::new(),
            outcomes: HashMap::new(),
            revision: self.revision,
            position: self.position,
        };
        let mut answers = Vec::with_capacity(jobs.len());
        for Waiting { commit, answer } in jobs {
            let outcome = take(&db, &mut round, commit, now);
            answers.push((answer, outcome));
        }
        if !round.batch.is_empty() {
            let mut counters = [0; 16];
            counters[..8].copy_from_slice(&round.revision.to_be_bytes());
            counters[8..].copy_from_slice(&round.position.to_be_bytes());
            round.batch.put(COUNTERS, counters);
            match database.write(&db, round.batch) {
                Ok(()) => {
                    self.since_forgetting += round.revision - self.revision;
                    self.revision = round.revision;
                    self.position = round.position;
                }
                // Every outcome of the round may rest on a write that did not happen.
                Err(error) => answers.iter_mut().for_each(|(_, outcome)| *outcome = Err(copy(&error))),
            }
        }
        for (answer, outcome) in answers {
            // Whoever asked may have gone; the commit stands.
            drop(answer.send(outcome));
        }
        self.tell();
    }

    /// Drops events and outcomes that are older than they have to be kept. What is not dropped now is dropped later.
    fn forget(&mut self) {
        self.since_forgetting = 0;
        let Ok(db) = self.database.get() else { return };
        let now = self.clock.now();
        let (events_end, ids_end) = (now.minus(KEEP_EVENTS), now.minus(REMEMBER_IDS));
        let mut batch = WriteBatch::default();
        let feed = family(&db, FEED);
        for row in db.iterator_cf(feed, IteratorMode::Start).take(FORGET_AT_ONCE) {
            let Ok((key, value)) = row else { return };
            if !read_u64(&value[..8.min(value.len())]).is_ok_and(|at| at < events_end.0) {
                break;
            }
            batch.delete_cf(feed, key);
        }
        let outcomes = family(&db, OUTCOMES);
        let mut forgotten = 0;
        for row in db.iterator_cf(outcomes, IteratorMode::Start) {
            let Ok((key, value)) = row else { return };
            if read_outcome(&value).is_ok_and(|(at, _)| at < ids_end) {
                batch.delete_cf(outcomes, key);
                forgotten += 1;
                if forgotten == FORGET_AT_ONCE {
                    break;
                }
            }
        }
        if !batch.is_empty()
            && let Err(error) = self.database.write(&db, batch)
        {
            tracing::warn!(error = %Reason(&error), "old events and outcomes could not be removed; this is tried again");
        }
    }
}

impl Retries {
    /// Whether it is time for another try, where one is made every `pause` without room.
    fn is_due(&self, pause: Duration) -> bool {
        let now = Instant::now();
        self.not_before.is_none_or(|(until, _)| now >= until)
            && self.without_room.is_none_or(|last| now.duration_since(last) >= pause)
    }

    fn failed_to_open(&mut self) {
        let (first, longest) = TRY_OPEN;
        let pause = self.not_before.map_or(first, |(_, pause)| (pause * 2).min(longest));
        self.not_before = Some((Instant::now() + pause, pause));
    }
}

/// Checks `commit` and adds it to the round.
fn take(db: &DB, round: &mut Round, commit: Commit, now: UnixMillis) -> Result<Outcome, MetaError> {
    if let Some(id) = &commit.id
        && let Some(known) = known_outcome(db, round, id)?
    {
        return Ok(known);
    }
    let mut refused = None;
    for (key, check) in &commit.checks {
        let revision = revision_of(db, round, key)?;
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
        None => apply(db, round, commit.deletes, commit.puts, commit.events, now),
    };
    if let Some(id) = commit.id {
        round.batch.put_cf(family(db, OUTCOMES), id, write_outcome(&outcome, now));
        round.outcomes.insert(id, outcome.clone());
    }
    Ok(outcome)
}

fn apply(
    db: &DB,
    round: &mut Round,
    deletes: Vec<Key>,
    puts: Vec<(Key, Bytes)>,
    events: Vec<Bytes>,
    now: UnixMillis,
) -> Outcome {
    let (items, feed) = (family(db, ITEMS), family(db, FEED));
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

fn known_outcome(db: &DB, round: &Round, id: &CommitId) -> Result<Option<Outcome>, MetaError> {
    if let Some(outcome) = round.outcomes.get(id) {
        return Ok(Some(outcome.clone()));
    }
    let row = db.get_pinned_cf(family(db, OUTCOMES), id).map_err(engine)?;
    row.map(|row| read_outcome(&row).map(|(_, outcome)| outcome)).transpose()
}

fn revision_of(db: &DB, round: &Round, key: &Key) -> Result<Option<Revision>, MetaError> {
    if let Some(pending) = round.items.get(key) {
        return Ok(*pending);
    }
    let row = db.get_pinned_cf(family(db, ITEMS), key).map_err(engine)?;
    row.map(|row| read_item(&row).map(|item| item.revision)).transpose()
}
