//! Invitations, each under the digest of its secret. The secret itself is nowhere.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, read};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{InviteId, UserId};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};

/// An invitation: who has it may register, once. It goes when it is used.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InviteRecord {
    /// Its id.
    pub id: InviteId,
    /// Who made it.
    pub user: UserId,
    /// What they were called then.
    pub author: String,
    /// The only email that can register with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it admits nobody.
    pub expires_at: UnixMillis,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

pub(crate) fn key(secret: &BlobHash) -> Key {
    KeyWriter::new(Table::Invite).fixed(secret.as_bytes()).finish()
}

pub(crate) async fn get(meta: &dyn MetaStore, secret: &BlobHash) -> Result<Option<Stored<InviteRecord>>, MetaError> {
    read(meta, key(secret), "invitation").await
}

/// Up to `limit` invitations, each with its key, in no order.
pub(crate) async fn all(meta: &dyn MetaStore, limit: usize) -> Result<Vec<(Key, Stored<InviteRecord>)>, MetaError> {
    let from = KeyWriter::new(Table::Invite).finish();
    let rows = meta.scan(from.clone(), after_prefix(&from), limit, Order::Ascending).await?;
    rows.into_iter().map(|(key, item)| Ok((key, decode(&item, "invitation")?))).collect()
}
