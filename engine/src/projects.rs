//! Projects as a whole: how they are made, called, set and deleted.
//!
//! A name belongs to one project of the whole installation. Who wants it looks at its row, and the commit that takes it
//! checks that the row is as it was seen, so of two who want it one gets it. A project that is renamed keeps its old name
//! for [`FORMER_NAME`]: its hosts lead to the new ones, no other team gets it, and calls of its own team by the old name
//! still mean it. After that the name is whoever's takes it first.

use std::time::Duration;

use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::id::{ProjectId, TeamId};
use crate::meta::{Check, Commit, MetaError, Revision};
use crate::name::{NameError, ProjectName};
use crate::plan::event_bytes;
use crate::pointers::{FormerName, ImageHosts, ProjectRef};
use crate::queries::LookupError;
use crate::records::projects::{ProjectIndex, ProjectRecord};
use crate::records::{self, Stored, encode};
use crate::usage::QuotaError;

mod change;
mod create;
mod empty;
mod list;
mod remove;

pub use change::ProjectChange;
pub(crate) use create::new_project;
pub(crate) use empty::ToEmpty;
pub use list::NameCheck;

/// How long a project keeps a name that it no longer has.
pub const FORMER_NAME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How many names a project can keep beside its own.
pub const MOST_FORMER_NAMES: usize = 10;

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

impl From<ProjectRecord> for ProjectSummary {
    fn from(project: ProjectRecord) -> Self {
        Self {
            id: project.id,
            name: project.name,
            team: project.team,
            created_at: project.created_at,
            image_hosts: project.settings.image_hosts,
        }
    }
}

/// Why a project was not made, changed or deleted. Whichever it is, all is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    NotFound,
    /// The team has a project of this name.
    #[error("the team has a project of this name")]
    Exists,
    /// Another team has a project of this name, or keeps it.
    #[error("another team has a project of this name, or had it lately")]
    NameTaken,
    /// The name cannot be that of a new project.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The project keeps as many names as it can.
    #[error("the project was renamed {limit} times in 30 days")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// The team has as many projects as it may.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The token is for another project, and makes none.
    #[error("the token is for another project")]
    OutOfScope,
    /// The account is being deleted.
    #[error("the account is being deleted")]
    AccountGone,
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(ProjectError);

impl From<LookupError> for ProjectError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Store(error) => error.into(),
            _ => Self::NotFound,
        }
    }
}

/// Whose a name is, as one team sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder {
    /// Nobody's; what is left of the time of another project may be in the way.
    Nobody(Option<Revision>),
    /// A project of the team has it, or had it and keeps it.
    Own { project: ProjectRef, is_former: bool, revision: Revision },
    /// Another team's.
    Other,
}

impl Holder {
    fn of(row: Option<Stored<ProjectIndex>>, team: TeamId, now: UnixMillis) -> Self {
        let Some(Stored { record, revision }) = row else { return Self::Nobody(None) };
        match record.until {
            until if record.team == team => Self::Own { project: record.into(), is_former: until.is_some(), revision },
            Some(until) if until <= now => Self::Nobody(Some(revision)),
            _ => Self::Other,
        }
    }
}

impl Engine {
    /// Whose `name` is, as the caller's team sees it.
    pub(crate) async fn holder(&self, caller: &Principal, name: &ProjectName) -> Result<Holder, MetaError> {
        let row = records::projects::by_name(self.meta(), name).await?;
        Ok(Holder::of(row, caller.team, self.clock().now()))
    }

    /// The project that has `name`, or had it and keeps it; nothing where the caller can have it.
    pub(crate) async fn project_called(
        &self,
        caller: &Principal,
        name: &ProjectName,
    ) -> Result<Option<ProjectRef>, MetaError> {
        let row = records::projects::by_name(self.meta(), name).await?;
        let project = row.as_ref().map(|row| row.record.into());
        Ok(match Holder::of(row, caller.team, self.clock().now()) {
            Holder::Nobody(_) => None,
            Holder::Own { .. } | Holder::Other => project,
        })
    }

    /// Adds to `commit` that a project no longer keeps `name`, because another of the same team gets it.
    async fn release_former_name(
        &self,
        commit: Commit,
        keeper: ProjectRef,
        name: &ProjectName,
    ) -> Result<Commit, MetaError> {
        // A project that is gone keeps nothing, and its row stays as it is.
        let Some(Stored { mut record, revision }) = records::projects::get(self.meta(), keeper).await? else {
            return Ok(commit);
        };
        record.former_names.retain(|former| former.name != *name);
        record.settings.number += 1;
        let key = records::projects::key(keeper);
        Ok(commit
            .check(key.clone(), Check::Revision(revision))
            .put(key, encode(&record))
            .event(event_bytes(&record.event())))
    }

    /// Adds to `commit` that those of `names` that still lead to `project` lead nowhere.
    async fn free_names(
        &self,
        mut commit: Commit,
        project: ProjectRef,
        names: &[FormerName],
    ) -> Result<Commit, MetaError> {
        for FormerName { name, .. } in names {
            let row = records::projects::by_name(self.meta(), name).await?;
            // After its time it may have become another project's.
            if let Some(row) = row.filter(|row| ProjectRef::from(row.record) == project) {
                let key = records::projects::name_key(name);
                commit = commit.check(key.clone(), Check::Revision(row.revision)).delete(key);
            }
        }
        Ok(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_name_is() {
        let (own, other) = (TeamId::random(), TeamId::random());
        let now = UnixMillis(1000);
        let row = |team, until: Option<u64>| {
            let record = ProjectIndex { team, project: ProjectId::random(), until: until.map(UnixMillis) };
            Some(Stored { record, revision: Revision(7) })
        };
        for (row, want) in [
            (None, "Nobody(None)"),
            (row(own, None), "is_former: false"),
            (row(own, Some(1001)), "is_former: true"),
            (row(own, Some(1)), "is_former: true"), // until somebody else has it
            (row(other, None), "Other"),
            (row(other, Some(1001)), "Other"),
            (row(other, Some(1000)), "Nobody(Some(Revision(7)))"),
        ] {
            let text = format!("{row:?}");
            let got = format!("{:?}", Holder::of(row, own, now));
            assert!(got.contains(want), "{text}: {got}");
        }
    }
}
