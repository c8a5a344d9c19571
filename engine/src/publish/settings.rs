//! The settings of a project: what its hosts have to know beside what they show.

use super::ProjectSelector;
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::{ProjectId, TeamId};
use crate::meta::{Check, Commit, Outcome};
use crate::name::ProjectName;
use crate::plan::{ATTEMPTS, event_bytes, pause};
use crate::pointers::{ImageHosts, ProjectSettings};
use crate::queries::LookupError;
use crate::records::projects::ProjectRecord;
use crate::records::{self, Stored, encode};

/// A project, and how it is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectSummary {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: ProjectName,
    /// Its owner.
    pub team: TeamId,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Who gets its images by their own hosts.
    pub image_hosts: ImageHosts,
}

/// What is to be set; the rest stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProjectChange {
    /// Who gets the project's images by their own hosts.
    pub image_hosts: Option<ImageHosts>,
}

impl Engine {
    /// A project, and how it is set.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn project(&self, caller: &Principal, project: &ProjectSelector) -> Result<ProjectSummary, LookupError> {
        Ok(summary(self.stored_project(caller, project).await?.record))
    }

    /// Changes how a project is set. It is answered when this process serves it so.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails: then it is set as before.
    pub async fn change_project(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        change: ProjectChange,
    ) -> Result<ProjectSummary, LookupError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Stored { mut record, revision } = self.stored_project(caller, project).await?;
            let image_hosts = change.image_hosts.unwrap_or(record.settings.image_hosts);
            if image_hosts == record.settings.image_hosts {
                // Whoever set it so may not have been answered yet.
                self.catch_up_with_all().await?;
                return Ok(summary(record));
            }
            record.settings = ProjectSettings { number: record.settings.number + 1, image_hosts };
            let object = format!("project {}: image_hosts {}", record.name, image_hosts.as_str());
            let (audit_key, audit) =
                self.audit_in(caller, Some(record.id), "project.change", object, self.clock().now());
            let key = records::projects::key(record.reference());
            let commit = Commit::new()
                .check(key.clone(), Check::Revision(revision))
                .put(key, encode(&record))
                .put(audit_key, audit)
                .event(event_bytes(&record.event()));
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(summary(record));
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn stored_project(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
    ) -> Result<Stored<ProjectRecord>, LookupError> {
        let project = self.find_project(caller, project).await?.ok_or(LookupError::ProjectNotFound)?;
        records::projects::get(self.meta(), project).await?.ok_or(LookupError::ProjectNotFound)
    }
}

fn summary(project: ProjectRecord) -> ProjectSummary {
    ProjectSummary {
        id: project.id,
        name: project.name,
        team: project.team,
        created_at: project.created_at,
        image_hosts: project.settings.image_hosts,
    }
}
