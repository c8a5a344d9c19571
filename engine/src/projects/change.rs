//! Changing a project: what it is called, and what its hosts have to know beside what they show.

use super::{FORMER_NAME, Holder, MOST_FORMER_NAMES, ProjectError, ProjectSummary};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::ProjectName;
use crate::plan::{ATTEMPTS, event_bytes, pause};
use crate::pointers::{FormerName, ImageHosts};
use crate::publish::ProjectSelector;
use crate::queries::LookupError;
use crate::records::projects::{ProjectIndex, ProjectRecord};
use crate::records::{self, Stored, encode};

/// What is to be changed; the rest stays as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProjectChange {
    /// What the project is to be called.
    pub name: Option<ProjectName>,
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
        Ok(self.stored_project(caller, project).await?.record.into())
    }

    /// Changes what a project is called, or how it is set. It is answered when this process serves it so.
    ///
    /// A project that is renamed keeps its former name for [`FORMER_NAME`].
    ///
    /// # Errors
    ///
    /// Where the project is unknown, the name is taken or cannot be had, and where a store fails: then all is as before.
    pub async fn change_project(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        change: ProjectChange,
    ) -> Result<ProjectSummary, ProjectError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Stored { mut record, revision } = self.stored_project(caller, project).await?;
            let now = self.clock().now();
            let mut commit = Commit::new();
            let mut has_changed = false;
            if let Some(name) = change.name.as_ref().filter(|name| **name != record.name) {
                commit = self.rename(commit, caller, &mut record, name, now).await?;
                has_changed = true;
            }
            if let Some(image_hosts) = change.image_hosts.filter(|value| *value != record.settings.image_hosts) {
                record.settings.image_hosts = image_hosts;
                let object = format!("project {}: image_hosts {}", record.name, image_hosts.as_str());
                let (key, row) = self.audit_in(caller, Some(record.id), "project.change", object, now);
                commit = commit.put(key, row);
                has_changed = true;
            }
            if !has_changed {
                // Whoever made it so may not have been answered yet.
                self.catch_up_with_all().await?;
                return Ok(record.into());
            }
            record.settings.number += 1;
            let key = records::projects::key(record.reference());
            let commit = commit
                .check(key.clone(), Check::Revision(revision))
                .put(key, encode(&record))
                .event(event_bytes(&record.event()));
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(record.into());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Adds to `commit` what renames `project` beside its own row, and changes the record.
    async fn rename(
        &self,
        mut commit: Commit,
        caller: &Principal,
        project: &mut ProjectRecord,
        name: &ProjectName,
        now: UnixMillis,
    ) -> Result<Commit, ProjectError> {
        name.check_new()?;
        let reference = project.reference();
        let check = match self.holder(caller, name).await? {
            Holder::Nobody(left) => left.map_or(Check::Absent, Check::Revision),
            Holder::Own { project: keeper, is_former: true, revision } => {
                if keeper != reference {
                    commit = self.release_former_name(commit, keeper, name).await?;
                }
                Check::Revision(revision)
            }
            Holder::Own { is_former: false, .. } => return Err(ProjectError::Exists),
            Holder::Other => return Err(ProjectError::NameTaken),
        };
        project.former_names.retain(|former| former.name != *name);
        commit = self.make_room_for_a_name(commit, project, now).await?;
        let (old, until) = (std::mem::replace(&mut project.name, name.clone()), now.plus(FORMER_NAME));
        let index = |until| encode(&ProjectIndex { team: project.team, project: project.id, until });
        let object = format!("project {old} to {name}");
        let (audit_key, audit) = self.audit_in(caller, Some(project.id), "project.rename", object, now);
        let name_key = records::projects::name_key(name);
        let commit = commit
            .check(name_key.clone(), check)
            .put(name_key, index(None))
            .put(records::projects::name_key(&old), index(Some(until)))
            .put(audit_key, audit);
        project.former_names.push(FormerName { name: old, until });
        Ok(commit)
    }

    /// Where a project keeps as many names as it can, those go whose time is over.
    async fn make_room_for_a_name(
        &self,
        commit: Commit,
        project: &mut ProjectRecord,
        now: UnixMillis,
    ) -> Result<Commit, ProjectError> {
        if project.former_names.len() < MOST_FORMER_NAMES {
            return Ok(commit);
        }
        let reference = project.reference();
        let over: Vec<_> = project.former_names.extract_if(.., |former| former.until <= now).collect();
        if over.is_empty() {
            return Err(ProjectError::TooManyNames { limit: MOST_FORMER_NAMES });
        }
        Ok(self.free_names(commit, reference, &over).await?)
    }

    pub(super) async fn stored_project(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
    ) -> Result<Stored<ProjectRecord>, LookupError> {
        let project = self.find_project(caller, project).await?.ok_or(LookupError::ProjectNotFound)?;
        let found: Result<_, MetaError> = records::projects::get(self.meta(), project).await;
        found?.ok_or(LookupError::ProjectNotFound)
    }
}
