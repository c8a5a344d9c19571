//! Deleting an account: the user, what they sign in by, their tokens, and their projects.
//!
//! The first commit ends the account: nobody comes with one of its tokens any more, and nothing is made for its team.
//! Then its projects go, by one commit each, and the rows of its tokens. It is done to the end: a process that dies
//! in between goes on at its next start. Blobs and manifests are the collector's.

use super::AccountError;
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::TeamId;
use crate::meta::{Check, Commit, Outcome};
use crate::plan::{ATTEMPTS, event_bytes, pause};
use crate::pointers::{PointerEvent, ProjectRef};
use crate::records::accounts::DeletionRecord;
use crate::records::{self, Stored, Unknown, encode};
use crate::tokens::end;

/// Projects read at a time.
const PROJECTS_AT_ONCE: usize = 100;
/// Tokens whose rows are removed in one commit.
const TOKENS_AT_ONCE: usize = 50;

impl Engine {
    /// Deletes the caller's account and everything that is its own; answers how many projects went with it. Their hosts
    /// show nothing when this returns, and their names are free.
    ///
    /// # Errors
    ///
    /// [`AccountError::OwnerStays`] for the built-in owner. Where a store fails the account may be gone all the same, and
    /// what is left of it goes within an hour or at the next start.
    pub async fn delete_account(&self, caller: &Principal) -> Result<u64, AccountError> {
        if self.is_owner(caller) {
            return Err(AccountError::OwnerStays);
        }
        let _alone = self.deleting().lock().await;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Stored { record: user, revision } = self.user_of(caller).await?;
            let now = self.clock().now();
            let deletion = DeletionRecord { user: user.id, since: now, finished_at: None, unknown: Unknown::new() };
            let object = format!("account {}", user.name);
            let (own_key, own) = self.audit(caller, "account.delete", object.clone(), now);
            let for_owner = Principal { team: self.owner_principal().team, ..caller.clone() };
            let (owners_key, owners) = self.audit(&for_owner, "account.delete", object, now);
            let user_key = records::accounts::user_key(user.id);
            let mut commit = Commit::new()
                .check(user_key.clone(), Check::Revision(revision))
                .delete(user_key)
                .put(records::accounts::deletion_key(user.team), encode(&deletion))
                .put(own_key, own)
                .put(owners_key, owners);
            if let Some(email) = &user.email {
                commit = commit.delete(records::accounts::email_key(email));
            }
            if self.commit_ending_tokens(commit).await? {
                return self.finish_deletion(user.team, deletion, Some(caller)).await;
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Goes on with what was begun to be deleted and could not be finished, because a store failed or the process died.
    /// Where that fails, sites are served all the same.
    pub(crate) async fn go_on_deleting(&self) {
        let Ok(_alone) = self.deleting().try_lock() else { return };
        if let Err(error) = self.finish_deletions().await {
            tracing::warn!(%error, "an account could not be deleted to the end; it is tried again in an hour");
        }
    }

    async fn finish_deletions(&self) -> Result<(), AccountError> {
        for (team, deletion) in records::accounts::deletions(self.meta()).await? {
            if deletion.finished_at.is_none() {
                let projects = self.finish_deletion(team, deletion, None).await?;
                tracing::info!(projects, "went on deleting an account");
            }
        }
        Ok(())
    }

    async fn finish_deletion(
        &self,
        team: TeamId,
        deletion: DeletionRecord,
        caller: Option<&Principal>,
    ) -> Result<u64, AccountError> {
        let nobody = Principal::new(deletion.user, team, "");
        let (mut deleted, mut after) = (0, None);
        loop {
            let (projects, next) =
                records::projects::of_team(self.meta(), team, after.clone(), PROJECTS_AT_ONCE).await?;
            for project in projects {
                let project = project.record.reference();
                deleted += u64::from(self.remove_project(caller.unwrap_or(&nobody), project).await?);
            }
            match next {
                Some(_) => after = next,
                None => break,
            }
        }
        loop {
            let tokens = records::tokens::of_user(self.meta(), deletion.user, TOKENS_AT_ONCE).await?;
            if tokens.is_empty() {
                break;
            }
            self.meta().commit(tokens.iter().fold(Commit::new(), end)).await?;
        }
        let mut commit = Commit::new();
        if let Some(home) = records::accounts::team(self.meta(), team).await? {
            commit =
                commit.delete(records::accounts::team_key(team)).delete(records::accounts::slug_key(&home.record.slug));
        }
        let finished = DeletionRecord { finished_at: Some(self.clock().now()), ..deletion };
        self.meta().commit(commit.put(records::accounts::deletion_key(team), encode(&finished))).await?;
        Ok(deleted)
    }

    /// Deletes a project by one commit: no name leads to it and no host shows it from then on. Answers whether it was there.
    pub(crate) async fn remove_project(&self, caller: &Principal, project: ProjectRef) -> Result<bool, StoreError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Some(Stored { mut record, revision }) = records::projects::get(self.meta(), project).await? else {
                return Ok(false);
            };
            let now: UnixMillis = self.clock().now();
            record.deleted_at = Some(now);
            let object = format!("project {}", record.name);
            let (audit_key, audit) = self.audit_in(caller, Some(record.id), "project.delete", object, now);
            let key = records::projects::key(project);
            let commit = Commit::new()
                .check(key.clone(), Check::Revision(revision))
                .put(key, encode(&record))
                .delete(records::projects::name_key(&record.name))
                .delete(records::projects::short_id_key(&record.short_id()))
                .put(audit_key, audit)
                .event(event_bytes(&PointerEvent::ProjectDeleted { project_id: record.id }));
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                // What is left of its domains is found again when they are to be proven.
                if let Err(error) = self.tidy_domains(project.team).await {
                    tracing::warn!(%error, "the domains of a deleted project are not free yet");
                }
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::BlobStore;
    use crate::blob::index::MemoryIndex;
    use crate::clock::Clock;
    use crate::id::UserId;
    use crate::limits::Limits;
    use crate::meta::{MemoryMeta, MetaStore};
    use crate::plan::new_project;

    /// An engine over `meta`, as a process that starts has it.
    async fn start(meta: &Arc<MemoryMeta>) -> Engine {
        let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
        let meta: Arc<dyn MetaStore> = Arc::clone(meta) as _;
        Engine::assemble(meta, blobs, Clock::system(), Limits::default(), "pin_owner").await.unwrap()
    }

    #[tokio::test]
    async fn a_start_goes_on_with_what_was_begun() {
        let meta = Arc::new(MemoryMeta::default());
        let engine = start(&meta).await;
        let caller = Principal::new(UserId::random(), TeamId::random(), "gone@example.test");
        for number in 1..=3 {
            let project = new_project(&caller, format!("site-{number}").parse().unwrap(), number, UnixMillis(1));
            let commit = engine.name_project(Commit::new(), &caller, &project);
            let key = records::projects::key(project.reference());
            assert!(matches!(meta.commit(commit.put(key, encode(&project))).await, Ok(Outcome::Done { .. })));
        }
        // One of them went before the process died.
        let first = records::projects::find_by_name(&*meta, &"site-1".parse().unwrap()).await.unwrap().unwrap();
        assert!(engine.remove_project(&caller, first).await.unwrap());
        assert!(!engine.remove_project(&caller, first).await.unwrap());
        let begun =
            DeletionRecord { user: caller.user, since: UnixMillis(1), finished_at: None, unknown: Unknown::new() };
        let commit = Commit::new().put(records::accounts::deletion_key(caller.team), encode(&begun));
        meta.commit(commit).await.unwrap();
        drop(engine);

        let engine = start(&meta).await;
        for name in ["site-1", "site-2", "site-3"] {
            assert_eq!(records::projects::find_by_name(&*meta, &name.parse().unwrap()).await.unwrap(), None, "{name}");
            assert_eq!(engine.resolver().pointers().project(name), None, "{name}");
        }
        let deletions = records::accounts::deletions(&*meta).await.unwrap();
        assert!(deletions[0].1.finished_at.is_some(), "{deletions:?}");
    }
}
