//! Proving a domain, and proving it again.
//!
//! Whoever asks the network does so between two calls: the first says what to look for, the second decides by what was
//! found, in a commit that checks that nothing has changed meanwhile. Nothing is held while the network is asked.

use super::name::DomainName;
use super::proof::{self, Again, DomainRules, Evidence, token};
use super::{DomainError, DomainSelector, Verified};
use crate::account::{Origin, Principal};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::{TeamId, random_bytes};
use crate::meta::{Commit, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::records::domains::{DomainRecord, HolderRecord};
use crate::records::{self, Stored};

/// A domain that is to be proven again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Due {
    /// The domain.
    pub domain: DomainName,
    /// The team that has it.
    pub team: TeamId,
    /// What has to be found.
    pub token: String,
}

/// What became of a domain that was looked at again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checked {
    /// It is the team's as before.
    Holds,
    /// It was not proven, and is shown for a while all the same.
    Failing,
    /// It was not proven for too long: it shows nothing any more.
    Ended,
    /// Nobody answered. It is looked at again, and nothing comes of it.
    Unknown,
    /// It is not that team's any more.
    Gone,
}

impl Engine {
    /// What proves that a domain is the caller's team's.
    ///
    /// # Errors
    ///
    /// Where the team does not claim the domain, and where a store fails.
    pub async fn domain_token(&self, caller: &Principal, selector: &DomainSelector) -> Result<String, DomainError> {
        self.claimed(caller, selector).await?;
        Ok(token(caller.team, &selector.domain))
    }

    /// Lets the caller's team have a domain that it claims, where what was found proves it. It is answered when this
    /// process serves it.
    ///
    /// # Errors
    ///
    /// Where the team does not claim the domain, another one has it or had it until a moment ago, and where a store fails.
    /// That nothing was proven is no error.
    pub async fn verify_domain(
        &self,
        caller: &Principal,
        selector: &DomainSelector,
        evidence: &Evidence,
        rules: &DomainRules,
    ) -> Result<Verified, DomainError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let claim = self.claimed(caller, selector).await?;
            let before = records::domains::get(self.meta(), &selector.domain).await?;
            let row = before.as_ref().map(|before| &before.record);
            if row.is_some_and(|row| row.is_anothers(caller.team)) {
                return Err(DomainError::Taken);
            }
            if let Some(until) = row.and_then(|row| row.held_off_from(caller.team, now)) {
                return Err(DomainError::HeldOff { until });
            }
            let held = row.and_then(|row| row.holder);
            let method = match (proof::first(evidence), held) {
                (Ok(method), _) => method,
                (Err(missing), Some(held)) => {
                    // As good as a look by the schedule, only that it is not counted against the team.
                    let missing = (proof::again(held.method, evidence) == Again::Lost).then_some(missing);
                    return Ok(Verified { is_active: true, missing });
                }
                (Err(missing), None) => return Ok(Verified { is_active: false, missing: Some(missing) }),
            };
            let [chance] = random_bytes();
            let holder = HolderRecord {
                team: caller.team,
                method,
                proven_at: held.map_or(now, |held| held.proven_at),
                checked_at: now,
                due_at: proof::due(rules, now, false, chance),
                failing_since: None,
            };
            let after =
                before.as_ref().map_or_else(|| DomainRecord::new(selector.domain.clone()), |b| b.record.clone());
            let shows = claim.record.shows();
            let after = DomainRecord { holder: Some(holder), shows, held_off: None, ..after };
            let project = claim.record.routes.first().map(|route| route.project);
            let mut commit = self.claiming(caller.team, Some(&claim), &claim.record);
            if held.is_none() {
                let object = format!("{} by {}", selector.domain, word(method));
                let (audit_key, audit) = self.audit_in(caller, project, "domain.verify", object, now);
                commit = commit.put(audit_key, audit);
            }
            let commit = records::domains::put(commit, before.as_ref(), after);
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(Verified { is_active: true, missing: None });
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Up to `limit` domains that are to be proven again by now, the longest overdue first.
    ///
    /// # Errors
    ///
    /// Where a store fails.
    pub async fn domains_due(&self, limit: usize) -> Result<Vec<Due>, StoreError> {
        let domains = records::domains::due(self.meta(), self.clock().now(), limit).await?;
        let rows = records::domains::get_all(self.meta(), &domains).await?;
        let due = domains.into_iter().zip(rows).filter_map(|(domain, row)| {
            let team = row?.record.holder?.team;
            let token = token(team, &domain);
            Some(Due { domain, team, token })
        });
        Ok(due.collect())
    }

    /// Notes what was found of a domain that was to be proven again. One that cannot be proven any more is shown for the
    /// time of grace, and then not.
    ///
    /// # Errors
    ///
    /// Where a store fails.
    pub async fn record_domain_check(
        &self,
        due: &Due,
        evidence: &Evidence,
        rules: &DomainRules,
    ) -> Result<Checked, StoreError> {
        self.tidy_domain(due.team, &due.domain).await?;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let Some(before) = records::domains::get(self.meta(), &due.domain).await? else {
                return Ok(Checked::Gone);
            };
            let Some(held) = before.record.holder.filter(|holder| holder.team == due.team) else {
                return Ok(Checked::Gone);
            };
            let [chance] = random_bytes();
            let next = |is_failing| proof::due(rules, now, is_failing, chance);
            let (holder, checked) = match proof::again(held.method, evidence) {
                Again::Holds(method) => {
                    let holder =
                        HolderRecord { method, checked_at: now, due_at: next(false), failing_since: None, ..held };
                    (Some(holder), Checked::Holds)
                }
                Again::Unknown => (Some(HolderRecord { due_at: next(true), ..held }), Checked::Unknown),
                Again::Lost => {
                    let since = held.failing_since.unwrap_or(now);
                    if held.failing_since.is_some() && since.plus(rules.grace) <= now {
                        (None, Checked::Ended)
                    } else {
                        let holder = HolderRecord { due_at: next(true), failing_since: Some(since), ..held };
                        (Some(holder), Checked::Failing)
                    }
                }
            };
            let commit = self.noting(due, &before, holder, checked);
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(checked);
            }
        }
        Err(StoreError::Contended)
    }

    fn noting(
        &self,
        due: &Due,
        before: &Stored<DomainRecord>,
        holder: Option<HolderRecord>,
        checked: Checked,
    ) -> Commit {
        let now = self.clock().now();
        let started_to_fail =
            checked == Checked::Failing && before.record.holder.is_some_and(|holder| holder.failing_since.is_none());
        let action = match checked {
            Checked::Ended => Some("domain.end"),
            Checked::Failing if started_to_fail => Some("domain.fail"),
            _ => None,
        };
        let mut commit = Commit::new();
        if let Some(action) = action {
            let object = due.domain.to_string();
            let (key, row) = self.audit_of_nobody(due.team, action, object, &Origin::default(), now);
            commit = commit.put(key, row);
        }
        // Who does not have a domain any more has lost it to its owner, who need not wait.
        let shows = holder.and(before.record.shows.clone());
        let after = DomainRecord { holder, shows, ..before.record.clone() };
        records::domains::put(commit, Some(before), after)
    }
}

fn word(method: proof::Method) -> &'static str {
    match method {
        proof::Method::Txt => "a TXT record",
        proof::Method::File => "a file",
    }
}
