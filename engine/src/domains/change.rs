//! Claiming a domain, and giving it up.

use super::list::summary;
use super::name::DomainName;
use super::proof::DomainRules;
use super::{
    Added, DomainChange, DomainError, DomainSelector, DomainSummary, MOST_PREFIXES, NameWarning, NewDomain, alike,
    is_systems,
};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::host::{HostName, HostTarget, Hosts};
use crate::id::TeamId;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::pointers::ProjectRef;
use crate::records::domains::{ClaimRecord, DomainRecord, HoldOff, RouteRecord};
use crate::records::idempotency::{IdempotencyKey, Known, Once};
use crate::records::projects::ProjectRecord;
use crate::records::{self, Stored, Unknown, encode};

impl Engine {
    /// Says that a domain is to show a project. It does at once where the team has the domain, and else when that is
    /// proven.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, the domain is the server's or another team's, it shows something under the prefix
    /// already, or a store fails.
    pub async fn add_domain(
        &self,
        caller: &Principal,
        new: &NewDomain,
        hosts: &Hosts,
        rules: &DomainRules,
        key: Option<&IdempotencyKey>,
    ) -> Result<Added, DomainError> {
        let project = self.find_project(caller, &new.project).await?.ok_or(DomainError::ProjectNotFound)?;
        let asked = (project.project, &new.domain, &new.prefix, &new.environment, &new.redirect_to);
        let once = key.map(|key| Once::new(caller.team, caller.user, key, "domain", &asked));
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let Some(found) = records::projects::get(self.meta(), project).await? else {
                return Err(DomainError::ProjectNotFound);
            };
            if is_systems(hosts, &new.domain) {
                return Err(self.systems(hosts, new, &found.record));
            }
            let claim_before = records::domains::claim(self.meta(), caller.team, &new.domain).await?;
            let row_before = records::domains::get(self.meta(), &new.domain).await?;
            let stale = match &once {
                Some(once) => match once.look::<UnixMillis>(self.meta(), now).await? {
                    Known::New(stale) => stale,
                    Known::OtherRequest => return Err(DomainError::KeyReused),
                    Known::Done(at) => {
                        // As it was made, also where it has changed since.
                        let route = new_route(caller, new, &found.record, at);
                        let claim = claim_before.map_or_else(|| new_claim(&new.domain), |claim| claim.record);
                        let row = row_before.as_ref().map(|row| &row.record);
                        let domain = summary(caller.team, &claim, &route, found.record.name, row, rules);
                        return Ok(Added { domain, warnings: self.warnings(&new.domain, hosts).await? });
                    }
                },
                None => None,
            };
            if let Some(row) = &row_before {
                if row.record.is_anothers(caller.team) {
                    return Err(DomainError::Taken);
                }
                if let Some(until) = row.record.held_off_from(caller.team, now) {
                    return Err(DomainError::HeldOff { until });
                }
            }
            let mut claim = claim_before.as_ref().map_or_else(|| new_claim(&new.domain), |claim| claim.record.clone());
            self.forget_dead(caller.team, &mut claim).await?;
            if claim.routes.iter().any(|route| route.prefix == new.prefix) {
                return Err(DomainError::Exists);
            }
            let too_many = DomainError::TooMany { domains: rules.per_team };
            if claim.routes.len() >= MOST_PREFIXES {
                return Err(too_many);
            }
            if claim_before.is_none() {
                let others = records::domains::claims_of(self.meta(), caller.team, rules.per_team).await?;
                if others.len() >= rules.per_team {
                    return Err(too_many);
                }
            }
            let route = new_route(caller, new, &found.record, now);
            claim.routes.push(route.clone());
            claim.routes.sort_by(|a, b| a.prefix.cmp(&b.prefix));
            if new.redirect_to.is_some() {
                claim.redirect_to.clone_from(&new.redirect_to);
            }
            let object = format!("{}{} for {} of {}", new.domain, new.prefix, new.environment, found.record.name);
            let (audit_key, audit) = self.audit_in(caller, Some(project.project), "domain.add", object, now);
            let mut commit = self.claiming(caller.team, claim_before.as_ref(), &claim);
            commit = commit
                // Whoever deletes the project, or calls it otherwise, writes its row.
                .check(records::projects::key(project), Check::Revision(found.revision))
                .put(audit_key, audit);
            if let Some(target) = &new.redirect_to {
                commit = self.check_redirect(commit, caller.team, &new.domain, target).await?;
            }
            let row = match row_before {
                Some(before) if before.record.holder.is_some() => {
                    let after = DomainRecord { shows: claim.shows(), ..before.record.clone() };
                    commit = records::domains::put(commit, Some(&before), after.clone());
                    Some(after)
                }
                _ => None,
            };
            if let Some(once) = &once {
                commit = once.record(commit, stale.as_ref(), &now, now);
            }
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                let domain = summary(caller.team, &claim, &route, found.record.name, row.as_ref(), rules);
                return Ok(Added { domain, warnings: self.warnings(&new.domain, hosts).await? });
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Changes what a domain shows under a prefix, or where its visitors are sent. It is answered when this process serves
    /// it so.
    ///
    /// # Errors
    ///
    /// Where the team has no such domain, several prefixes could be meant, visitors cannot be sent there, and where a
    /// store fails.
    pub async fn change_domain(
        &self,
        caller: &Principal,
        selector: &DomainSelector,
        change: &DomainChange,
        rules: &DomainRules,
    ) -> Result<DomainSummary, DomainError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let before = self.claimed(caller, selector).await?;
            let mut claim = before.record.clone();
            let index = match (the_one(&claim.routes, selector), &change.environment) {
                // Where visitors are sent concerns all prefixes.
                (Err(DomainError::Ambiguous), None) => 0,
                (found, _) => found?,
            };
            let route = &mut claim.routes[index];
            if !caller.access.reaches(route.project) {
                return Err(DomainError::NotFound);
            }
            if let Some(environment) = &change.environment {
                route.environment.clone_from(environment);
            }
            let route = route.clone();
            if let Some(redirect_to) = &change.redirect_to {
                claim.redirect_to.clone_from(redirect_to);
            }
            let project = ProjectRef { team: caller.team, project: route.project };
            let Some(name) = records::projects::get(self.meta(), project).await? else { continue };
            let name = name.record.name;
            let row = records::domains::get(self.meta(), &claim.domain).await?.map(|row| row.record);
            if claim.shows() == before.record.shows() {
                // Whoever made it so may not have been answered yet.
                self.catch_up_with_all().await?;
                return Ok(summary(caller.team, &claim, &route, name, row.as_ref(), rules));
            }
            let redirect = claim.redirect_to.as_ref().map(|target| format!(", visitors sent to {target}"));
            let object = format!(
                "{}{}: {} of {name}{}",
                claim.domain,
                route.prefix,
                route.environment,
                redirect.unwrap_or_default()
            );
            let (audit_key, audit) = self.audit_in(caller, Some(route.project), "domain.change", object, now);
            let mut commit = self.claiming(caller.team, Some(&before), &claim).put(audit_key, audit);
            if let Some(Some(target)) = &change.redirect_to {
                commit = self.check_redirect(commit, caller.team, &claim.domain, target).await?;
            }
            let commit = self.showing(commit, caller.team, &claim, None).await?;
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(summary(caller.team, &claim, &route, name, row.as_ref(), rules));
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Lets a domain show nothing under one prefix any more. With the last one the team gives it up, and for a while
    /// nobody else gets it.
    ///
    /// # Errors
    ///
    /// Where the team has no such domain, several prefixes could be meant, it is a project's own host, or a store fails.
    pub async fn remove_domain(
        &self,
        caller: &Principal,
        selector: &DomainSelector,
        hosts: &Hosts,
        rules: &DomainRules,
    ) -> Result<(), DomainError> {
        if is_systems(hosts, &selector.domain) {
            return Err(DomainError::Reserved);
        }
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let before = self.claimed(caller, selector).await?;
            let mut claim = before.record.clone();
            let index = the_one(&claim.routes, selector)?;
            if !caller.access.reaches(claim.routes[index].project) {
                return Err(DomainError::NotFound);
            }
            let gone = claim.routes.remove(index);
            let object = format!("{}{}", claim.domain, gone.prefix);
            let (audit_key, audit) = self.audit_in(caller, Some(gone.project), "domain.remove", object, now);
            let commit = self.claiming(caller.team, Some(&before), &claim).put(audit_key, audit);
            let commit = self.showing(commit, caller.team, &claim, Some((now, rules))).await?;
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// A commit that writes a claim as it is to be, or removes it where nothing is left of it.
    pub(super) fn claiming(&self, team: TeamId, before: Option<&Stored<ClaimRecord>>, claim: &ClaimRecord) -> Commit {
        let key = records::domains::claim_key(team, &claim.domain);
        let check = before.map_or(Check::Absent, |before| Check::Revision(before.revision));
        let commit = Commit::new().check(key.clone(), check);
        if claim.routes.is_empty() { commit.delete(key) } else { commit.put(key, encode(claim)) }
    }

    /// Adds to `commit` that the domain shows what the claim says, where the team has it. Where nothing is left of the
    /// claim the team gives the domain up; `leaving` is the moment, and says that others have to wait.
    pub(super) async fn showing(
        &self,
        commit: Commit,
        team: TeamId,
        claim: &ClaimRecord,
        leaving: Option<(UnixMillis, &DomainRules)>,
    ) -> Result<Commit, MetaError> {
        let key = records::domains::key(&claim.domain);
        let Some(before) = records::domains::get(self.meta(), &claim.domain).await? else {
            return Ok(commit.check(key, Check::Absent));
        };
        if before.record.holder.is_none_or(|holder| holder.team != team) {
            return Ok(commit.check(key, Check::Revision(before.revision)));
        }
        let mut after = DomainRecord { shows: claim.shows(), ..before.record.clone() };
        if after.shows.is_none() {
            after.holder = None;
            let held = |(now, rules): (UnixMillis, &DomainRules)| HoldOff { team, until: now.plus(rules.hold_off) };
            after.held_off = leaving.map(held);
        }
        Ok(records::domains::put(commit, Some(&before), after))
    }

    /// Checks that visitors can be sent from `domain` to `target`, and that this stays so until the commit.
    async fn check_redirect(
        &self,
        commit: Commit,
        team: TeamId,
        domain: &DomainName,
        target: &DomainName,
    ) -> Result<Commit, DomainError> {
        if domain.counterpart().as_ref() != Some(target) {
            return Err(DomainError::Redirect);
        }
        let other = records::domains::claim(self.meta(), team, target).await?;
        if other.as_ref().is_some_and(|other| other.record.redirect_to.is_some()) {
            return Err(DomainError::Redirect);
        }
        let check = other.map_or(Check::Absent, |other| Check::Revision(other.revision));
        Ok(commit.check(records::domains::claim_key(team, target), check))
    }

    async fn warnings(&self, domain: &DomainName, hosts: &Hosts) -> Result<Vec<NameWarning>, MetaError> {
        let mut warnings = alike::warnings(domain, hosts.base_domain());
        if records::domains::has_alike(self.meta(), domain).await? {
            warnings.push(NameWarning::LooksLikeAnother);
        }
        Ok(warnings)
    }

    /// Why a name of the server's own is not added: it may be what the project has by its name.
    fn systems(&self, hosts: &Hosts, new: &NewDomain, project: &ProjectRecord) -> DomainError {
        let Ok(host) = HostName::parse(new.domain.as_str()) else { return DomainError::Reserved };
        match hosts.target(&host) {
            HostTarget::Site { project: label, environment }
                if new.prefix.is_whole()
                    && label == project.name.as_str()
                    && environment == new.environment.as_str() =>
            {
                DomainError::Exists
            }
            _ => DomainError::Reserved,
        }
    }
}

/// Which of the routes is meant: that of the prefix, or the only one.
fn the_one(routes: &[RouteRecord], selector: &DomainSelector) -> Result<usize, DomainError> {
    match (&selector.prefix, routes) {
        (Some(prefix), routes) => routes.iter().position(|route| route.prefix == *prefix).ok_or(DomainError::NotFound),
        (None, []) => Err(DomainError::NotFound),
        (None, [_]) => Ok(0),
        (None, _) => Err(DomainError::Ambiguous),
    }
}

fn new_claim(domain: &DomainName) -> ClaimRecord {
    ClaimRecord { domain: domain.clone(), routes: Vec::new(), redirect_to: None, unknown: Unknown::new() }
}

fn new_route(caller: &Principal, new: &NewDomain, project: &ProjectRecord, at: UnixMillis) -> RouteRecord {
    RouteRecord {
        prefix: new.prefix.clone(),
        project: project.id,
        environment: new.environment.clone(),
        created_at: at,
        user: caller.user,
    }
}
