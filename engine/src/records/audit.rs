//! The audit log: who did what, in the same commit as what was done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Table, Unknown, encode};
use crate::clock::UnixMillis;
use crate::id::{TeamId, TokenId, UserId, random_bytes};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use bytes::Bytes;

/// One thing that was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditRecord {
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub user: UserId,
    /// What they were called then.
    pub actor: String,
    /// The token they came with.
    pub credential: Option<TokenId>,
    /// What: `project.create`, `project.change`, `commit`, `release`, `rollback`, `environment.delete`, `preview`,
    /// `preview.delete`, `image.pin`, `image.unpin`.
    pub action: String,
    /// To what, in words.
    pub object: String,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
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
    /// Goes on after the highest number that `team` has.
    pub(crate) async fn open(meta: &dyn MetaStore, team: TeamId) -> Result<Self, MetaError> {
        let prefix = KeyWriter::new(Table::Audit).fixed(team.as_bytes()).finish();
        let last = meta.scan(prefix.clone(), after_prefix(&prefix), 1, Order::Descending).await?;
        let next = match last.first().map(|(key, _)| key.get(17..25)) {
            Some(Some(number)) => {
                u64::from_be_bytes(number.try_into().map_err(|_| MetaError::Damaged { what: "audit key" })?) + 1
            }
            Some(None) => return Err(MetaError::Damaged { what: "audit key" }),
            None => 1,
        };
        Ok(Self { next: AtomicU64::new(next) })
    }

    /// The key and value of a new row.
    pub(crate) fn row(&self, team: TeamId, record: &AuditRecord) -> (Key, Bytes) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = KeyWriter::new(Table::Audit).fixed(team.as_bytes()).number(number).fixed(&random_bytes::<4>());
        (key.finish(), encode(record))
    }
}
