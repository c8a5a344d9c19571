//! The project that a plan is for: its first plan makes it.

use super::{ATTEMPTS, PlanError, event_bytes, pause};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::ProjectId;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::ProjectName;
use crate::pointers::{ProjectRef, ProjectSettings};
use crate::records::projects::{ProjectIndex, ProjectRecord};
use crate::records::{self, Stored, Unknown, encode};

impl Engine {
    /// The project of this name, which is made where nobody has it.
    pub(super) async fn project_for(&self, caller: &Principal, name: &ProjectName) -> Result<ProjectRef, PlanError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let found = records::projects::find_by_name(self.meta(), name).await?;
            if caller.access.project.is_some() && found.is_none_or(|found| !self.reaches(caller, found)) {
                // Alike whether there is such a project, and whose it is.
                return Err(PlanError::OutOfScope);
            }
            if let Some(found) = found {
                return if found.team == caller.team { Ok(found) } else { Err(PlanError::ProjectTaken) };
            }
            let (commit, last) = self.count_projects(1).await?;
            let record = new_project(caller, name.clone(), last, self.clock().now());
            let project = record.reference();
            let deletion = records::accounts::deletion_key(caller.team);
            let commit = self
                .name_project(commit, caller, &record)
                // An account that is being deleted makes no more projects: whoever deletes it has looked for them.
                .check(deletion, Check::Absent)
                .put(records::projects::key(project), encode(&record));
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(project);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// A commit that counts `more` projects, and the number of the last of them.
    pub(crate) async fn count_projects(&self, more: u64) -> Result<(Commit, u64), MetaError> {
        let key = records::projects::counter_key();
        let counter: Option<Stored<u64>> = records::read(self.meta(), key.clone(), "counter").await?;
        let last = counter.as_ref().map_or(0, |counter| counter.record) + more;
        let counted = counter.map_or(Check::Absent, |counter| Check::Revision(counter.revision));
        Ok((Commit::new().check(key.clone(), counted).put(key, encode(&last)), last))
    }

    /// Adds to `commit` all that makes `project` but its own row: the names that lead to it, the audit row, the event.
    pub(crate) fn name_project(&self, commit: Commit, caller: &Principal, project: &ProjectRecord) -> Commit {
        let index = encode(&ProjectIndex { team: project.team, project: project.id });
        let name_key = records::projects::name_key(&project.name);
        let short_key = records::projects::short_id_key(&project.short_id());
        let object = format!("project {}", project.name);
        let (audit_key, audit) = self.audit_in(caller, Some(project.id), "project.create", object, project.created_at);
        commit
            .check(name_key.clone(), Check::Absent)
            // Short ids are unique: the rare project whose id begins like another's gets another id.
            .check(short_key.clone(), Check::Absent)
            .put(name_key, index.clone())
            .put(short_key, index)
            .put(audit_key, audit)
            .event(event_bytes(&project.event()))
    }
}

/// The record of a project that nothing was committed to.
pub(crate) fn new_project(caller: &Principal, name: ProjectName, number: u64, now: UnixMillis) -> ProjectRecord {
    ProjectRecord {
        id: ProjectId::random(),
        number,
        team: caller.team,
        name,
        created_at: now,
        commits: 0,
        images: 0,
        settings: ProjectSettings::default(),
        deleted_at: None,
        unknown: Unknown::new(),
    }
}
