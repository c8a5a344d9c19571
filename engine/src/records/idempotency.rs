//! Answers to requests that carried an `Idempotency-Key`, written in the same commit as what they answer.
//!
//! That commit checks that no answer is there yet, so of two requests with one key one is done, and the other finds its
//! answer. The store's own commit ids are not used for this: they would be remembered for refusals too, and for longer
//! than the answer.

use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, encode, read};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{TeamId, UserId};
use crate::meta::{Check, Commit, Key, MetaError, MetaStore, Order, Outcome, after_prefix};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Answers removed in one commit.
const FORGET_AT_ONCE: usize = 60;

/// What a client calls one thing that it wants done once: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdempotencyKey(String);

/// A text that is not an idempotency key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an idempotency key has 1 to 255 visible ASCII characters")]
pub struct NotAKey;

impl FromStr for IdempotencyKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if visible && (1..=255).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(NotAKey) }
    }
}

impl IdempotencyKey {
    /// The key of one step of an operation that consists of several, each of which is to be done once.
    #[must_use]
    pub(crate) fn derived(&self, step: &str) -> Self {
        Self(format!("{step}:{}", BlobHash::of(self.0.as_bytes())))
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct AnswerRecord {
    operation: String,
    /// The digest of what was asked.
    request: BlobHash,
    answer: serde_json::Value,
    at: UnixMillis,
    #[serde(flatten)]
    unknown: Unknown,
}

/// One request that is to be done once, of one principal.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    team: TeamId,
    user: UserId,
    digest: BlobHash,
    operation: &'static str,
    request: BlobHash,
}

/// What is known of a request that is to be done once.
#[derive(Debug)]
pub(crate) enum Known<T> {
    /// Nothing, or nothing that is young enough to count: `stale` is then in the way, and is replaced.
    New(Option<Stored<()>>),
    /// It was done, with this answer.
    Done(T),
    /// The same key was sent with another request.
    OtherRequest,
}

impl Once {
    /// `request` is everything that the answer depends on.
    pub(crate) fn new(
        team: TeamId,
        user: UserId,
        key: &IdempotencyKey,
        operation: &'static str,
        request: &impl Serialize,
    ) -> Self {
        let request = serde_json::to_vec(request).expect("requests have text keys and finite numbers");
        let digest = BlobHash::of(key.0.as_bytes());
        Self { team, user, digest, operation, request: BlobHash::of(&request) }
    }

    fn key(&self) -> Key {
        let key = KeyWriter::new(Table::Idempotency).fixed(self.team.as_bytes()).fixed(self.user.as_bytes());
        key.fixed(self.digest.as_bytes()).finish()
    }

    /// Looks for an answer that was given before.
    pub(crate) async fn look<T: DeserializeOwned>(
        &self,
        meta: &dyn MetaStore,
        now: UnixMillis,
    ) -> Result<Known<T>, MetaError> {
        let Some(stored) = read::<AnswerRecord>(meta, self.key(), "answer").await? else {
            return Ok(Known::New(None));
        };
        if stored.record.at.plus(KEPT) <= now {
            return Ok(Known::New(Some(Stored { record: (), revision: stored.revision })));
        }
        if stored.record.operation != self.operation || stored.record.request != self.request {
            return Ok(Known::OtherRequest);
        }
        let answer = serde_json::from_value(stored.record.answer).map_err(|_| MetaError::Damaged { what: "answer" })?;
        Ok(Known::Done(answer))
    }

    /// What is known of it, whatever that is, to be replaced: for an answer that tells of what is gone.
    pub(crate) async fn in_the_way(&self, meta: &dyn MetaStore) -> Result<Option<Stored<()>>, MetaError> {
        let stored = read::<AnswerRecord>(meta, self.key(), "answer").await?;
        Ok(stored.map(|stored| Stored { record: (), revision: stored.revision }))
    }

    /// Adds the answer to the commit that does what it says. `stale` is what [`Once::look`] found in the way.
    pub(crate) fn record(
        &self,
        commit: Commit,
        stale: Option<&Stored<()>>,
        answer: &impl Serialize,
        now: UnixMillis,
    ) -> Commit {
        let record = AnswerRecord {
            operation: self.operation.to_owned(),
            request: self.request,
            answer: serde_json::to_value(answer).expect("answers have text keys and finite numbers"),
            at: now,
            unknown: Unknown::new(),
        };
        let check = stale.map_or(Check::Absent, |stale| Check::Revision(stale.revision));
        commit.check(self.key(), check).put(self.key(), encode(&record))
    }
}

/// Removes answers that are too old to count; answers how many.
pub(crate) async fn forget(meta: &dyn MetaStore, now: UnixMillis) -> Result<usize, MetaError> {
    let mut from = KeyWriter::new(Table::Idempotency).finish();
    let to = after_prefix(&from);
    let mut forgotten = 0;
    loop {
        let page = meta.scan(from, to.clone(), FORGET_AT_ONCE, Order::Ascending).await?;
        let mut commit = Commit::new();
        for (key, item) in &page {
            let answer: Stored<AnswerRecord> = decode(item, "answer")?;
            if answer.record.at.plus(KEPT) <= now {
                commit = commit.check(key.clone(), Check::Revision(item.revision)).delete(key.clone());
            }
        }
        let old = commit.deletes.len();
        // Refused means that a key is in use again; the next time tells the rest.
        if old > 0 && matches!(meta.commit(commit).await?, Outcome::Done { .. }) {
            forgotten += old;
        }
        match page.last() {
            Some((last, _)) if page.len() == FORGET_AT_ONCE => from = [last, &[0][..]].concat().into(),
            _ => return Ok(forgotten),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryMeta;

    #[tokio::test]
    async fn answers_are_removed_when_they_no_longer_count() {
        let meta = MemoryMeta::default();
        let (team, user) = (TeamId::random(), UserId::random());
        let once = |key: &str| Once::new(team, user, &key.parse().expect("a key"), "release", &"request");
        let (old, young) = (UnixMillis(1_000), UnixMillis(1_000).plus(KEPT));
        for number in 0..130 {
            let at = if number % 2 == 0 { old } else { young };
            let commit = once(&format!("k{number}")).record(Commit::new(), None, &number, at);
            assert!(matches!(meta.commit(commit).await, Ok(Outcome::Done { .. })));
        }
        assert_eq!(forget(&meta, young).await.expect("memory does not fail"), 65);
        for number in 0..130_u32 {
            let known = once(&format!("k{number}")).look::<u32>(&meta, young).await.expect("memory does not fail");
            match known {
                Known::Done(answer) => assert_eq!((answer, number % 2), (number, 1)),
                Known::New(in_the_way) => assert!(in_the_way.is_none() && number % 2 == 0, "k{number}"),
                Known::OtherRequest => panic!("k{number} is the same request"),
            }
        }
    }
}
