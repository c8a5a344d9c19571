//! Making a project: by name, or by the first plan for it.

use serde::{Deserialize, Serialize};

use super::{Holder, ProjectError, ProjectSummary};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::ProjectId;
use crate::limits::NO_LIMIT;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::ProjectName;
use crate::plan::{ATTEMPTS, PlanError, event_bytes, pause};
use crate::pointers::{ProjectRef, ProjectSettings};
use crate::publish::ProjectSelector;
use crate::records::idempotency::{IdempotencyKey, Known, Once};
use crate::records::projects::{ProjectIndex, ProjectRecord};
use crate::records::{self, Stored, Unknown, encode};

#[derive(Deserialize, Serialize)]
struct CreateAnswer {
    project: ProjectId,
}

impl Engine {
    /// Makes a project. A name that another project of the team only keeps becomes the new one's.
    ///
    /// # Errors
    ///
    /// Where the name is taken or cannot be a new project's, and where a store fails.
    pub async fn create_project(
        &self,
        caller: &Principal,
        name: &ProjectName,
        key: Option<&IdempotencyKey>,
    ) -> Result<ProjectSummary, ProjectError> {
        let once = key.map(|key| Once::new(caller.team, caller.user, key, "project.create", name));
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let mut stale = None;
            if let Some(once) = &once {
                match once.look::<CreateAnswer>(self.meta(), self.clock().now()).await? {
                    Known::Done(answer) => {
                        return Ok(self.project(caller, &ProjectSelector::Id(answer.project)).await?);
                    }
                    Known::OtherRequest => return Err(ProjectError::KeyReused),
                    Known::New(in_the_way) => stale = in_the_way,
                }
            }
            let holder = self.holder(caller, name).await?;
            if let Holder::Own { is_former: false, .. } = holder {
                return Err(ProjectError::Exists);
            }
            let (mut commit, record) = self.commit_of_new(caller, name, holder).await?;
            if let Some(once) = &once {
                let answer = CreateAnswer { project: record.id };
                commit = once.record(commit, stale.as_ref(), &answer, record.created_at);
            }
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(record.into());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// The project that a plan is for, which is made where nobody has the name.
    pub(crate) async fn project_for(&self, caller: &Principal, name: &ProjectName) -> Result<ProjectRef, PlanError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let holder = self.holder(caller, name).await?;
            match holder {
                Holder::Own { project, .. } if self.reaches(caller, project) => return Ok(project),
                // Alike whether there is such a project, and whose it is.
                _ if caller.access.project.is_some() => return Err(PlanError::OutOfScope),
                Holder::Other => return Err(PlanError::ProjectTaken),
                Holder::Own { .. } | Holder::Nobody(_) => {}
            }
            let (commit, record) = self.commit_of_new(caller, name, holder).await.map_err(not_planned)?;
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(record.reference());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// The commit that makes a project of a name whose holder is known, and the project.
    async fn commit_of_new(
        &self,
        caller: &Principal,
        name: &ProjectName,
        holder: Holder,
    ) -> Result<(Commit, ProjectRecord), ProjectError> {
        if caller.access.project.is_some() {
            return Err(ProjectError::OutOfScope);
        }
        name.check_new()?;
        let deletion = records::accounts::deletion_key(caller.team);
        if !self.meta().get(std::slice::from_ref(&deletion)).await?.iter().all(Option::is_none) {
            return Err(ProjectError::AccountGone);
        }
        let (mut commit, last) = self.count_projects(1).await?;
        let limits = self.limits();
        let usage = self.usage_to_change(caller.team, limits.team_projects < NO_LIMIT).await?;
        commit = usage.add_project(commit, limits)?;
        let check = match holder {
            Holder::Nobody(left) => left.map_or(Check::Absent, Check::Revision),
            Holder::Own { project, revision, .. } => {
                commit = self.release_former_name(commit, project, name).await?;
                Check::Revision(revision)
            }
            Holder::Other => return Err(ProjectError::NameTaken),
        };
        let record = new_project(caller, name.clone(), last, self.clock().now());
        let commit = self
            .name_project(commit, caller, &record, check)
            // An account that is being deleted makes no more projects: whoever deletes it has looked for them.
            .check(deletion, Check::Absent)
            .put(records::projects::key(record.reference()), encode(&record));
        Ok((commit, record))
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
    /// `check` is what was seen of the name's row.
    pub(crate) fn name_project(
        &self,
        commit: Commit,
        caller: &Principal,
        project: &ProjectRecord,
        check: Check,
    ) -> Commit {
        let index = encode(&ProjectIndex { team: project.team, project: project.id, until: None });
        let name_key = records::projects::name_key(&project.name);
        let short_key = records::projects::short_id_key(&project.short_id());
        let object = format!("project {}", project.name);
        let (audit_key, audit) = self.audit_in(caller, Some(project.id), "project.create", object, project.created_at);
        commit
            .check(name_key.clone(), check)
            // Short ids are unique: the rare project whose id begins like another's gets another id.
            .check(short_key.clone(), Check::Absent)
            .put(name_key, index.clone())
            .put(short_key, index)
            .put(audit_key, audit)
            .event(event_bytes(&project.event()))
    }
}

/// Why a plan does not get the project that it would make.
fn not_planned(error: ProjectError) -> PlanError {
    match error {
        ProjectError::Store(error) => error.into(),
        other => PlanError::Project(other),
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
        former_names: Vec::new(),
        deleted_at: None,
        emptied_at: None,
        unknown: Unknown::new(),
    }
}
