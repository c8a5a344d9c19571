//! When tokens were last used: noted in memory with every request, and written down now and then.
//!
//! A request never waits for it and never fails by it: what is lost when a process dies is a minute of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::hash::BlobHash;
use crate::id::UserId;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::records::tokens::TokenRecord;
use crate::records::{self, encode};

/// How much later a use is than the one that is written down, before it is worth writing.
const WORTH_WRITING: Duration = Duration::from_secs(60);
/// Uses that are kept in memory; more are not noted until those are written.
const MOST: usize = 10_000;
/// Uses written in one commit.
const AT_ONCE: usize = 60;

/// The uses that are not written yet, whose tokens they are, and how often tokens were ended.
#[derive(Debug)]
pub(crate) struct TokenUses {
    unwritten: Mutex<HashMap<BlobHash, UnixMillis>>,
    /// So that a token and its user are asked for together. A token never changes hands, so this is never wrong; whether
    /// either is still there, the store says each time.
    users: moka::sync::Cache<BlobHash, UserId>,
    ended: AtomicU64,
}

impl Default for TokenUses {
    fn default() -> Self {
        Self { unwritten: Mutex::default(), users: moka::sync::Cache::new(MOST as u64), ended: AtomicU64::new(0) }
    }
}

impl TokenUses {
    /// Whose a token is, where it was used before.
    pub(crate) fn user(&self, digest: &BlobHash) -> Option<UserId> {
        self.users.get(digest)
    }

    /// Notes that a token is used.
    pub(crate) fn note(&self, digest: BlobHash, token: &TokenRecord, now: UnixMillis) {
        if !self.users.contains_key(&digest) {
            self.users.insert(digest, token.user);
        }
        if token.last_used_at.is_some_and(|last| now < last.plus(WORTH_WRITING)) {
            return;
        }
        let mut unwritten = self.unwritten.lock();
        if unwritten.len() < MOST || unwritten.contains_key(&digest) {
            unwritten.insert(digest, now);
        }
    }

    /// When a token was last used, where that is not written yet.
    pub(crate) fn last(&self, digest: &BlobHash) -> Option<UnixMillis> {
        self.unwritten.lock().get(digest).copied()
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    fn take(&self) -> Vec<(BlobHash, UnixMillis)> {
        let mut unwritten = self.unwritten.lock();
        let some: Vec<_> = unwritten.iter().take(AT_ONCE).map(|(digest, at)| (*digest, *at)).collect();
        for (digest, _) in &some {
            unwritten.remove(digest);
        }
        some
    }
}

impl Engine {
    /// Writes down when tokens were last used, as far as that is possible now.
    pub(crate) async fn try_to_write_token_uses(&self) {
        if let Err(error) = self.write_token_uses().await {
            tracing::debug!(%error, "when tokens were last used could not be written");
        }
    }

    /// The same, with why not. A use that is lost to another change of its token comes again.
    async fn write_token_uses(&self) -> Result<(), MetaError> {
        while self.meta().takes_commits() {
            let uses = self.token_uses().take();
            if uses.is_empty() {
                break;
            }
            let mut commit = Commit::new();
            for (digest, at) in uses {
                let Some(mut stored) = records::tokens::get(self.meta(), &digest).await? else { continue };
                stored.record.last_used_at = stored.record.last_used_at.max(Some(at));
                let key = records::tokens::key(&digest);
                commit = commit.check(key.clone(), Check::Revision(stored.revision)).put(key, encode(&stored.record));
            }
            if !commit.puts.is_empty()
                && let Outcome::Refused { .. } = self.meta().commit(commit).await?
            {
                tracing::debug!("the uses of some tokens were not written, because one of them ended");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn uses_are_written_once_a_minute() {
        let clock = Clock::manual(UnixMillis(1_000_000));
        let engine = Engine::in_memory(clock.clone()).await;
        let digest = records::tokens::secret_digest("pin_in_memory");
        let written = async || records::tokens::get(engine.meta(), &digest).await.unwrap().unwrap().record.last_used_at;
        assert_eq!(written().await, None);
        for (seconds, want) in [(0, 1_000_000), (59, 1_000_000), (1, 1_060_000)] {
            clock.advance(Duration::from_secs(seconds));
            assert!(engine.authenticate("pin_in_memory").await.unwrap().is_some());
            engine.write_token_uses().await.unwrap();
            assert_eq!(written().await, Some(UnixMillis(want)), "after {seconds} more seconds");
        }
    }
}
