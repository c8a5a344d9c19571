//! The domains of a team.

use std::collections::HashMap;

use super::name::DomainName;
use super::proof::{DomainRules, token};
use super::{DomainError, DomainSelector, DomainSummary};
use crate::account::Principal;
use crate::engine::Engine;
use crate::host::{HostName, HostTarget, Hosts};
use crate::id::{ProjectId, TeamId};
use crate::meta::MetaError;
use crate::name::ProjectName;
use crate::pointers::ProjectRef;
use crate::publish::ProjectSelector;
use crate::records::domains::{ClaimRecord, DomainRecord, RouteRecord};
use crate::records::projects::ProjectRecord;
use crate::records::{self, Stored, read_all};

/// Claims read at a time: more than a team can have.
const ALL: usize = 10_000;

impl Engine {
    /// The prefixes of the team's domains that show `project`, or all that the caller reaches; by domain and prefix.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn domains(
        &self,
        caller: &Principal,
        project: Option<&ProjectSelector>,
        rules: &DomainRules,
    ) -> Result<Vec<DomainSummary>, DomainError> {
        let only = match project {
            Some(project) => {
                let project = self.find_project(caller, project).await?.ok_or(DomainError::ProjectNotFound)?;
                Some(project.project)
            }
            None => caller.access.project,
        };
        let claims = records::domains::claims_of(self.meta(), caller.team, ALL).await?;
        let claims: Vec<ClaimRecord> = claims.into_iter().map(|claim| claim.record).collect();
        let is_meant = |route: &RouteRecord| only.is_none_or(|only| only == route.project);
        let names = self.names_of(caller.team, claims.iter().flat_map(|claim| &claim.routes)).await?;
        let domains: Vec<DomainName> = claims.iter().map(|claim| claim.domain.clone()).collect();
        let mut summaries = Vec::new();
        for (claim, row) in claims.iter().zip(records::domains::get_all(self.meta(), &domains).await?) {
            let row = row.map(|row| row.record);
            for route in claim.routes.iter().filter(|route| is_meant(route)) {
                if let Some(name) = names.get(&route.project) {
                    summaries.push(summary(caller.team, claim, route, name.clone(), row.as_ref(), rules));
                }
            }
        }
        Ok(summaries)
    }

    /// Whether a name is the host of a project that the caller reaches, by the project's own name.
    #[must_use]
    pub fn is_own_host(&self, caller: &Principal, hosts: &Hosts, domain: &DomainName) -> bool {
        let Ok(host) = HostName::parse(domain.as_str()) else { return false };
        let HostTarget::Site { project, .. } = hosts.target(&host) else { return false };
        self.resolver().pointers().project(project).is_some_and(|project| self.reaches(caller, project))
    }

    /// The team's claim of a domain, with those of its prefixes that `selector` names; at least one of them shows a project
    /// that the caller reaches.
    pub(super) async fn claimed(
        &self,
        caller: &Principal,
        selector: &DomainSelector,
    ) -> Result<Stored<ClaimRecord>, DomainError> {
        let found = records::domains::claim(self.meta(), caller.team, &selector.domain).await?;
        let mut claim = found.ok_or(DomainError::NotFound)?;
        self.forget_dead(caller.team, &mut claim.record).await?;
        let is_meant = |route: &RouteRecord| {
            caller.access.reaches(route.project) && selector.prefix.as_ref().is_none_or(|only| *only == route.prefix)
        };
        if claim.record.routes.iter().any(is_meant) { Ok(claim) } else { Err(DomainError::NotFound) }
    }

    /// Leaves out of a claim what shows projects that are gone; answers whether there was any.
    pub(super) async fn forget_dead(&self, team: TeamId, claim: &mut ClaimRecord) -> Result<bool, MetaError> {
        let names = self.names_of(team, &claim.routes).await?;
        let before = claim.routes.len();
        claim.routes.retain(|route| names.contains_key(&route.project));
        Ok(claim.routes.len() < before)
    }

    /// What the projects of these routes are called; those that are gone are left out.
    async fn names_of(
        &self,
        team: TeamId,
        routes: impl IntoIterator<Item = &RouteRecord>,
    ) -> Result<HashMap<ProjectId, ProjectName>, MetaError> {
        let mut projects: Vec<_> = routes.into_iter().map(|route| route.project).collect();
        projects.sort_unstable();
        projects.dedup();
        let keys: Vec<_> =
            projects.iter().map(|&project| records::projects::key(ProjectRef { team, project })).collect();
        let rows = read_all::<ProjectRecord>(self.meta(), &keys, "project").await?;
        let living = rows.into_iter().flatten().filter(|row| row.record.deleted_at.is_none());
        Ok(living.map(|row| (row.record.id, row.record.name)).collect())
    }
}

/// One prefix of a claim, beside the domain's own row.
pub(super) fn summary(
    team: TeamId,
    claim: &ClaimRecord,
    route: &RouteRecord,
    project: ProjectName,
    row: Option<&DomainRecord>,
    rules: &DomainRules,
) -> DomainSummary {
    let holder = row.and_then(|row| row.holder).filter(|holder| holder.team == team);
    DomainSummary {
        domain: claim.domain.clone(),
        prefix: route.prefix.clone(),
        project,
        project_id: route.project,
        environment: route.environment.clone(),
        redirect_to: claim.redirect_to.clone(),
        is_active: holder.is_some(),
        token: token(team, &claim.domain),
        created_at: route.created_at,
        checked_at: holder.map(|holder| holder.checked_at),
        ends_at: holder.and_then(|holder| holder.failing_since).map(|since| since.plus(rules.grace)),
    }
}
