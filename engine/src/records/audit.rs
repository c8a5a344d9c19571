//! The audit log: who did what, in the same commit as what was done.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{KeyWriter, Table, Unknown, decode, encode};
use crate::account::Origin;
use crate::clock::UnixMillis;
use crate::id::{ProjectId, TeamId, TokenId, UserId, random_bytes};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};

/// One thing that was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditRecord {
    /// When.
    pub at: UnixMillis,
    /// Who; nobody who is known where somebody could not sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// What they were called then.
    #[serde(default)]
    pub actor: String,
    /// The token they came with.
    pub credential: Option<TokenId>,
    /// What: `project.create`, `project.change`, `project.delete`, `commit`, `release`, `rollback`, `environment.delete`,
    /// `preview`, `preview.delete`, `image.pin`, `image.unpin`, `token.create`, `token.revoke`, `account.create`,
    /// `account.delete`, `password.change`, `login`, `login.failed`, `logout`, `logout.everywhere`, `invite.create`,
    /// `invite.delete`, `domain.add`, `domain.change`, `domain.verify`, `domain.remove`, `domain.fail`, `domain.end`.
    pub action: String,
    /// To what, in words.
    pub object: String,
    /// In which project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_address: Option<IpAddr>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl AuditRecord {
    /// Something that nobody did who is known.
    pub(crate) fn new(action: &str, object: String, origin: &Origin, at: UnixMillis) -> Self {
        Self {
            at,
            user: None,
            actor: String::new(),
            credential: None,
            action: action.to_owned(),
            object,
            project: None,
            from_address: origin.address,
            request_id: origin.request_id.clone(),
            unknown: Unknown::new(),
        }
    }
}

/// Gives audit rows their numbers.
///
/// Taken in this process and not checked in the store: a shared counter would make unrelated commits of a team conflict.
/// Four random bytes after the number keep rows of two processes apart.
#[derive(Debug)]
pub(crate) struct AuditLog {
    next: AtomicU64,
}

impl AuditLog {
    /// Goes on after the highest number that any team has. It costs two reads a team.
    pub(crate) async fn open(meta: &dyn MetaStore) -> Result<Self, MetaError> {
        let all = KeyWriter::new(Table::Audit).finish();
        let (mut from, end) = (all.clone(), after_prefix(&all));
        let mut highest = 0;
        while let Some((key, _)) = meta.scan(from, end.clone(), 1, Order::Ascending).await?.first() {
            let team = key.get(..TEAM_END).ok_or(MetaError::Damaged { what: "audit key" })?;
            let (team, after) = (Key::copy_from_slice(team), after_prefix(team));
            if let Some((last, _)) = meta.scan(team, after.clone(), 1, Order::Descending).await?.first() {
                highest = highest.max(number_in(last)?);
            }
            from = after;
        }
        Ok(Self { next: AtomicU64::new(highest + 1) })
    }

    /// The key and value of a new row.
    pub(crate) fn row(&self, team: TeamId, record: &AuditRecord) -> (Key, Bytes) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = KeyWriter::new(Table::Audit).fixed(team.as_bytes()).number(number).fixed(&random_bytes::<4>());
        (key.finish(), encode(record))
    }
}

/// Up to `limit` rows of `team` with numbers below `before`, newest first. Where two have one number, which two processes
/// can give, they may be on two pages or not be listed.
pub(crate) async fn before(
    meta: &dyn MetaStore,
    team: TeamId,
    before: u64,
    limit: usize,
) -> Result<Vec<(u64, AuditRecord)>, MetaError> {
    let from = KeyWriter::new(Table::Audit).fixed(team.as_bytes());
    let to = KeyWriter::new(Table::Audit).fixed(team.as_bytes()).number(before);
    let rows = meta.scan(from.finish(), to.finish(), limit, Order::Descending).await?;
    rows.iter().map(|(key, item)| Ok((number_in(key)?, decode(item, "audit row")?.record))).collect()
}

/// Where the team ends in a key, and the number begins.
const TEAM_END: usize = 1 + 16;

fn number_in(key: &Key) -> Result<u64, MetaError> {
    let number = key.get(TEAM_END..TEAM_END + 8).and_then(|number| number.try_into().ok());
    number.map(u64::from_be_bytes).ok_or(MetaError::Damaged { what: "audit key" })
}
