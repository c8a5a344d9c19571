//! Answers to requests that carried an `Idempotency-Key`, written in the same commit as what they answer.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, encode, read};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{TeamId, UserId};
use crate::meta::{Check, Commit, CommitId, Key, MetaError, MetaStore};

/// How long an answer is kept, in milliseconds.
const KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

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

    /// The commit id for `attempt`, which counts from 0 how often this request was refused and tried again.
    pub(crate) fn commit_id(&self, attempt: u32) -> CommitId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.key());
        hasher.update(self.request.as_bytes());
        hasher.update(&attempt.to_le_bytes());
        *hasher.finalize().as_bytes()
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
