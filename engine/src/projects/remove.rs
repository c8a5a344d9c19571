//! Deleting a project: one commit, after which nothing leads to it. What belonged to it is removed in the background.

use super::ProjectError;
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::meta::{Check, Commit, Outcome};
use crate::plan::{ATTEMPTS, event_bytes, pause};
use crate::pointers::{PointerEvent, ProjectRef};
use crate::publish::ProjectSelector;
use crate::records::{self, Stored, encode};

impl Engine {
    /// Deletes a project. Its hosts show nothing when this returns, and its names are free.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn delete_project(&self, caller: &Principal, project: &ProjectSelector) -> Result<(), ProjectError> {
        let project = self.find_project(caller, project).await?.ok_or(ProjectError::NotFound)?;
        if self.remove_project(caller, project).await? { Ok(()) } else { Err(ProjectError::NotFound) }
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
            let former_names = std::mem::take(&mut record.former_names);
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
            let commit = self.usage_to_change(project.team, false).await?.remove_project(commit);
            let commit = self.free_names(commit, project, &former_names).await?;
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.emptying().add(project);
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
