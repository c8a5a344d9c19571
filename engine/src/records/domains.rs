//! Domains: which team has one, what it shows, and what each team wants it to show.
//!
//! A domain that somebody has proven has a row of its own, for good: its numbers never repeat. What a team wants of a
//! domain, proven or not, is the team's *claim*. Only the claim of the team that has the domain is shown.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, encode, read, read_all};
use crate::clock::UnixMillis;
use crate::domains::alike;
use crate::domains::name::{DomainName, PathPrefix};
use crate::domains::proof::Method;
use crate::id::{ProjectId, TeamId, UserId};
use crate::meta::{Check, Commit, Key, MetaError, MetaStore, Order, after_prefix};
use crate::name::EnvironmentName;
use crate::plan::event_bytes;
use crate::pointers::{DomainRoute, DomainShown, PointerEvent};

/// A domain that is or was proven.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DomainRecord {
    /// Its name.
    pub domain: DomainName,
    /// How often what it shows has changed.
    pub number: u64,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderRecord>,
    /// What it shows; nothing where nobody has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<DomainShown>,
    /// Who had it, and until when nobody else gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_off: Option<HoldOff>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The team that has a domain.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HolderRecord {
    /// The team.
    pub team: TeamId,
    /// How it was proven last.
    pub method: Method,
    /// When it was proven first.
    pub proven_at: UnixMillis,
    /// When it was proven last.
    pub checked_at: UnixMillis,
    /// When it is to be proven again.
    pub due_at: UnixMillis,
    /// Since when it has not been proven any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<UnixMillis>,
}

/// The team that removed a domain, and until when it alone can come back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoldOff {
    /// The team.
    pub team: TeamId,
    /// The end.
    pub until: UnixMillis,
}

/// What a team wants a domain to show.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClaimRecord {
    /// The domain.
    pub domain: DomainName,
    /// By prefix.
    pub routes: Vec<RouteRecord>,
    /// The domain that visitors are sent to instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<DomainName>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What is wanted under one prefix of a domain.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RouteRecord {
    /// The prefix.
    pub prefix: PathPrefix,
    /// The project.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentName,
    /// When it was added.
    pub created_at: UnixMillis,
    /// Who added it.
    pub user: UserId,
}

impl ClaimRecord {
    /// What the domain shows if this claim is what counts; nothing where there is nothing left of it.
    #[must_use]
    pub fn shows(&self) -> Option<DomainShown> {
        let route = |route: &RouteRecord| DomainRoute {
            prefix: route.prefix.clone(),
            project_id: route.project,
            environment: route.environment.clone(),
        };
        let routes: Vec<_> = self.routes.iter().map(route).collect();
        (!routes.is_empty()).then(|| DomainShown { routes, redirect_to: self.redirect_to.clone() })
    }
}

impl DomainRecord {
    /// A domain that nobody ever had.
    #[must_use]
    pub fn new(domain: DomainName) -> Self {
        Self { domain, number: 0, holder: None, shows: None, held_off: None, unknown: Unknown::new() }
    }

    /// What the event feed says of it.
    #[must_use]
    pub fn event(&self) -> PointerEvent {
        PointerEvent::Domain { domain: self.domain.clone(), number: self.number, shows: self.shows.clone() }
    }

    /// Whether another team than `team` has it.
    #[must_use]
    pub fn is_anothers(&self, team: TeamId) -> bool {
        self.holder.is_some_and(|holder| holder.team != team)
    }

    /// Until when `team` cannot have it, because another one had it until a moment ago.
    #[must_use]
    pub fn held_off_from(&self, team: TeamId, now: UnixMillis) -> Option<UnixMillis> {
        self.held_off.filter(|held| held.team != team && held.until > now).map(|held| held.until)
    }
}

pub(crate) fn key(domain: &DomainName) -> Key {
    KeyWriter::new(Table::Domain).text(domain.as_str()).finish()
}

/// The beginning of every domain's key.
pub(crate) fn prefix() -> Key {
    KeyWriter::new(Table::Domain).finish()
}

pub(crate) fn claim_key(team: TeamId, domain: &DomainName) -> Key {
    KeyWriter::new(Table::DomainClaim).fixed(team.as_bytes()).text(domain.as_str()).finish()
}

/// The beginning of every claim's key.
pub(crate) fn claims_prefix() -> Key {
    KeyWriter::new(Table::DomainClaim).finish()
}

/// The team that a claim's key begins with.
pub(crate) fn team_in(key: &Key) -> Result<TeamId, MetaError> {
    let team = key.get(1..17).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    team.map(TeamId::from_bytes).ok_or(MetaError::Damaged { what: "key" })
}

pub(crate) fn due_key(at: UnixMillis, domain: &DomainName) -> Key {
    KeyWriter::new(Table::DomainDue).number(at.0).text(domain.as_str()).finish()
}

pub(crate) fn alike_key(domain: &DomainName) -> Key {
    let digest = alike::digest(domain);
    KeyWriter::new(Table::DomainAlike).fixed(digest.as_bytes()).text(domain.as_str()).finish()
}

pub(crate) async fn get(meta: &dyn MetaStore, domain: &DomainName) -> Result<Option<Stored<DomainRecord>>, MetaError> {
    read(meta, key(domain), "domain").await
}

/// The rows of several domains, in their order.
pub(crate) async fn get_all(
    meta: &dyn MetaStore,
    domains: &[DomainName],
) -> Result<Vec<Option<Stored<DomainRecord>>>, MetaError> {
    let keys: Vec<_> = domains.iter().map(key).collect();
    read_all(meta, &keys, "domain").await
}

pub(crate) async fn claim(
    meta: &dyn MetaStore,
    team: TeamId,
    domain: &DomainName,
) -> Result<Option<Stored<ClaimRecord>>, MetaError> {
    read(meta, claim_key(team, domain), "claim of a domain").await
}

/// Up to `limit` claims of a team, by domain.
pub(crate) async fn claims_of(
    meta: &dyn MetaStore,
    team: TeamId,
    limit: usize,
) -> Result<Vec<Stored<ClaimRecord>>, MetaError> {
    let from = KeyWriter::new(Table::DomainClaim).fixed(team.as_bytes()).finish();
    let rows = meta.scan(from.clone(), after_prefix(&from), limit, Order::Ascending).await?;
    rows.iter().map(|(_, item)| decode(item, "claim of a domain")).collect()
}

/// Up to `limit` domains that were to be proven again by `now`, the longest overdue first.
pub(crate) async fn due(meta: &dyn MetaStore, now: UnixMillis, limit: usize) -> Result<Vec<DomainName>, MetaError> {
    let from = KeyWriter::new(Table::DomainDue).finish();
    let to = KeyWriter::new(Table::DomainDue).number(now.0.saturating_add(1)).finish();
    let rows = meta.scan(from, to, limit, Order::Ascending).await?;
    rows.iter().map(|(_, item)| Ok(decode(item, "schedule of domains")?.record)).collect()
}

/// Whether another domain that somebody has looks like this one.
pub(crate) async fn has_alike(meta: &dyn MetaStore, domain: &DomainName) -> Result<bool, MetaError> {
    let digest = alike::digest(domain);
    let from = KeyWriter::new(Table::DomainAlike).fixed(digest.as_bytes()).finish();
    let rows = meta.scan(from.clone(), after_prefix(&from), 2, Order::Ascending).await?;
    let own = alike_key(domain);
    Ok(rows.iter().any(|(key, _)| *key != own))
}

/// Adds to `commit` that a domain is as `after` says from now on: its row, its place in the schedule and among those that
/// look alike, and the event where it shows something else. The commit happens only where it still was as `before`.
pub(crate) fn put(commit: Commit, before: Option<&Stored<DomainRecord>>, mut after: DomainRecord) -> Commit {
    let row = key(&after.domain);
    let check = before.map_or(Check::Absent, |before| Check::Revision(before.revision));
    let before = before.map(|before| &before.record);
    let shows_something_else = before.and_then(|before| before.shows.as_ref()) != after.shows.as_ref();
    if shows_something_else {
        after.number += 1;
    }
    let due = |record: &DomainRecord| record.holder.map(|holder| due_key(holder.due_at, &record.domain));
    let (was_due, is_due) = (before.and_then(due), due(&after));
    let mut commit = commit.check(row.clone(), check).put(row, encode(&after));
    if was_due != is_due {
        if let Some(key) = &was_due {
            commit = commit.delete(key.clone());
        }
        if let Some(key) = &is_due {
            commit = commit.put(key.clone(), encode(&after.domain));
        }
    }
    match (was_due, is_due) {
        (None, Some(_)) => commit = commit.put(alike_key(&after.domain), encode(&after.domain)),
        (Some(_), None) => commit = commit.delete(alike_key(&after.domain)),
        _ => {}
    }
    if shows_something_else { commit.event(event_bytes(&after.event())) } else { commit }
}
